"""However a worker begins, its mod gets no more: as a fresh interpreter, as a spare, as one of several workers."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from functools import cache

import pytest

from .table import DEFAULT, STOPPED, STRICT, TABLE, USER
from .test_attacks import USERS_HERE
from .world import Results, World

pytestmark = pytest.mark.slow

STARTS = {
    "exec": {"launch": "exec", "sandbox": DEFAULT},
    "exec strict": {"launch": "exec", "sandbox": STRICT},
    "spare": {},
    "workers": {"workers": 2, "sandbox": DEFAULT},
}


@pytest.fixture(scope="module")
def result() -> Iterator[Callable[[str, str], Results]]:
    worlds: dict[str, World] = {}

    @cache
    def made(start: str, user: str) -> Results:
        if user not in worlds:
            worlds[user] = World(user, network=", spares: 1", is_warm=True)
        mod_id = f"started-by-{start.replace(' ', '-')}"
        worlds[user].load(mod_id, **STARTS[start])
        return worlds[user].attacked(mod_id, list(TABLE), is_hidden=True)

    yield made
    for world in worlds.values():
        world.close()


@pytest.mark.parametrize("user", USERS_HERE)
@pytest.mark.parametrize("start", STARTS)
def test_it_gets_no_more(start: str, user: str, result: Callable[[str, str], Results]) -> None:
    profile = STRICT if STRICT in start else DEFAULT
    stopped = {name for name, row in TABLE.items() if row.cells[profile, user] == STOPPED}
    assert {name: found["got"] for name, found in result(start, user).items() if name in stopped and found["got"]} == {}


@pytest.mark.skipif(
    os.geteuid() != 0, reason="it needs a user of its own: if the cell failed, nothing of the user would be left"
)
@pytest.mark.parametrize("profile", [DEFAULT, STRICT])
def test_a_mod_that_kills_all_it_can_kills_itself(profile: str) -> None:
    world = World(USER, is_warm=True)
    try:
        world.load("killer", sandbox=profile)
        pids = [world.known[who] for who in ("supervisor", "guardian", "sibling", "sibling_warden")]
        event = {"event_name": "attack.kill", "source_id": "agent:alice", "destination_id": "mod:killer"}
        answer = world.ask(event={**event, "payload": {"pids": pids}})
        assert not answer["success"]
        assert world.sent("victim.where", "mod:victim")["data"]["sibling"] == world.known["sibling"], "it never ended"
        assert world.ask(do="load_mod", args=["./attacker"], more={"mod_id": "next"})["success"]
    finally:
        world.close()
