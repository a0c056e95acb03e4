"""A fault in one mod of OpenAgents, while the other twelve go on; an edited local mod keeps its state."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import until

from .ours import Agent, Ours, our_network
from .script import MODS

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(120)]

QUESTIONS: dict[str, tuple[str, dict[str, Any]]] = {
    "wiki": ("wiki.pages.list", {}),
    "project": ("project.list", {}),
    "messaging": ("thread.channels.list", {"action": "list_channels"}),
    "forum": ("forum.topics.list", {"query_type": "list_topics"}),
    "documents": ("document.list", {}),
    "feed": ("feed.posts.list", {}),
    "shared_artifact": ("shared_artifact.list", {}),
    "shared_cache": ("shared_cache.create", {"value": "v"}),
    "agent_discovery": ("discovery.agents.list", {}),
    "task_delegation": ("task.list", {}),
    "simple_messaging": ("simple_messaging.file", {"action": "get_file", "file_id": "none"}),
    "basic_test": ("test.ping", {}),
}
"""A question for each mod that answers any: the default workspace has no handler."""

FAULTY = """
    class FaultyMod(BaseMod):
        @mod_event_handler("faulty.exit.now")
        async def leave(self, event):
            os._exit(3)

        @mod_event_handler("faulty.block.now")
        async def block(self, event):
            time.sleep(600)

        @mod_event_handler("faulty.eat.now")
        async def eat(self, event):
            taken = []
            while True:
                taken.append(bytearray(10_000_000))

        @mod_event_handler("faulty.state.get")
        async def state(self, event):
            return EventResponse(success=True, message="well")
"""


class Asking:
    """Asks the mods, and notes who did not answer."""

    def __init__(self, alice: Agent) -> None:
        self._alice = alice
        self.rounds = 0
        self.failed: list[Any] = []

    async def ask_all(self) -> None:
        answers = await asyncio.gather(*(self._alice.ask(*question) for question in QUESTIONS.values()))
        self.rounds += 1
        self.failed += [answer for answer in answers if not answer["success"]]

    async def until_asked_enough(self, done: asyncio.Event) -> None:
        while not done.is_set() or self.rounds < 3:
            await self.ask_all()


@pytest.mark.parametrize(
    ("event", "limits"),
    [
        ("faulty.exit.now", {}),
        pytest.param("faulty.block.now", {"hang_timeout": 0.5}, marks=pytest.mark.slow),
        pytest.param("faulty.eat.now", {"memory": "200MB"}, marks=pytest.mark.slow),
    ],
)
async def test_twelve_answer_while_one_has_a_fault(
    event: str, limits: dict[str, Any], their_mod: Callable[..., str], library: Path, tmp_path: Path
) -> None:
    faulty = their_mod("faulty", FAULTY)
    async with our_network(tmp_path, {**MODS, faulty: {}}, mod_paths=[str(library)], limits={faulty: limits}) as ours:
        alice, done = await ours.agent("alice"), asyncio.Event()
        asked = Asking(alice)
        asking = asyncio.create_task(asked.until_asked_enough(done))
        answer = await alice.ask(event)
        assert not answer["success"]
        await until(lambda: _is_ready(ours, "faulty"), 30)
        assert (await alice.ask("faulty.state.get"))["message"] == "well"
        done.set()
        await asking
        assert asked.failed == []
        mods = ours.network.get_network_stats()["mods"]
        restarts = {mod_id: mod["restarts"] for mod_id, mod in mods.items()}
        assert {mod for mod, count in restarts.items() if count} <= {"faulty"}


def _is_ready(network: Ours, mod_id: str) -> bool:
    return network.network.get_loaded_mods()[mod_id]["state"] == "ready"


async def test_a_reload_of_an_edited_local_mod_picks_the_edit_up_and_keeps_the_state(
    tmp_path: Path, write_mod: Callable[..., str]
) -> None:
    source = """
        from openagents.models.event_response import EventResponse
        from openagents.sdk.base_mod import BaseMod, mod_event_handler

        class TillMod(BaseMod):
            def __init__(self, mod_name="till"):
                super().__init__(mod_name)
                self.coins = []

            @mod_event_handler("till.coin.put")
            async def put(self, event):
                self.coins.append(event.payload["coin"])
                return EventResponse(success=True, message="v1", data={"coins": self.coins})
    """
    path = write_mod("till", source)
    async with our_network(tmp_path, {path: {}}) as ours:
        alice = await ours.agent("alice")
        assert (await alice.ask("till.coin.put", {"coin": 1}))["data"] == {"coins": [1]}
        write_mod("till", source.replace('"v1"', '"v2"'))
        assert (await ours.network.reload_mod("till")).success
        answer = await alice.ask("till.coin.put", {"coin": 2})
        assert (answer["message"], answer["data"]) == ("v2", {"coins": [1, 2]})
