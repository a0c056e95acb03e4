"""What a stranger can take up by registering: agents, bytes of metadata, guesses of a password."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modvisor.ipc.event import Event
from modvisor.supervisor.agents import Refusal, RefusalLog
from modvisor.supervisor.agents.rights import guesses as guessing
from modvisor.supervisor.agents.rights import refusal_log as refusing
from modvisor.supervisor.agents.rights.guesses import Guesses
from modvisor.supervisor.config import AgentsConfig, GroupConfig

from .registries import Registry, password

pytestmark = pytest.mark.anyio

FRIENDS = {
    "friends": GroupConfig("friends", password_hash=password("sesame")),
    "readers": GroupConfig("readers", password_hash=password("books")),
    "open": GroupConfig("open"),
}


def refused(registry: Registry, agent_id: str, **how: Any) -> str | None:
    """Return the code of the refusal to register, None if the agent was registered."""
    try:
        registry.register(agent_id, how.pop("metadata", {}), **how)
    except Refusal as refusal:
        return str(refusal.code)
    return None


# -- quotas


@pytest.mark.parametrize("how", [{}, {"trusted": True}, {"password_hash": password("sesame")}])
def test_metadata_is_bounded_whoever_registers(how: dict[str, Any]) -> None:
    registry = Registry(FRIENDS)
    assert refused(registry, "alice", metadata={"x": "x" * 900_000}, **how) == "too_large"
    assert refused(registry, "alice", metadata={"x": "x" * 16_000}, **how) is None
    agent, _ = registry.register("bob", {})
    with pytest.raises(Refusal, match=r"metadata: 16\d\d\d bytes, more than the 16384 of 'agents\.metadata_bytes'"):
        registry.register("bob", {"x": "x" * 16_400}, trusted=True)
    assert registry.get("bob") is agent


def test_guests_are_counted_per_address() -> None:
    registry = Registry(guests_per_address=2)
    for agent_id in ("a", "b"):
        assert refused(registry, agent_id, address="192.0.2.1") is None
    assert refused(registry, "c", address="192.0.2.1") == "too_many"
    assert refused(registry, "c", address="192.0.2.2") is None
    assert refused(registry, "d") is None, "an address that is not counted"
    registry.unregister("a")
    assert refused(registry, "e", address="192.0.2.1") is None
    assert refused(registry, "f", address="192.0.2.1") == "too_many"


@pytest.mark.parametrize(
    ("how", "is_guest"),
    [
        ({}, True),
        ({"group": "open"}, True),
        ({"group": "open", "password_hash": "anything"}, True),
        ({"group": "friends", "password_hash": password("sesame")}, False),
        ({"password_hash": password("sesame")}, False),
        ({"trusted": True}, False),
        ({"manages": frozenset({"agents"})}, False),
    ],
)
def test_who_gives_no_password_is_a_guest(how: dict[str, Any], is_guest: bool) -> None:
    registry = Registry(FRIENDS)
    agent, secret = registry.register("alice", {}, address="192.0.2.1", **how)
    assert (agent.is_guest, agent.address) == (is_guest, "192.0.2.1" if is_guest else None)
    back, _ = registry.register("alice", {}, secret=secret, address="192.0.2.9")
    assert (back.is_guest, back.address) == (is_guest, "192.0.2.1" if is_guest else None), "it stays what it was"
    proven, _ = registry.register("alice", {}, trusted=True)
    assert (proven.is_guest, len(registry._guests)) == (False, 0)


def test_a_share_is_kept_for_agents_with_a_password() -> None:
    registry = Registry(FRIENDS, max_agents=4)
    assert [refused(registry, f"guest{n}", address=f"192.0.2.{n}") for n in range(3)] == [None, None, "overloaded"]
    sesame = {"password_hash": password("sesame"), "address": "192.0.2.1"}
    assert [refused(registry, f"friend{n}", **sesame) for n in range(3)] == [None, None, "overloaded"]


def test_guests_may_fill_a_network_that_has_no_passwords() -> None:
    registry = Registry({"open": GroupConfig("open")}, max_agents=2)
    assert [refused(registry, f"guest{n}") for n in range(3)] == [None, None, "overloaded"]


def test_a_thousand_agents_with_a_password_come_from_one_address() -> None:
    registry = Registry(FRIENDS, guests_per_address=1)
    for number in range(1000):
        registry.register(f"a{number}", {}, password_hash=password("sesame"), address="192.0.2.1")
    assert refused(registry, "guest", address="192.0.2.1") is None


def test_a_guest_that_never_came_back_is_removed_soon() -> None:
    registry = Registry(FRIENDS, guest_return=60.0, expire_after=300.0)
    _, secret = registry.register("back", {}, address="192.0.2.1")
    registry.register("gone", {}, address="192.0.2.1")
    registry.register("friend", {}, password_hash=password("sesame"), address="192.0.2.1")
    registry.register("inside", {}, trusted=True)
    registry.time = 10.0
    assert registry.authenticate("back", secret) is not None
    assert registry.changes[-1] == ("returned", {"agent_id": "back"})
    registry.authenticate("back", secret)
    assert [kind for kind, _ in registry.changes].count("returned") == 1
    registry.time = 61.0
    assert registry.expired() == ["gone"]
    registry.use_groups(FRIENDS, AgentsConfig(guest_return=None))
    assert registry.expired() == []


def test_guests_are_counted_and_known_after_a_restart() -> None:
    old = Registry(guests_per_address=1)
    agent, _ = old.register("alice", {}, address="192.0.2.1")
    registry = Registry(guests_per_address=1)
    registry.restore([agent], {})
    assert refused(registry, "bob", address="192.0.2.1") == "too_many"
    registry.time = 61.0
    assert registry.expired() == ["alice"], "it has not come back"


def test_guests_cannot_use_up_the_channels() -> None:
    registry = Registry(FRIENDS, max_channels=8, channels_per_agent=3)

    def joins(agent_id: str, channel: str) -> str | None:
        try:
            registry.join(channel, agent_id)
        except Refusal as refusal:
            return str(refusal.code)
        return None

    for n, address in enumerate(("192.0.2.1", "192.0.2.1", "192.0.2.2")):
        registry.register(f"guest{n}", {}, address=address)
    registry.register("friend", {}, password_hash=password("sesame"), address="192.0.2.1")
    assert [joins("guest0", f"c{n}") for n in range(2)] == [None] * 2
    assert [joins("guest1", f"c{n}") for n in range(2)] == [None, "too_many"], "one address is as one agent"
    assert [joins("guest2", f"d{n}") for n in range(3)] == [None, None, "overloaded"], "half is kept for members"
    assert joins("guest2", "c0") is None, "a channel that is there"
    assert [joins("friend", f"e{n}") for n in range(3)] == [None] * 3
    registry.leave("c1", "guest0")
    assert joins("guest1", "c1") == "overloaded"


# -- guesses


def test_wrong_passwords_make_an_address_wait_longer_each_time() -> None:
    registry = Registry(FRIENDS, wrong_passwords=2, password_delay=1.0)
    wrong = {"group": "friends", "password_hash": password("wrong"), "address": "192.0.2.1"}
    right = {**wrong, "password_hash": password("sesame")}
    assert [refused(registry, "eve", **wrong) for _ in range(4)] == [
        "unauthenticated",
        "unauthenticated",
        "unauthenticated",
        "too_many",
    ]
    with pytest.raises(Refusal, match=r"too many wrong passwords from 192\.0\.2\.1; try again in 1 s") as caught:
        registry.register("eve", {}, **right)
    assert caught.value.details == {"retry_after": 1}, "a right guess is no better than a wrong one"
    assert refused(registry, "bob", **{**right, "address": "192.0.2.2"}) is None, "nobody else is locked out"
    assert refused(registry, "carol", group="readers", password_hash=password("books"), address="192.0.2.1") is None
    assert refused(registry, "dan", **{**right, "address": None}) is None
    assert refused(registry, "guest", address="192.0.2.1") is None, "without a password"
    registry.time = 1.0
    assert refused(registry, "eve", **wrong) == "unauthenticated"
    registry.time = 2.9
    assert refused(registry, "eve", **right) == "too_many"
    registry.time = 3.0
    assert refused(registry, "eve", **right) is None


@pytest.mark.parametrize("named", [True, False])
def test_no_way_to_guess_passes_the_count_by(named: bool) -> None:
    """A password is also compared when it is given without a group, and for a live id."""
    registry = Registry(FRIENDS, wrong_passwords=0)
    registry.register("member", {}, password_hash=password("books"))
    guess = {"password_hash": password("wrong"), "address": "192.0.2.1"}
    if named:
        assert refused(registry, "member", group="open", **guess) == "id_taken"
    else:
        assert refused(registry, "new", **guess) == "unauthenticated"
    right = {"password_hash": password("books"), "address": "192.0.2.1"}
    assert refused(registry, "new", group="readers", **right) == "too_many"
    assert refused(registry, "new", **right) == "too_many"
    assert refused(registry, "member", group="open", **right) == "too_many"


def test_two_thousand_guesses_are_a_few() -> None:
    registry, codes = Registry(FRIENDS), list[str | None]()
    for number in range(2000):
        registry.time = number * 3 / 2000
        codes.append(refused(registry, f"eve{number}", password_hash=password(str(number)), address="192.0.2.1"))
    assert (codes.count("unauthenticated"), codes.count("too_many")) == (7, 1993)


@given(st.lists(st.tuples(st.sampled_from(["1", "2"]), st.integers(0, 40)), max_size=30))
def test_the_wait_doubles_up_to_the_longest_and_no_address_makes_another_one_wait(steps: list[tuple[str, int]]) -> None:
    now = 0.0
    config = AgentsConfig(wrong_passwords=1, password_delay=1.0, password_delay_max=16.0)
    guesses = Guesses(lambda: config, lambda: now)
    delays = [0.0, 0.0, 1.0, 2.0, 4.0, 8.0, *[16.0] * 30]
    counts, last = {"1": 0, "2": 0}, {"1": 0.0, "2": 0.0}
    for address, pause in steps:
        now += pause
        if now - last[address] > delays[counts[address]] + 16.0:
            counts[address] = 0
        wait = guesses.wait(address, ["g"])
        assert wait == max(0.0, last[address] + delays[counts[address]] - now)
        assert guesses.wait(address, ["other"]) == 0.0
        if not wait:
            guesses.wrong(address, ["g"])
            counts[address], last[address] = counts[address] + 1, now


def test_old_guesses_are_forgotten_and_only_so_many_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guessing, "MAX_PAIRS", 3)
    now = 0.0
    guesses = Guesses(lambda: AgentsConfig(wrong_passwords=0, password_delay_max=10.0), lambda: now)
    for number in range(5):
        guesses.wrong(f"192.0.2.{number}", ["g"])
    assert len(guesses) == 3
    assert (guesses.wait("192.0.2.0", ["g"]), guesses.wait("192.0.2.4", ["g"])) == (0.0, 1.0)
    now = 12.0
    assert guesses.wait("192.0.2.4", ["g"]) == 0.0
    assert len(guesses) == 2


# -- the log


async def test_refusals_are_summed_per_minute_kind_and_address(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(refusing, "MAX_KINDS", 3)
    log = RefusalLog()
    for _ in range(2080):
        log.note_event(Event("system.register_agent", "agent:eve"), "wrong password", "unauthenticated", "192.0.2.1")
    log.note("forbidden", "192.0.2.1", "refused another thing")
    for number in range(50):
        log.note("forbidden", f"198.51.100.{number}", f"refused {number}")
    told = [record.getMessage() for record in caplog.records if record.name == "modvisor.refused"]
    assert told[:2] == [
        "refused system.register_agent from agent:eve at 192.0.2.1: wrong password",
        "refused another thing",
    ]
    assert len(told) == 4, "one line for each, and one for all beyond the bound"
    caplog.clear()
    log.tell()
    assert [record.getMessage() for record in caplog.records] == [
        "2079 more requests from 192.0.2.1 within a minute were refused (unauthenticated); the first: " + told[0],
        "48 more requests from other addresses within a minute were refused (forbidden); the first: refused 1",
    ]
    caplog.clear()
    log.tell()
    log.note("forbidden", "192.0.2.1", "refused once more")
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
