"""The rows of the live view: which mods get a new one, what it says, and how much one look reads."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from modvisor.supervisor.calls.counters import ModCounters
from modvisor.supervisor.fleet.figures import rows as room
from modvisor.supervisor.fleet.figures.history import History
from modvisor.supervisor.fleet.figures.rows import ModRows
from modvisor.supervisor.lifecycle import State


class Families:
    splits: dict[str, Any] = {}

    def split_of(self, mod_id: str) -> None:
        return None


def mod(mod_id: str, **more: Any) -> Any:
    """A mod as its rows read it."""
    limits = SimpleNamespace(cpu=0.5, memory=1000)
    incarnation = SimpleNamespace(pid=7, number=1, uptime=5.0)
    caller = SimpleNamespace(in_flight_count=0, depth=0)
    given = {
        "mod_id": mod_id, "config": SimpleNamespace(path=f"./{mod_id}", limits=limits), "manifest": None, "audience": None,
        "incarnation": incarnation, "state": State.READY, "counters": ModCounters(), "last_error": None,
        "keepers": [SimpleNamespace(caller=caller, incarnation=incarnation, quarantined=None)], **more,
    }  # fmt: skip
    return SimpleNamespace(**given)


class Network:
    def __init__(self, *mods: Any) -> None:
        self.mods = list(mods)
        self.samples: dict[int, Any] = {}
        self.seq = 0
        monitor: Any = SimpleNamespace(of=lambda pid: self.samples.get(pid))
        families: Any = Families()
        self.rows = ModRows(lambda: self.mods, families, monitor, History())

    def look(self, seconds: float | None = 1.0) -> list[str]:
        """Look once; return the ids of the mods whose rows have changed."""
        self.seq += 1
        list(self.rows.look(self.seq, seconds))
        return [mod_id for mod_id, row in self.rows.rows.items() if row.seq == self.seq]

    def __getitem__(self, mod_id: str) -> dict[str, Any]:
        return self.rows.rows[mod_id].data


def test_only_a_mod_that_has_changed_gets_a_new_row() -> None:
    wiki, shop = mod("wiki"), mod("shop")
    network = Network(wiki, shop)
    assert network.look() == ["wiki", "shop"]
    assert network.look() == []
    wiki.counters.events_in += 10
    wiki.counters.latency.add(0.002)
    assert network.look(2.0) == ["wiki"]
    assert (network["wiki"]["rate"], network["wiki"]["p50"]) == (5.0, 2.0)
    assert network.look() == ["wiki"], "the rate is zero again"
    assert network["wiki"]["rate"] == 0
    assert network.look() == []
    network.samples[7] = SimpleNamespace(cpu_percent=12.34, rss=500)
    assert network.look() == ["wiki", "shop"]
    assert (network["shop"]["cpu"], network["shop"]["rss"]) == (12.3, 500)
    assert (network["shop"]["cpu_limit"], network["shop"]["memory_limit"]) == (50.0, 1000)


def test_a_look_that_comes_soon_leaves_the_rates_as_they_are() -> None:
    wiki = mod("wiki")
    network = Network(wiki)
    network.look()
    wiki.counters.events_in = 10
    network.look(1.0)
    wiki.counters.events_in = 12
    network.look(None)
    assert network["wiki"]["rate"] == 10
    network.look(1.0)
    assert network["wiki"]["rate"] == 2


def test_a_mod_that_is_loaded_anew_counts_from_zero() -> None:
    wiki = mod("wiki")
    wiki.counters.events_in = 100
    network = Network(wiki)
    assert network.look() == ["wiki"]
    assert network["wiki"]["rate"] == 0, "nothing is known of the time before"
    network.mods = [mod("wiki")]
    network.mods[0].counters.events_in = 5
    network.look(1.0)
    assert network["wiki"]["rate"] == 5


@pytest.mark.parametrize(
    ("state", "quarantined", "problem"),
    [(State.READY, None, None), (State.BACKOFF, None, "it ended"), (State.QUARANTINED, "too often", "too often")],
)
def test_a_problem_is_shown_while_there_is_one(state: State, quarantined: str | None, problem: str | None) -> None:
    wiki = mod("wiki", state=state, last_error="it ended")
    wiki.keepers[0].quarantined = quarantined
    network = Network(wiki)
    network.look()
    assert (network["wiki"]["state"], network["wiki"]["problem"]) == (str(state), problem)


def test_a_new_process_has_a_new_time_of_its_start() -> None:
    wiki = mod("wiki")
    network = Network(wiki)
    network.look()
    first = network["wiki"]["since"]
    wiki.counters.failed += 1
    network.look()
    assert network["wiki"]["since"] == first
    wiki.incarnation = SimpleNamespace(pid=8, number=2, uptime=0.0)
    network.look()
    assert network["wiki"]["since"] > first
    wiki.incarnation = None
    network.look()
    assert (network["wiki"]["since"], network["wiki"]["pid"]) == (None, None)


def test_quantiles_are_read_in_turns_and_all_have_their_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "LATENCIES_PER_LOOK", 2)
    mods = [mod(f"m{number}") for number in range(5)]
    network = Network(*mods)
    network.look()
    read: set[str] = set()
    for _ in range(4):
        for each in mods:
            each.counters.events_in += 1
            each.counters.latency.add(0.001)
        before = {each.mod_id: network.rows.rows[each.mod_id].answers for each in mods}
        network.look()
        fresh = {mod_id for mod_id, count in before.items() if network.rows.rows[mod_id].answers != count}
        assert len(fresh) <= 2
        read |= fresh
    assert read == {each.mod_id for each in mods}


def test_a_look_at_many_gives_the_loop_turns() -> None:
    network = Network(*(mod(f"m{number}") for number in range(250)))
    assert len(list(network.rows.look(1, 1.0))) == 2
