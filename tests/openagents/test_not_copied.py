"""What OpenAgents' own network does, and this one on purpose does not. Each test shows both."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.ports import free_port

from .ours import Ours, our_network
from .theirs import Theirs, their_network

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(60)]

BOARD = """
    class BoardMod(BaseMod):
        '''Answers with its version, waits where it is asked to, and notes its end in a file.'''

        @mod_event_handler("board.version.get")
        async def version(self, event):
            return EventResponse(success=True, message="v1")

        @mod_event_handler("board.slow.get")
        async def slow(self, event):
            Path(event.payload["begun"]).touch()
            for _ in range(200):
                if Path(event.payload["go"]).exists():
                    break
                await asyncio.sleep(0.01)
            Path(event.payload["done"]).touch()
            return EventResponse(success=True, message="slow")

        def shutdown(self):
            Path(self.config["ended"]).touch()
            return True
"""


async def join(network: Theirs | Ours, *agents: str) -> dict[str, str]:
    """Register agents; returns their secrets."""
    secrets = {}
    for agent in agents:
        payload = {"agent_id": agent, "metadata": {}, "transport_type": "http"}
        event = {"event_name": "system.register_agent", "source_id": agent, "payload": payload}
        answer = await network.send(event)
        assert answer["success"], answer
        secrets[agent] = answer["data"]["secret"]
    return secrets


def event(agent: str, secret: str, name: str, **more: Any) -> dict[str, Any]:
    return {"event_name": name, "source_id": agent, "secret": secret, **more}


@pytest.fixture
def board(their_mod: Callable[..., str]) -> str:
    return their_mod("board", BOARD)


@pytest.fixture
def settings(tmp_path: Path) -> dict[str, Any]:
    return {"ended": str(tmp_path / "ended")}


class Both:
    """The folders of both networks, and how to start them with one mod."""

    def __init__(self, folder: Path, library: Path) -> None:
        self.folder, self.library = folder, library
        (folder / "ours").mkdir()

    def theirs(self, mods: dict[str, dict[str, Any]], **more: Any) -> Any:
        return their_network(self.folder / "theirs", mods, **more)

    def ours(self, mods: dict[str, dict[str, Any]], **network: Any) -> Any:
        return our_network(self.folder / "ours", mods, mod_paths=[str(self.library)], **network)


@pytest.fixture
def both(tmp_path: Path, library: Path) -> Both:
    return Both(tmp_path, library)


async def test_unload_by_id_removes_the_mod(both: Both, board: str, settings: dict[str, Any]) -> None:
    async with both.theirs({board: settings}) as theirs:
        assert (await theirs.network.unload_mod("board")).success
        assert board in theirs.network.mods  # it is still asked
    async with both.ours({board: settings}) as ours:
        assert (await ours.network.unload_mod("board")).success
        assert ours.network.get_loaded_mods() == {}
        secret = (await join(ours, "alice"))["alice"]
        answer = await ours.send(event("alice", secret, "board.version.get"))
        assert (answer["success"], answer["data"]["error"]) == (False, "unknown_event")


async def test_a_reload_runs_the_edited_source(
    both: Both, their_mod: Callable[..., str], board: str, settings: dict[str, Any]
) -> None:
    edited = BOARD.replace('"v1"', '"v2"')
    async with both.theirs({board: settings}) as theirs:
        secret = (await join(theirs, "alice"))["alice"]
        their_mod("board", edited, board)
        await theirs.network.unload_mod(board)
        await theirs.network.load_mod(board, settings)
        assert (await theirs.send(event("alice", secret, "board.version.get")))["message"] == "v1"
    their_mod("board", BOARD, board)
    async with both.ours({board: settings}) as ours:
        secret = (await join(ours, "alice"))["alice"]
        assert (await ours.send(event("alice", secret, "board.version.get")))["message"] == "v1"
        their_mod("board", edited, board)
        assert (await ours.network.reload_mod("board")).success
        assert (await ours.send(event("alice", secret, "board.version.get")))["message"] == "v2"


async def test_commands_from_outside_need_a_secret(both: Both, board: str, settings: dict[str, Any]) -> None:
    load = {"event_name": "system.mod.load", "source_id": "mallory", "payload": {"mod_path": board, "config": settings}}
    async with both.theirs({}) as theirs:
        theirs.network._register_internal_handlers()  # what starting its transports does
        assert (await theirs.send(load))["success"]
    async with both.ours({}) as ours:
        answer = await ours.send(load)
        assert (answer["success"], answer["data"]["error"]) == (False, "unauthenticated")
        assert ours.network.get_loaded_mods() == {}


async def test_the_id_of_a_live_agent_is_not_taken_over(both: Both) -> None:
    again = {"agent_id": "alice", "metadata": {}, "transport_type": "http", "force_reconnect": True}
    register = {"event_name": "system.register_agent", "source_id": "alice", "payload": again}
    async with both.theirs({}) as theirs:
        await join(theirs, "alice")
        assert (await theirs.send(register))["data"]["secret"]
    async with both.ours({}) as ours:
        secret = (await join(ours, "alice"))["alice"]
        answer = await ours.send(register)
        assert (answer["success"], answer["data"]["error"]) == (False, "id_taken")
        assert (await ours.send(event("alice", secret, "system.heartbeat")))["success"]


async def test_a_repeated_event_gets_the_first_answer(both: Both, board: str, settings: dict[str, Any]) -> None:
    async def twice(network: Theirs | Ours) -> tuple[list[str | None], int]:
        secrets = await join(network, "alice", "bob")
        sent = {"event_id": "once", "destination_id": "agent:bob"}
        answers = [await network.send(event("alice", secrets["alice"], "board.version.get", **sent)) for _ in range(2)]
        return [answer["message"] for answer in answers], len(await network.poll("bob"))

    async with both.theirs({board: settings}) as theirs:
        assert await twice(theirs) == (["v1", "Event board.version.get delivered to destination"], 1)
    async with both.ours({board: settings}) as ours:
        assert await twice(ours) == (["v1", "v1"], 0)


async def test_receivers_never_see_the_secret_of_a_sender(both: Both) -> None:
    async def seen(network: Theirs | Ours) -> tuple[str, str | None]:
        secrets = await join(network, "alice", "bob")
        await network.send(event("alice", secrets["alice"], "some.note.sent", destination_id="agent:bob"))
        (received,) = await network.poll("bob")
        return secrets["alice"], received.get("secret")

    async with both.theirs({}) as theirs:
        secret, received = await seen(theirs)
        assert received == secret
    async with both.ours({}) as ours:
        assert (await seen(ours))[1] is None


async def test_an_event_that_nobody_received_is_a_failure(both: Both) -> None:
    async def lost(network: Theirs | Ours) -> dict[str, Any]:
        secret = (await join(network, "alice"))["alice"]
        return await network.send(event("alice", secret, "some.note.sent", destination_id="agent:zoe"))

    async with both.theirs({}) as theirs:
        assert (await lost(theirs))["success"]
    async with both.ours({}) as ours:
        answer = await lost(ours)
        assert (answer["success"], answer["data"]["error"]) == (False, "no_such_agent")
        assert "zoe" in answer["message"]


async def test_a_mod_that_cannot_bind_costs_no_other_mod(both: Both, their_mod: Callable[..., str]) -> None:
    plain = "class {}Mod(BaseMod): pass"
    first, last = their_mod("first", plain.format("First")), their_mod("last", plain.format("Last"))
    broken = their_mod(
        "broken",
        """
        class BrokenMod(BaseMod):
            def bind_network(self, network):
                raise RuntimeError("no socket left")
        """,
    )
    async with both.theirs({}, configured=[first, broken, last]) as theirs:
        assert list(theirs.network.mods) == [first]  # and nothing but a line in the log
    async with both.ours({first: {}}) as ours:
        refused = await ours.network.load_mod(broken)
        assert not refused.success
        assert "no socket left" in str(refused.message)
        assert (await ours.network.load_mod(last)).success
        states = {mod["mod_id"]: mod["state"] for mod in ours.network.describe_mods()}
        assert {mod for mod, state in states.items() if state == "ready"} == {"first", "last"}


async def test_shutdown_of_the_network_shuts_the_mods_down(both: Both, board: str, settings: dict[str, Any]) -> None:
    ended = Path(settings["ended"])
    async with both.theirs({board: settings}) as theirs:
        await theirs.network.shutdown()
        assert not ended.exists()
        theirs.network.mods.clear()
    async with both.ours({board: settings}):
        assert not ended.exists()
    assert ended.exists()


@pytest.mark.filterwarnings("ignore:coroutine 'BoardMod.shutdown' was never awaited")
async def test_an_async_shutdown_is_awaited(
    both: Both, their_mod: Callable[..., str], settings: dict[str, Any]
) -> None:
    ended = Path(settings["ended"])
    board = their_mod("board", BOARD.replace("def shutdown", "async def shutdown"))
    async with both.theirs({board: settings}) as theirs:
        assert (await theirs.network.unload_mod(board)).success
        gc.collect()
        assert not ended.exists()
    async with both.ours({board: settings}) as ours:
        assert (await ours.network.unload_mod(board)).success
        assert ended.exists()


async def test_unload_waits_for_handlers_in_flight(
    both: Both, board: str, settings: dict[str, Any], tmp_path: Path
) -> None:
    async def unloaded(network: Theirs | Ours, name: str) -> bool:
        """Whether the handler had ended when the unload was done."""
        files = {key: str(tmp_path / f"{name}-{key}") for key in ("begun", "go", "done")}
        secret = (await join(network, "alice"))["alice"]
        asked = asyncio.create_task(network.send(event("alice", secret, "board.slow.get", payload=files)))
        async with asyncio.timeout(10):
            while not Path(files["begun"]).exists():
                await asyncio.sleep(0.002)
        unload = asyncio.create_task(network.network.unload_mod(board))
        asyncio.get_running_loop().call_later(0.05, Path(files["go"]).touch)
        assert (await unload).success
        was_done = Path(files["done"]).exists()
        Path(files["go"]).touch()
        assert (await asked)["message"] == "slow"
        return was_done

    async with both.theirs({board: settings}) as theirs:
        assert not await unloaded(theirs, "theirs")
    async with both.ours({board: settings}) as ours:
        assert await unloaded(ours, "ours")


async def test_one_bad_event_costs_no_other_event_of_an_inbox(both: Both, their_mod: Callable[..., str]) -> None:
    mailer = their_mod(
        "mailer",
        """
        class MailerMod(BaseMod):
            @mod_event_handler("mail.both.send")
            async def send_both(self, event):
                for payload in ({"n": 1}, {"n": object()}):
                    try:
                        await self.send_event(Event(event_name="mail.item.sent", source_id="mailer",
                                                    destination_id="agent:alice", payload=payload))
                    except Exception as error:
                        return EventResponse(success=False, message=f"refused: {error}")
                return EventResponse(success=True)
        """,
    )

    async def polled(network: Theirs | Ours, port: int) -> tuple[bool, list[int], list[dict[str, Any]]]:
        """Whether the mod could send both, and the answers to two polls."""
        secret = (await join(network, "alice"))["alice"]
        sent = await network.send(event("alice", secret, "mail.both.send"))
        who = {"agent_id": "alice", "secret": secret}
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False) as client:
            polls = [await client.get("/api/poll", params=who) for _ in range(2)]
        received = [message["payload"] for poll in polls for message in poll.json().get("messages", ())]
        return sent["success"], [poll.status_code for poll in polls], received

    port = free_port()
    async with both.theirs({mailer: {}}, port=port) as theirs:
        assert await polled(theirs, port) == (True, [500, 200], [])
    async with both.ours({mailer: {}}, port=0) as ours:
        # The mod hears of what it did, and alice gets the other event.
        assert await polled(ours, ours.network.port) == (False, [200, 200], [{"n": 1}])
