"""Each attack that `default` stops is stopped by each single one of its means, with the others off."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache

import pytest

from .table import ALONE, DEFAULT, ROOT, STOPPED, TABLE
from .test_attacks import USERS_HERE
from .world import Results, World

pytestmark = pytest.mark.slow

SANDBOXES = {
    "processes": {"profile": DEFAULT, "files": "all"},
    "files": {"profile": DEFAULT, "processes": "shared"},
    "privileges": {"profile": DEFAULT, "files": "all", "processes": "shared"},
}
"""What is left of `default` when one part is on. `privileges` cannot be turned off."""


@pytest.fixture(scope="module")
def result() -> Iterator[Callable[[str, str], Results]]:
    worlds: dict[str, World] = {}

    @cache
    def made(part: str, user: str) -> Results:
        if user not in worlds:
            worlds[user] = World(user, is_warm=True)
        worlds[user].load(f"only-{part}", sandbox=SANDBOXES[part])
        return worlds[user].attacked(f"only-{part}", list(TABLE), is_hidden=part == "files")

    yield made
    for world in worlds.values():
        world.close()


@pytest.mark.parametrize("user", USERS_HERE)
@pytest.mark.parametrize(("name", "part"), [(name, part) for name, parts in ALONE.items() for part in parts])
def test_one_part_is_enough(name: str, part: str, user: str, result: Callable[[str, str], Results]) -> None:
    got = result(part, user)[name]["got"]
    if part == "files" and user == ROOT:  # who shares processes with root sees what they see, by their root folders
        got = {way: what for way, what in got.items() if "by the root of the sibling" not in way}
    assert got == {}


def test_every_attack_that_default_stops_has_its_parts() -> None:
    stopped = {name for name, row in TABLE.items() if all(row.cells[DEFAULT, user] == STOPPED for user in USERS_HERE)}
    assert set(ALONE) == stopped
    assert {part for parts in ALONE.values() for part in parts} == set(SANDBOXES)
