"""Handlers begun at once end without a task or go on in one, and notice no difference."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Coroutine
from typing import Any

import pytest

from modvisor.worker.eager import Starter

pytestmark = pytest.mark.anyio

WHO = contextvars.ContextVar("WHO", default="nobody")


class Stage:
    """Starts work as the pipe does: from the loop, outside of any task."""

    def __init__(self) -> None:
        self.starter = Starter()
        self.said: list[Any] = []

    async def start(self, *works: Coroutine[Any, Any, None]) -> list[asyncio.Task[None] | None]:
        tasks: asyncio.Future[list[asyncio.Task[None] | None]] = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_soon(lambda: tasks.set_result([self.starter.start(work) for work in works]))
        return await tasks


@pytest.fixture
async def stage() -> Stage:
    stage = Stage()
    await asyncio.sleep(0)  # its first task has begun to wait for work
    return stage


async def test_work_that_never_waits_ends_at_once_and_costs_no_task(stage: Stage) -> None:
    async def work(number: int) -> None:
        stage.said.append((number, asyncio.current_task()))

    before = asyncio.all_tasks()
    assert await stage.start(*map(work, range(50))) == [None] * 50
    numbers, tasks = zip(*stage.said, strict=True)
    assert numbers == tuple(range(50))
    assert set(tasks) < before, "they all ran in the one task that was waiting"


async def test_work_that_waits_goes_on_in_the_task_it_began_in(stage: Stage) -> None:
    release = asyncio.Event()

    async def work() -> None:
        stage.said.append(asyncio.current_task())
        await asyncio.sleep(0)
        stage.said.append(asyncio.current_task())
        await release.wait()
        stage.said.append(asyncio.current_task())

    (task,) = await stage.start(work())
    assert task is not None
    assert not task.done()
    release.set()
    await task
    assert stage.said == [task] * 3


async def test_each_has_its_own_task_and_context_however_many_wait(stage: Stage) -> None:
    release = asyncio.Event()

    async def work(name: str) -> None:
        assert WHO.get() == "nobody"
        WHO.set(name)
        await release.wait()
        stage.said.append((WHO.get(), asyncio.current_task()))

    async def short(name: str) -> None:
        assert WHO.get() == "nobody"
        WHO.set(name)

    tasks = await stage.start(work("a"), short("b"), work("c"), short("d"), work("e"))
    release.set()
    await asyncio.gather(*(task for task in tasks if task is not None))
    names, ran_in = zip(*stage.said, strict=True)
    assert sorted(names) == ["a", "c", "e"]
    assert len(set(ran_in)) == 3
    assert WHO.get() == "nobody"


async def test_timeouts_and_task_groups_work_from_the_first_line_on(stage: Stage) -> None:
    async def work() -> None:
        try:
            async with asyncio.timeout(0.001):
                await asyncio.Event().wait()
        except TimeoutError:
            stage.said.append("timed out")
        async with asyncio.TaskGroup() as group:
            group.create_task(asyncio.sleep(0))
        stage.said.append("grouped")

    (task,) = await stage.start(work())
    assert task is not None
    await task
    assert stage.said == ["timed out", "grouped"]


async def test_cancelled_before_its_task_has_run_again_it_still_cleans_up(stage: Stage) -> None:
    async def work() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            await asyncio.sleep(0)
            stage.said.append("cleaned up")
            raise

    def begin_and_cancel() -> None:
        task = stage.starter.start(work())
        assert task is not None
        task.cancel()
        begun.set_result(task)

    begun: asyncio.Future[asyncio.Task[None]] = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_soon(begin_and_cancel)
    task = await begun
    with pytest.raises(asyncio.CancelledError):
        await task
    assert stage.said == ["cleaned up"]


@pytest.mark.parametrize("waits", [True, False])
async def test_work_that_cancels_its_own_task_is_cancelled_where_it_waits_and_harms_nobody(
    stage: Stage, waits: bool
) -> None:
    async def rude() -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        if waits:
            try:
                await asyncio.sleep(0)
            except asyncio.CancelledError:
                stage.said.append("cancelled")
                raise

    async def polite() -> None:
        await asyncio.sleep(0)
        stage.said.append("done")

    first, second = await stage.start(rude(), polite())
    for task in (first, second):
        if task is not None:
            await asyncio.wait([task])
    assert stage.said.count("done") == 1
    assert stage.said.count("cancelled") == waits
    (again,) = await stage.start(polite())
    assert again is not None
    await again


async def test_what_was_called_for_before_goes_first_and_order_is_kept(stage: Stage) -> None:
    async def work(number: int) -> None:
        stage.said.append(number)

    def begin() -> None:
        assert stage.starter.start(work(0)) is None
        waiting.cancel()
        stage.starter.defer()
        begun.set_result([stage.starter.start(work(number)) for number in (1, 2)])

    async def wait() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            stage.said.append("cancelled")

    waiting = asyncio.create_task(wait())
    await asyncio.sleep(0)
    begun: asyncio.Future[list[asyncio.Task[None] | None]] = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_soon(begin)
    await asyncio.gather(*(task for task in await begun if task is not None))
    assert stage.said == [0, "cancelled", 1, 2]


async def test_what_is_thrown_out_of_a_wait_can_be_caught_and_waiting_goes_on(stage: Stage) -> None:
    refused: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def work() -> None:
        for _ in range(2):
            try:
                await refused
            except ValueError as error:
                stage.said.append(str(error))
        await asyncio.sleep(0)

    (task,) = await stage.start(work())
    assert task is not None
    refused.set_exception(ValueError("no"))
    await task
    assert stage.said == ["no", "no"]
