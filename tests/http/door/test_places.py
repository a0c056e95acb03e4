"""Which connection has to go when there are too many."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from modvisor.supervisor.http.door.places import CHOSEN, Places, Rank


@dataclass(eq=False)
class Held:
    rank: Rank
    holder: str
    is_waiting: bool = True
    looks: int = 0

    def waits(self, now: float) -> bool:
        self.looks += 1
        return self.is_waiting


def filled(*groups: tuple[Rank, str, int]) -> Places[Held]:
    places = Places[Held]()
    for rank, holder, number in groups:
        for _ in range(number):
            places.enter(Held(rank, holder))
    return places


def gone(places: Places[Held], number: int, most: int = 10) -> list[str]:
    names: list[str] = []
    for _ in range(number):
        connection = places.to_go(0.0, most)
        assert connection is not None
        places.leave(connection)
        names.append(connection.holder)
    return names


def test_an_agent_with_more_than_an_address_may_goes_first_then_the_fattest_address_then_agents() -> None:
    places = filled(
        (Rank.STRANGER, "few", 2), (Rank.STRANGER, "many", 30), (Rank.AGENT, "greedy", 12), (Rank.AGENT, "alice", 3),
        (Rank.MEMBER, "member", 100), (Rank.KNOWN, "operator", 5),
    )  # fmt: skip
    left = gone(places, 47)
    assert left[:12] == ["greedy"] * 12
    assert left[12:42] == ["many"] * 30
    assert left[42:44] == ["few"] * 2
    assert left[44:] == ["alice"] * 3
    assert places.to_go(0.0, 10) is None
    assert len(places) == 105


def test_the_oldest_that_waits_goes_and_who_is_served_stays() -> None:
    places = filled((Rank.STRANGER, "a", 5))
    served, second, *_ = places
    served.is_waiting = False
    assert places.to_go(0.0, 10) is second
    for each in places:
        each.is_waiting = False
    assert places.to_go(0.0, 10) is None


def test_what_was_chosen_is_looked_at_again_before_it_goes() -> None:
    places = filled((Rank.STRANGER, "a", 4))
    first, second, third, fourth = places
    assert places.to_go(0.0, 10) is first
    places.leave(first)
    second.is_waiting = False
    places.leave(third)
    third.rank = Rank.MEMBER
    places.enter(third)
    assert places.to_go(0.0, 10) is fourth


def test_finding_the_one_to_go_does_not_look_at_all_connections() -> None:
    places = filled((Rank.STRANGER, "a", 4000))
    all_of_them = list(places)
    gone(places, 100)
    assert sum(each.looks for each in all_of_them) <= 2 * 100 + 2 * CHOSEN


def test_many_addresses_with_one_connection_each_are_chosen_together() -> None:
    count: Callable[[], int] = iter(range(10_000)).__next__
    places = filled(*((Rank.STRANGER, f"address {count()}", 1) for _ in range(1000)))
    assert gone(places, 40) == [f"address {number}" for number in range(40)]


def test_a_connection_that_is_not_there_may_leave_and_one_that_is_may_enter() -> None:
    places = filled((Rank.STRANGER, "a", 1))
    [here] = places
    places.enter(here)
    assert len(places) == 1
    places.leave(here)
    places.leave(here)
    assert (len(places), list(places), places.by_strangers()) == (0, [], [])
