"""The points of the sparklines: their order, their number, and what stands where there was no process."""

from __future__ import annotations

from modvisor.supervisor.fleet.figures.history import POINTS, History


def test_points_come_in_their_order_and_the_oldest_go_first() -> None:
    history = History()
    for number in range(POINTS + 5):
        history.take([("wiki", float(number), number * 1000)])
    cpu, rss = history.of("wiki")
    assert history.number == POINTS + 5
    assert cpu == [float(number) for number in range(5, POINTS + 5)]
    assert rss == [number * 1000 for number in range(5, POINTS + 5)]


def test_a_young_mod_has_few_points_and_one_without_a_process_has_none_there() -> None:
    history = History()
    history.take([("old", 1.0, 10)])
    for used in ((2.0, 20), (None, None), (3.26, 30)):
        history.take([("old", 1.0, 10), ("young", *used)])
    assert history.of("young") == ([2.0, None, 3.3], [20, None, 30])
    assert history.of("nothing") == ([], [])


def test_a_mod_that_is_gone_is_forgotten() -> None:
    history = History()
    history.take([("wiki", 1.0, 10), ("shop", 1.0, 10)])
    history.take([("wiki", 1.0, 10)])
    assert history.of("shop") == ([], [])
    history.take([("wiki", 1.0, 10), ("shop", 2.0, 20)])
    assert history.of("shop") == ([2.0], [20])
