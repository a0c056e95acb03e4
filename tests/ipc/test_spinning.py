"""Spinning: only while something is expected, and only as long as it pays."""

from __future__ import annotations

import asyncio

import pytest

from modvisor.ipc import spinning
from modvisor.ipc.spinning import Spinner

pytestmark = pytest.mark.anyio

LONG = 60.0  # seconds: no machine is slow enough to let it run out


@pytest.fixture(autouse=True)
def two_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spinning, "can_spin", lambda: True)
    monkeypatch.setattr(spinning, "_CROWDED", 10**9)


async def asleep(spinner: Spinner) -> None:
    while spinner.is_awake:
        await asyncio.sleep(0)


async def chance(spinner: Spinner, *, comes: bool) -> bool:
    """Expect one thing, which comes or not. Return whether the spinner stayed awake for it."""
    spinner.expect()
    awake = spinner.is_awake
    if comes:
        spinner.came()
    await asleep(spinner)
    return awake


async def test_it_stays_awake_until_what_it_expects_has_come() -> None:
    spinner = Spinner(LONG)
    assert not spinner.is_awake
    spinner.expect()
    for _ in range(10):
        await asyncio.sleep(0)
        assert spinner.is_awake
    spinner.came()
    await asleep(spinner)


async def test_it_falls_asleep_by_itself_when_nothing_comes() -> None:
    spinner = Spinner(0.0)
    spinner.expect()
    await asleep(spinner)


async def test_what_comes_always_is_always_waited_for() -> None:
    spinner = Spinner(LONG)
    assert all([await chance(spinner, comes=True) for _ in range(500)])


async def test_what_never_comes_in_time_is_hardly_waited_for_any_more() -> None:
    spinner = Spinner(0.0)
    tried = [await chance(spinner, comes=False) for _ in range(3000)]
    assert tried[0]
    assert 0 < sum(tried[500:]) < 25, "tried now and then: things may have changed"


async def test_it_trusts_again_when_it_pays_again() -> None:
    spinner = Spinner(0.0)
    for _ in range(1000):
        await chance(spinner, comes=False)
    tried = [await chance(spinner, comes=True) for _ in range(3000)]
    assert all(tried[1000:])


async def test_it_stops_where_somebody_else_wants_the_core(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spinning, "_CROWDED", -1)  # as if another process preempted us all the time
    spinner = Spinner(LONG)
    tried = [await chance(spinner, comes=True) for _ in range(1000)]
    assert sum(tried) < 1000


async def test_one_core_alone_is_for_the_other_side(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spinning, "can_spin", lambda: False)
    spinner = Spinner(LONG)
    spinner.expect()
    assert not spinner.is_awake
