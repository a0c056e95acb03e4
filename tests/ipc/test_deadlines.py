"""Many deadlines and one timer, in virtual time: each deadline is kept."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modvisor.ipc.deadlines import Deadlines
from tests.supervisor.virtual_time import VirtualTimeLoop

PASS = 0.001


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    loop = VirtualTimeLoop()
    yield loop
    loop.close()


@given(st.lists(st.tuples(st.floats(0, 100), st.none() | st.floats(0, 100)), min_size=1, max_size=30))
def test_every_future_times_out_at_its_deadline_unless_it_is_done_before(
    plans: list[tuple[float, float | None]],
) -> None:
    """Keep every deadline.

    Each plan has the seconds to its deadline and the seconds to its answer (None: never).
    """

    async def waits(deadlines: Deadlines, seconds: float, answer: float | None) -> None:
        loop = asyncio.get_running_loop()
        begin, future = loop.time(), loop.create_future()
        deadlines.add(future, begin + seconds)
        if answer is not None:
            loop.call_later(answer, lambda: future.done() or future.set_result(None))
        try:
            await future
            assert answer is not None
            assert answer <= seconds + PASS + 1e-6
            assert loop.time() == pytest.approx(begin + answer)
        except TimeoutError:
            assert answer is None or answer >= seconds - 1e-6
            assert begin + seconds <= loop.time() <= begin + seconds + PASS + 1e-6
        finally:
            deadlines.remove(future)

    async def main() -> None:
        deadlines = Deadlines(asyncio.get_running_loop())
        await asyncio.gather(*(waits(deadlines, *plan) for plan in plans))

    loop = VirtualTimeLoop()
    try:
        loop.run_until_complete(main())
    finally:
        loop.close()


def test_a_later_deadline_does_not_put_off_an_earlier_one(loop: asyncio.AbstractEventLoop) -> None:
    async def main() -> None:
        deadlines = Deadlines(loop)
        late, early = loop.create_future(), loop.create_future()
        deadlines.add(late, loop.time() + 30)
        deadlines.add(early, loop.time() + 1)
        begin = loop.time()
        with pytest.raises(TimeoutError):
            await early
        assert loop.time() == pytest.approx(begin + 1, abs=2 * PASS)
        assert not late.done()
        with pytest.raises(TimeoutError):
            await late
        assert loop.time() == pytest.approx(begin + 30, abs=2 * PASS)

    loop.run_until_complete(main())


def test_nothing_rings_after_the_end(loop: asyncio.AbstractEventLoop) -> None:
    async def main() -> None:
        deadlines = Deadlines(loop)
        future = loop.create_future()
        deadlines.add(future, loop.time() + 1)
        deadlines.close()
        await asyncio.sleep(10)
        assert not future.done()

    loop.run_until_complete(main())
