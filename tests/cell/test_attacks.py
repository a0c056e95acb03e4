"""The table of attacks: each cell is one attack under one profile, as root or as a user (see `table`)."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from functools import cache

import pytest

from .mods.attacker.wire import FORGERIES
from .table import BARE, DEFAULT, OFF, OPEN, STOPPED, STRICT, TABLE, USERS
from .world import Results, World

PROFILES = (OFF, DEFAULT, STRICT)

MISTAKES = ("AttributeError", "KeyError", "NameError", "TypeError", "IndexError")
"""Why a way fails that is not written well."""

FAST = (DEFAULT, STRICT)
"""What `make test` tries. That attacks work where nothing stops them, the slow tests show."""

REPLACED = "reads_secret_files_that_were_replaced"

MARKS = {
    "reads_the_network_file": "network",
    "reads_the_env_file": "sibling",
    "reads_a_siblings_storage": "sibling",
    "reads_a_siblings_log": "log",
    "reads_a_siblings_memory": "sibling",
    "reads_the_supervisors_memory": "memory",
    "reads_the_supervisors_variables": "environ",
    "reads_the_users_files": "private",
    "sends_datagrams_and_dns": "service",
    "reaches_other_services_sockets": "service",
}
"""What each way must have got, if it got anything: the secret of that kind."""


@pytest.fixture(scope="module")
def result() -> Iterator[Callable[[str, str], tuple[World, Results]]]:
    """All attacks of a profile and a user are made at once, when the first test asks for one of them."""
    worlds: dict[tuple[str, bool], World] = {}

    @cache
    def made(profile: str, user: str) -> tuple[World, Results]:
        of = user, profile in FAST
        if of not in worlds:
            worlds[of] = World(user, is_warm=profile in FAST)
        world, names = worlds[of], list(TABLE)
        if profile == BARE:
            return world, world.attacked_bare([name for name in names if name not in FORGERIES])
        world.load(f"attacker-{profile}", sandbox=profile)
        results = world.attacked(f"attacker-{profile}", names, is_hidden=profile != OFF)
        world.replace_files()
        return world, results | world.attacked(f"attacker-{profile}", [REPLACED])

    yield made
    for world in worlds.values():
        world.close()


USERS_HERE = USERS if os.geteuid() == 0 else USERS[1:]  # only root can run a network as root

CELLS = [
    pytest.param(name, profile, user, marks=[] if profile in FAST else [pytest.mark.slow])
    for name in TABLE
    for profile in (BARE, *PROFILES)
    for user in USERS_HERE
    if profile != BARE or name not in FORGERIES  # a process without a network has no pipe to forge messages on
]


@pytest.mark.parametrize(("name", "profile", "user"), CELLS)
def test_attack(name: str, profile: str, user: str, result: Callable[[str, str], tuple[World, Results]]) -> None:
    world, results = result(profile, user)
    found = results[name]
    if (expected := TABLE[name].cells[profile, user]) == STOPPED:
        assert found["got"] == {}
        assert found["failed"], "nothing was tried"
        assert not [why for why in found["failed"].values() if why.startswith(MISTAKES)]
    elif expected == OPEN:
        assert found["got"], found["failed"]
    if name in MARKS:
        assert all(world.secrets[MARKS[name]] in got for got in found["got"].values()), found["got"]


@pytest.mark.parametrize("user", USERS_HERE)
def test_the_network_lives_on(user: str, result: Callable[[str, str], tuple[World, Results]]) -> None:
    assert result(DEFAULT, user)[0].is_alive()
