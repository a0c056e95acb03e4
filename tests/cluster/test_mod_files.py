"""Files of a mod in a cluster: they move with the mod, and an older holder changes none of them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from modvisor.ipc.errors import Code, ModvisorError
from modvisor.supervisor.cluster.kept.journal import ClusterJournal
from modvisor.supervisor.cluster.kept.mod_files import ClusterModFiles
from modvisor.supervisor.cluster.link import Link, NoQuorum
from modvisor.supervisor.config import JournalConfig
from modvisor.supervisor.journal import JournalFiles
from tests.conftest import until
from tests.processes.test_mod_files import FILING, done

from .conftest import Linked
from .networks import Nodes, homes, name_for, nodes
from .servers import Servers

__all__ = ["nodes"]
pytestmark = [pytest.mark.anyio, pytest.mark.timeout(60)]


async def test_files_are_there_on_the_node_that_a_mod_moves_to(nodes: Nodes, write_mod: Callable[..., str]) -> None:
    mod = name_for("a", "b")
    mods = [{"path": write_mod(mod, FILING)}, {"path": write_mod("all", FILING), "placement": {"copies": "all"}}]
    a, b = nodes("a", mods), nodes("b", mods)
    await asyncio.gather(a.initialize(), b.initialize())
    await until(lambda: homes(b).get(mod) == "a" and homes(a).get(mod) == "a", 10)
    large = bytes(range(256)) * 1200
    await done(a, "put", "large", large, mod=mod)
    await done(b, "put", "päper/1", b"1", mod=mod)
    await done(a, "put", "here", b"a", mod="all")
    assert await done(b, "list", mod="all") == [], "each node has its own"
    await a.shutdown()
    await until(lambda: homes(b).get(mod) == "b", 10)
    assert await done(b, "list", mod=mod) == ["large", "päper/1"]
    assert await done(b, "get", "large", mod=mod) == large
    assert await done(b, "drop", "large", mod=mod) is True
    assert await done(b, "get", "large", mod=mod) is None


class Holder:
    """What a node keeps of the files of mod `wiki`, which it holds with a token."""

    def __init__(self, link: Link, folder: Path, token: int, **config: Any) -> None:
        limits = JournalConfig(**config)
        self.journal = ClusterJournal(folder / f"{link.node}.db", limits, link, lambda _: token)
        local = JournalFiles(self.journal, limits)
        self.files = ClusterModFiles(link, self.journal.log, lambda: self.journal.checkpoints.files, local, limits)


async def test_an_older_holder_changes_no_file(servers: Servers, linked: Linked, tmp_path: Path) -> None:
    old, new = Holder(await linked(servers, "a"), tmp_path, 7), Holder(await linked(servers, "b"), tmp_path, 9)
    await old.journal.join()
    await old.files.put("wiki", "page", b"old")
    await new.journal.join()
    assert await new.files.get("wiki", "page") == b"old"
    for change in (old.files.put("wiki", "page", b"late"), old.files.drop("wiki", "page")):
        with pytest.raises(ModvisorError, match="runs on another node by now") as refused:
            await change
        assert refused.value.code == Code.MOD_AWAY
    await new.files.put("wiki", "page", b"new")
    assert await new.files.get("wiki", "page") == b"new"
    await asyncio.gather(old.journal.leave(), new.journal.leave())


async def test_limits_hold_for_the_next_holder_and_nothing_former_stays(
    servers: Servers, linked: Linked, tmp_path: Path
) -> None:
    limits = {"mod_files_bytes": 3000, "mod_files": 2}
    link = await linked(servers, "a")
    old, new = Holder(link, tmp_path, 1, **limits), Holder(await linked(servers, "b"), tmp_path, 2, **limits)
    await old.journal.join()
    for _ in range(3):
        await old.files.put("wiki", "a", bytes(2000))
    await new.journal.join()
    with pytest.raises(ModvisorError, match=r"take 2000 bytes, and with 1001 more .* \(journal.mod_files_bytes\)"):
        await new.files.put("wiki", "b", bytes(1001))
    await new.files.put("wiki", "b", bytes(1000))
    with pytest.raises(ModvisorError, match="mod wiki has 2 files"):
        await new.files.put("wiki", "c", b"")
    await new.files.drop("wiki", "a")
    stored = await link.js.object_store(link.names.stored("files"))
    assert [each.size for each in await stored.list()] == [1000 + 17]
    await asyncio.gather(old.journal.leave(), new.journal.leave())


async def test_a_swap_is_written_down_when_the_servers_answer_again(
    servers: Servers, linked: Linked, tmp_path: Path
) -> None:
    old, new = Holder(await linked(servers, "a"), tmp_path, 1), Holder(await linked(servers, "b"), tmp_path, 2)
    await old.journal.join()
    await old.journal.save_checkpoint("wiki", "1", "state")
    await old.journal.open_for("wiki", "wiki2")
    fenced = (await old.journal.log.of("wiki")).fenced
    newest = fenced.newest

    async def fails_at_first(subject: str) -> Any:
        fenced.newest = newest  # type: ignore[method-assign]
        raise NoQuorum("the servers did not answer in time")

    fenced.newest = fails_at_first  # type: ignore[method-assign]
    old.journal.hand_on("wiki", "wiki2")
    await old.journal.handed_on("wiki", "wiki2")
    await new.journal.join()
    assert await new.journal.checkpoint("wiki") is None
    checkpoint = await new.journal.checkpoint("wiki2")
    assert checkpoint is not None
    assert checkpoint.state == "state"
    await asyncio.gather(old.journal.leave(), new.journal.leave())


async def test_a_swap_for_another_id_gives_the_files_to_the_successor(
    servers: Servers, linked: Linked, tmp_path: Path
) -> None:
    old, new = Holder(await linked(servers, "a"), tmp_path, 1), Holder(await linked(servers, "b"), tmp_path, 2)
    await old.journal.join()
    await old.files.put("wiki", "page", b"1")
    await old.journal.open_for("wiki", "wiki2")
    old.journal.hand_on("wiki", "wiki2")
    assert await old.files.get("wiki2", "page") == b"1", "at once"
    late = asyncio.create_task(old.files.put("wiki2", "page", b"2"))
    await old.journal.handed_on("wiki", "wiki2")
    await late
    await new.journal.join()
    assert [await new.files.list(mod_id) for mod_id in ("wiki", "wiki2")] == [[], ["page"]]
    assert await new.files.get("wiki2", "page") == b"2"
    await asyncio.gather(old.journal.leave(), new.journal.leave())
