"""Short tasks that one task of a group holds."""

from __future__ import annotations

import asyncio

import anyio
import pytest

from modvisor.supervisor.calls.crew import Crew

pytestmark = pytest.mark.anyio


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_a_group_ends_after_the_last_task_of_a_crew_that_was_dismissed() -> None:
    done: list[int] = []

    async def work(number: int) -> None:
        await asyncio.sleep(0.001)
        done.append(number)

    async with anyio.create_task_group() as tasks:
        crew = Crew(tasks)
        for number in range(100):
            crew.start(work, number)
        crew.dismiss()
    assert sorted(done) == list(range(100))


async def test_what_is_started_after_a_dismissal_is_held_again() -> None:
    ended = asyncio.Event()

    async def wait() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            ended.set()

    async with anyio.create_task_group() as tasks:
        crew = Crew(tasks)
        crew.dismiss()
        crew.start(asyncio.sleep, 0)
        await settle()
        crew.dismiss()
        crew.start(wait)
        await settle()
        tasks.cancel_scope.cancel()
    assert ended.is_set()


async def test_a_cancelled_group_cancels_them_and_waits_for_their_end() -> None:
    ended: list[int] = []

    async def work(number: int) -> None:
        try:
            await asyncio.sleep(60)
        finally:
            with anyio.CancelScope(shield=True):
                await asyncio.sleep(0.001)
            ended.append(number)

    async with anyio.create_task_group() as tasks:
        crew = Crew(tasks)
        for number in range(10):
            crew.start(work, number)
        await settle()
        tasks.cancel_scope.cancel()
    assert sorted(ended) == list(range(10))


async def test_one_that_is_started_just_before_the_group_is_cancelled_is_not_left_behind() -> None:
    started: list[asyncio.Task[None] | None] = []

    async def work() -> None:
        started.append(asyncio.current_task())
        await asyncio.sleep(60)

    before = asyncio.all_tasks()
    async with anyio.create_task_group() as tasks:
        Crew(tasks).start(work)
        tasks.cancel_scope.cancel()
    assert all(task is not None and task.done() for task in started)
    assert asyncio.all_tasks() == before


async def test_one_that_fails_ends_the_group() -> None:
    others: list[str] = []

    async def wait() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            others.append("ended")

    async def fail() -> None:
        raise ValueError("broken")

    async def run() -> None:
        async with anyio.create_task_group() as tasks:
            crew = Crew(tasks)
            crew.start(wait)
            crew.start(fail)
            await asyncio.sleep(60)

    with pytest.raises(BaseExceptionGroup) as raised:
        await run()
    assert raised.group_contains(ValueError, match="broken")
    assert others == ["ended"]
