"""The client without an event loop, and on the other loop of anyio, against the network itself."""

from __future__ import annotations

import queue
from collections.abc import AsyncIterator
from typing import Any

import anyio
import anyio.to_thread
import pytest

import modvisor_client
from modvisor_client import errors
from modvisor_client.sync import AgentClient
from tests.http.serving import TALKER, Served, shared_network

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
async def served(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Served]:
    async with shared_network(tmp_path_factory.mktemp("network"), {"talker": TALKER}) as served:
        yield served


async def in_a_thread(program: Any, served: Served) -> None:
    with anyio.fail_after(20):
        await anyio.to_thread.run_sync(program, f"http://127.0.0.1:{served.network.port}")


async def test_a_program_without_a_loop_sends_and_receives(served: Served) -> None:
    def program(url: str) -> None:
        with AgentClient(url, "ann") as ann, AgentClient(url, "bob") as bob:
            assert ann.is_connected
            assert ann.send("test.ping", {"i": 1}).data["i"] == 1
            assert ann.request("test.ping", {"i": 2})["i"] == 2
            with pytest.raises(errors.NoSuchMod):
                ann.request("test.ping", to="mod:nobody")
            mail = bob.events("chat.*")
            for text in ("hello", "again"):
                ann.send("chat.message", {"text": text}, to="bob")
            seen = []
            for event in mail:
                seen.append(event.text)
                if len(seen) == 2:
                    break
            assert seen == ["hello", "again"]
            with pytest.raises(TimeoutError):
                mail.next(0.01)
            bob.join("general")
            assert ann.members("general") == ["bob"]
            assert sorted(found["agent_id"] for found in ann.agents()) == ["ann", "bob"]
        assert list(mail) == []
        with pytest.raises(errors.Closed, match="use it inside 'with"):
            ann.send("test.ping")

    await in_a_thread(program, served)
    assert not served.network.agent_directory()


async def test_handlers_of_a_program_without_a_loop_may_ask_and_answer(served: Served) -> None:
    def program(url: str) -> None:
        bob, heard = AgentClient(url, "bob"), queue.SimpleQueue[str]()

        @bob.on("math.add")
        def add(event: modvisor_client.Event) -> Any:
            heard.put(bob.request("test.ping", {"i": 5})["from"])
            return sum(event.payload["of"])

        with bob, AgentClient(url, "ann") as ann:
            assert ann.request("math.add", {"of": [1, 2, 3]}, to="bob") == 6
            assert heard.get(timeout=5) == "bob"

            @ann.on("late.handler")
            def late(event: modvisor_client.Event) -> str:
                return "late"

            assert bob.request("late.handler", to="ann") == "late"

    await in_a_thread(program, served)


async def test_what_is_wrong_is_told_where_it_is_written(served: Served) -> None:
    with pytest.raises(errors.BadUse, match="agent_id"):
        AgentClient("http://127.0.0.1", "not an id")
    with pytest.raises(TypeError, match="colour"):
        AgentClient("http://127.0.0.1", "ann", colour="red")


async def test_the_client_runs_on_trio(served: Served) -> None:
    async def use(url: str) -> None:
        async with modvisor_client.AgentClient(url, "ann") as ann, modvisor_client.AgentClient(url, "bob") as bob:

            @bob.on("math.*")
            async def add(event: modvisor_client.Event) -> Any:
                return sum(event.payload["of"])

            mail = bob.events("chat.*")
            assert await ann.request("math.add", {"of": [1, 2]}, to="bob") == 3
            await ann.send("chat.message", {"text": "x" * 1_200_000}, to="bob")
            assert len((await mail.next(10)).payload["text"]) == 1_200_000
            assert (await ann.request("test.ping", {"i": 1}))["i"] == 1

    await in_a_thread(lambda url: anyio.run(use, url, backend="trio"), served)
    assert not served.network.agent_directory()
