"""An agent whose connection breaks, whose network stops, or whose place is taken."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from modvisor.supervisor import AgentNetwork
from modvisor_client import AgentClient, Event, errors
from tests.conftest import until
from tests.http.serving import TALKER, Served, shared_network

from .cable import Cable, cable_to

pytestmark = pytest.mark.anyio

COUNTER = """
    import asyncio
    from modvisor.mods import BaseMod, EventResponse, mod_event_handler

    class Counter(BaseMod):
        version = "1.0"

        def initialize(self):
            self.calls, self.gate = 0, asyncio.Event()
            return True

        @mod_event_handler("count.slowly")
        async def slowly(self, event):
            self.calls += 1
            await self.gate.wait()
            return EventResponse(True, data={"calls": self.calls})

        @mod_event_handler("count.open")
        async def open(self, event):
            self.gate.set()
            return EventResponse(True, data={"calls": self.calls})
"""


@pytest.fixture(scope="module")
async def served_by_all(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Served]:
    folder = tmp_path_factory.mktemp("network")
    async with shared_network(folder, {"talker": TALKER, "counter": COUNTER}, http={"ws_ping": 0.2}) as served:
        yield served


@pytest.fixture
async def served(served_by_all: Served) -> AsyncIterator[Served]:
    yield served_by_all
    await served_by_all.forget_agents()


@pytest.fixture
async def cable(served: Served) -> AsyncIterator[Cable]:
    async with cable_to(served.network.port or 0) as cable:
        yield cable


def agent(port: int | None, agent_id: str, **more: Any) -> AgentClient:
    return AgentClient(f"http://127.0.0.1:{port}", agent_id, **more)


async def test_a_lost_connection_is_resumed_and_nothing_is_lost_or_repeated(served: Served, cable: Cable) -> None:
    events = 300
    async with agent(served.network.port, "ann") as ann, agent(cable.port, "bob", window=16) as bob:
        got: list[int] = []
        mail = bob.events("test.count")

        async def cut_now_and_then() -> None:
            for most in range(30, events, 60):
                await until(lambda most=most: len(got) >= most)
                await cable.cut()

        async def send() -> None:
            for i in range(events):
                await ann.send("test.count", {"i": i}, to="bob")

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(cut_now_and_then)
            tasks.start_soon(send)
            while len(got) < events:
                got.append((await mail.next(20)).payload["i"])
        assert got == [*range(events)]
        await bob.send("test.ping")
        with pytest.raises(TimeoutError):
            await mail.next(0.01)
        assert cable.plugged == 6


async def test_a_send_in_flight_over_a_lost_connection_is_handled_once(served: Served, cable: Cable) -> None:
    async with agent(served.network.port, "ann") as ann, agent(cable.port, "bob") as bob:
        answers: list[Any] = []

        async def ask() -> None:
            answers.append(await bob.request("count.slowly"))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(ask)
            await until(lambda: served.network.get_network_stats()["mods"]["counter"]["traffic"]["in_flight"] == 1)
            await cable.cut()
            await until(lambda: cable.plugged == 2 and bob.is_connected)
            await ann.request("count.open")
        assert answers == [{"calls": 1}]


async def test_sends_wait_for_the_connection(served: Served, cable: Cable) -> None:
    async with agent(cable.port, "bob") as bob:
        cable.target = 1  # nobody answers there
        await cable.cut()
        await until(lambda: not bob.is_connected)
        with pytest.raises(errors.Timeout, match=r"did not answer within 0\.02 s, since there is no connection: "):
            await bob._ask("send", {"event": {"event_name": "test.ping"}}, 0.02)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(bob.request, "test.ping")
            await anyio.lowlevel.checkpoint()
            cable.target = served.network.port or 0


async def test_an_agent_that_unregisters_without_a_connection_leaves_over_the_next_one(
    served: Served, cable: Cable, tmp_path: Path
) -> None:
    async with agent(cable.port, "bob", secret_file=tmp_path / "secret") as bob:
        cable.target = 1  # nobody answers there
        await cable.cut()
        await until(lambda: not bob.is_connected)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(bob.unregister)
            tries = cable.tries
            await until(lambda: cable.tries > tries)
            assert (tmp_path / "secret").exists()
            assert "bob" in served.network.agent_directory()
            cable.target = served.network.port or 0
        assert not (tmp_path / "secret").exists()
        assert not served.network.agent_directory()


async def test_an_agent_whose_goodbye_lost_its_answer_has_left(served: Served, cable: Cable, tmp_path: Path) -> None:
    async with agent(cable.port, "bob", secret_file=tmp_path / "secret") as bob:
        cable.hold_answers()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(bob.unregister)
            await until(lambda: not served.network.agent_directory())
            assert (tmp_path / "secret").exists()
            await cable.cut()
            cable.let_go()
        assert not (tmp_path / "secret").exists()
        assert not served.network.agent_directory(), "it is not registered again"
        with pytest.raises(errors.Closed, match="bob has left"):
            await bob.send("test.ping")


async def test_a_goodbye_that_did_not_reach_the_network_fails_and_the_secret_is_kept(
    served: Served, cable: Cable, tmp_path: Path
) -> None:
    async with agent(cable.port, "bob", secret_file=tmp_path / "secret", reconnect=False) as bob:
        cable.hold()
        async with anyio.create_task_group() as tasks:

            async def leave() -> None:
                with pytest.raises(errors.Unreachable):
                    await bob.unregister()

            tasks.start_soon(leave)
            await anyio.lowlevel.checkpoint()
            await cable.cut()
        assert (tmp_path / "secret").exists()
        assert "bob" in served.network.agent_directory()


@pytest.fixture
async def strict(make_network: Callable[..., AgentNetwork]) -> AgentNetwork:
    """A network that takes one event of its guests in a hundred seconds."""
    network = make_network({"port": 0}, agents={"guests": {"quota": {"events_per_second": 0.01}}})
    await network.initialize()
    return network


async def use_up_quota(bob: AgentClient) -> None:
    while (await bob.send("test.ping")).error != "too_many":
        pass


async def test_a_goodbye_that_is_refused_leaves_agent_and_secret_as_they_were(
    strict: AgentNetwork, tmp_path: Path
) -> None:
    async with (
        cable_to(strict.port or 0) as cable,
        agent(cable.port, "bob", secret_file=tmp_path / "secret") as bob,
    ):
        await use_up_quota(bob)
        with pytest.raises(errors.TooMany):
            await bob.unregister()
        assert (tmp_path / "secret").exists()
        assert "bob" in strict.agent_directory()
        await cable.cut()
        await until(lambda: cable.plugged == 2 and bob.is_connected)


async def test_a_refused_goodbye_at_the_end_still_ends_the_tasks_of_the_client(strict: AgentNetwork) -> None:
    before = asyncio.all_tasks()
    with pytest.raises(errors.TooMany):
        async with agent(strict.port, "bob") as bob:
            await use_up_quota(bob)
    assert asyncio.all_tasks() - before - {asyncio.current_task()} == set()
    with pytest.raises(errors.Closed):
        await bob.send("test.ping")


async def test_a_newer_connection_takes_over(served: Served) -> None:
    async with agent(served.network.port, "bob") as old, agent(served.network.port, "ann") as ann:
        mail, secret = old.events(), old.secret
        async with agent(served.network.port, "bob", secret=secret) as new:
            with pytest.raises(errors.TakenOver):
                await mail.next(5)
            with pytest.raises(errors.TakenOver):
                await old.run()
            with pytest.raises(errors.TakenOver):
                await old.send("test.ping")
            await ann.send("chat.one", to="bob")
            assert (await new.events().next(5)).event_name == "chat.one"


async def test_dead_connection_is_noticed(served: Served, cable: Cable) -> None:
    """It stands, and no byte comes through: not even an answer to a ping."""
    async with agent(served.network.port, "ann") as ann, agent(cable.port, "bob") as bob:
        mail = bob.events()
        cable.hold()
        await ann.send("chat.one", to="bob")
        await until(lambda: not bob.is_connected)
        cable.let_go()
        assert (await mail.next(5)).event_name == "chat.one"
        assert cable.plugged > 1


async def test_a_quiet_connection_is_kept(served: Served, cable: Cable) -> None:
    async with agent(cable.port, "bob") as bob:
        before = cable.passed
        await until(lambda: cable.passed >= before + 6)  # pings and pongs
        assert (await bob.send("test.ping")).success
        assert cable.plugged == 1


async def test_without_reconnect_the_first_loss_is_the_end(served: Served, cable: Cable) -> None:
    async with agent(cable.port, "bob", reconnect=False) as bob:
        await cable.cut()
        with pytest.raises(errors.Unreachable, match="the connection was lost"):
            await bob.run()


async def test_a_removed_agent_registers_again(served: Served) -> None:
    async with agent(served.network.port, "bob") as bob:
        first = bob.secret
        assert (await served.network.unregister_agent("bob")).success
        await until(lambda: bob.is_connected and bob.secret != first)
        assert (await bob.send("test.ping")).success


async def test_a_restarted_network_is_joined_again(
    make_network: Callable[..., AgentNetwork], write_mod: Callable[..., str], tmp_path: Path
) -> None:
    keys: dict[str, Any] = {"mods": [write_mod("talker", TALKER)]}
    first = make_network({"port": 0}, **keys)
    await first.initialize()
    seen: list[str] = []
    bob = agent(first.port, "bob", secret_file=tmp_path / "secret")

    @bob.on("chat.*")
    async def read(event: Event) -> None:
        seen.append(event.event_name)

    async with bob, agent(first.port, "ann") as ann:
        await ann.send("chat.one", to="bob")
        await until(lambda: seen == ["chat.one"])
        secret, port = bob.secret, first.port
        await first.shutdown()
        second = make_network({"port": port}, **keys)
        await second.initialize()
        assert (await ann.request("test.ping", {"i": 1}))["i"] == 1
        assert (await bob.request("test.ping", {"i": 2}))["i"] == 2
        await ann.send("chat.two", to="bob")
        await until(lambda: seen == ["chat.one", "chat.two"])
        assert bob.secret == secret
