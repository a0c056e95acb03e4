"""Files that mods keep with the network (`context.files`): they outlive the mod and the network, within limits."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from modvisor.ipc.errors import Code
from modvisor.supervisor import AgentNetwork, Event, EventResponse

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(60)]

FILING = """
    from modvisor.ipc.errors import RequestFailed
    from modvisor.mods import BaseMod, EventResponse, mod_event_handler

    class Filing(BaseMod):
        @mod_event_handler("file.do")
        async def do(self, event):
            try:
                done = await getattr(self.context.files, event.payload["do"])(*event.payload["args"])
            except RequestFailed as error:
                return EventResponse.failure(error.code, str(error))
            return EventResponse(True, data={"done": done})
"""

Do = Callable[..., Any]


async def ask(
    network: AgentNetwork, do: str, *args: Any, mod: str = "filing", source: str = "agent:a"
) -> EventResponse:
    return await network.process_event(Event("file.do", source, f"mod:{mod}", payload={"do": do, "args": args}))


async def done(network: AgentNetwork, do: str, *args: Any, **more: Any) -> Any:
    response = await ask(network, do, *args, **more)
    assert response.success, response.message
    return response.data["done"]


async def test_files_outlive_a_reload_a_crash_an_unload_and_the_network(
    make_network: Callable[..., AgentNetwork], write_mod: Callable[..., str], tmp_path: Path
) -> None:
    path = write_mod("filing", FILING)
    network = make_network(mods=[{"path": path, "workers": 2}])
    await network.initialize()
    for number in range(4):  # of sources that have different workers
        await done(network, "put", f"notes/{number}", bytes([number]), source=f"agent:{number}")
    await done(network, "put", "notes/0", b"new")
    assert (await network.reload_mod("filing")).success
    assert (await network.restart_mod("filing")).success
    assert await done(network, "list", "notes/") == [f"notes/{number}" for number in range(4)]
    assert await done(network, "drop", "notes/3") is True
    assert await done(network, "drop", "notes/3") is False
    await network.unload_mod("filing")
    await network.backup(tmp_path / "copy.db")
    await network.shutdown()
    (tmp_path / "state" / "network.db").unlink()
    (tmp_path / "copy.db").rename(tmp_path / "state" / "network.db")
    again = make_network(mods=[{"path": path}, {"path": write_mod("other", FILING)}])
    await again.initialize()
    assert await done(again, "get", "notes/0") == b"new"
    assert await done(again, "get", "notes/3") is None
    assert await done(again, "list", mod="other") == [], "another mod has files of its own"


async def test_what_is_over_a_limit_is_refused_and_the_former_file_stays(
    make_network: Callable[..., AgentNetwork], write_mod: Callable[..., str]
) -> None:
    limits = {"file_bytes": 2000, "mod_files_bytes": 3000, "mod_files": 3}
    network = make_network(mods=[{"path": write_mod("filing", FILING)}], journal=limits)
    await network.initialize()
    await done(network, "put", "a", b"a" * 1500)
    for refused, code, why in (
        (
            ("put", "a", b"b" * 2001),
            Code.TOO_LARGE,
            "'a' of mod filing takes 2001 bytes, more than the 2000 of journal.file_bytes",
        ),
        (
            ("put", "b", b"b" * 1501),
            Code.STORAGE_FULL,
            "with 1501 more they would be over the limit of 3000 (journal.mod_files_bytes)",
        ),
        (("put", "", b""), Code.INVALID_EVENT, "the name of a file must be text that can be printed, got ''"),
        (("get", "x" * 201), Code.INVALID_EVENT, "takes 201 bytes, more than the 200"),
    ):
        response = await ask(network, *refused)
        assert (response.error, response.success) == (code, False)
        assert why in str(response.message)
    assert await done(network, "get", "a") == b"a" * 1500
    await done(network, "put", "a", b"a" * 2000)
    await done(network, "put", "b", b"")
    await done(network, "put", "c", b"")
    full = await ask(network, "put", "d", b"")
    assert (full.error, "mod filing has 3 files" in str(full.message)) == (Code.STORAGE_FULL, True)
