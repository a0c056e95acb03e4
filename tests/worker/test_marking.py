"""The mark names whose handler runs, on the loop and in threads, and no one while nothing runs."""

from __future__ import annotations

import asyncio
import os
import subprocess
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path

import pytest

from modvisor.ipc import mark
from modvisor.worker import marking
from modvisor.worker.context import current_cause

pytestmark = pytest.mark.anyio

NETWORK = 99_999_999  # a pid that no process has


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A mark in use; what `install` changes in Python is changed back."""
    for place, name in [
        *((marking, name) for name in ("words", "_loop", "_network")),
        (asyncio.Handle, "_run"),
        (ThreadPoolExecutor, "submit"),
        (threading.Thread, "start"),
        (subprocess.Popen, "__init__"),
        *((os, name) for name in ("_exit", "abort", "kill", "killpg", "system")),
    ]:
        monkeypatch.setattr(place, name, getattr(place, name))
    monkeypatch.setattr(marking, "words", memoryview(bytearray(mark.SIZE)).cast("Q"))  # others may have marked theirs
    monkeypatch.setattr(os, "register_at_fork", lambda **_: None)
    monkeypatch.setattr(marking, "wrap", lru_cache(marking.wrap.__wrapped__))
    file = tmp_path / "a.mark"
    file.write_bytes(mark.empty_page())
    return file


@pytest.fixture
def anyio_backend() -> str:
    """As in a worker, whose loop is asyncio's own: the marks are made in its handles."""
    return "asyncio"


@pytest.fixture
async def marks(file: Path) -> Marked:
    marking.install(str(file), NETWORK)
    return Marked(file)


class Marked:
    def __init__(self, file: Path) -> None:
        self._file = file

    def read(self) -> mark.Marks:
        found = mark.read(self._file.read_bytes())
        assert found is not None
        return found

    @property
    def loop(self) -> int | None:
        return self.read().loop

    @property
    def threads(self) -> list[int]:
        return sorted(self.read().threads.values())


@pytest.fixture(autouse=True)
def no_cause() -> Iterator[None]:
    token = current_cause.set(None)
    yield
    current_cause.reset(token)


async def handler(request: int, marks: Marked) -> list[int | None]:
    """What the mark says of the loop in each step of a handler and its child."""
    current_cause.set(request)
    await asyncio.sleep(0)
    said = [marks.loop]

    async def child() -> None:
        said.append(marks.loop)
        await asyncio.sleep(0)
        said.append(marks.loop)

    await asyncio.create_task(child())
    timer = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_later(0.001, lambda: timer.set_result(marks.loop))
    return [*said, await timer, marks.loop]


async def test_what_was_wrapped_before_a_fork_is_not_wrapped_again(file: Path) -> None:
    marking.wrap()
    wrapped = os.kill, asyncio.Handle._run
    os.kill(os.getpid(), 0)
    await asyncio.sleep(0)
    assert not any(marking.words), "nothing is marked yet"
    marking.install(str(file), NETWORK)
    assert (os.kill, asyncio.Handle._run) == wrapped
    marking.begin(7)
    assert Marked(file).loop == 7


async def test_each_step_of_a_handler_and_of_its_children_is_marked(marks: Marked) -> None:
    said = await asyncio.gather(*(asyncio.create_task(handler(request, marks)) for request in range(3)))
    assert said == [[request] * 5 for request in range(3)]
    assert marks.loop is None, "this step is no handler's"


async def test_the_first_step_is_marked_until_it_waits(marks: Marked) -> None:
    marking.begin(0)
    assert marks.loop == 0
    marking.pause()
    assert marks.loop is None


async def test_code_in_threads_is_marked_with_the_event_that_asked_for_it(marks: Marked) -> None:
    current_cause.set(7)
    assert await asyncio.to_thread(lambda: marks.threads) == [7]
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(lambda: marks.threads).result() == [7]
        current_cause.set([8, 0])  # a batch of copies
        assert pool.submit(lambda: marks.threads).result() == [8], "the pool's thread is not the first event's"
    said: list[list[int]] = []
    idents: list[int] = []

    def run() -> None:
        idents.append(threading.get_ident())
        assert list(marks.read().threads) == idents
        inner = threading.Thread(target=lambda: said.append(marks.threads))
        inner.start()
        inner.join()

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert said == [[8, 8]], "a thread of a thread"
    assert marks.threads == []


async def test_more_threads_than_there_is_room_for_run_all_the_same(marks: Marked) -> None:
    monopoly, marking._free[:] = list(marking._free), []
    try:
        current_cause.set(1)
        assert await asyncio.to_thread(lambda: marks.read()) == mark.Marks(is_crowded=True)
    finally:
        marking._free[:] = monopoly


async def test_a_callback_that_raises_is_reported_as_ever(marks: Marked) -> None:
    told: list[dict[str, object]] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _loop, context: told.append(context))
    loop.call_soon(lambda: 1 / 0)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    loop.set_exception_handler(None)
    assert isinstance(told[0]["exception"], ZeroDivisionError)
    assert marks.loop is None


async def test_a_call_for_the_end_of_the_network_is_noted_for_good(marks: Marked) -> None:
    os.kill(os.getpid(), 0)
    current_cause.set(5)
    os.kill(os.getpid(), 0)
    assert marks.read().caught is None, "a signal that harms nobody"
    with pytest.raises(ProcessLookupError):
        os.kill(NETWORK, 9)
    assert marks.read().caught == 5
    current_cause.set(6)
    with pytest.raises(ProcessLookupError):
        os.kill(NETWORK, 15)
    assert marks.read().caught == 5, "the first call counts"


@pytest.mark.parametrize(
    ("command", "kills"),
    [
        (["kill", "-9", "1234"], True),
        ("kill -9 1234", True),
        (b"sleep 1; kill 1234", True),
        (["sh", "-c", "sleep 1 && kill -TERM 1234;"], True),
        (["/usr/bin/pkill", "-P", "1234"], True),
        (["kill", "-9", "-1234"], True),
        (["ps", "-p", "1234"], False),
        (["kill", "-9", "12345"], False),
        ([Path("/bin/true")], False),
    ],
)
def test_a_command_that_kills_the_network_is_known(command: object, kills: bool) -> None:
    assert marking._kills(command, {"1234", "77"}) is kills


async def test_without_its_file_a_worker_marks_nothing(file: Path, tmp_path: Path) -> None:
    run = asyncio.Handle._run
    marking.install(str(tmp_path / "gone"), NETWORK)
    assert asyncio.Handle._run is run
    marking.begin(1)
    assert mark.read(file.read_bytes()) is None
