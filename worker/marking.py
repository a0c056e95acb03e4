"""Marks in shared memory whose handler runs now, so that the supervisor can read it after a crash.

See `ipc.mark` for the memory. What runs for an event is known from `context.current_cause`, which
child tasks inherit, and functions that a handler gives to a pool of threads as well. Threads that a
handler starts are marked with its event too.

- **On the event loop** each callback is marked while it runs (`_mark_callbacks`): a task's step is
  one. A handler's first step is no callback; `worker.serve` marks it, and `worker.eager` ends that.
- **In threads** a pool's function and a new thread are wrapped (`_mark_threads`).
- **A call for the end** (os._exit, os.abort, or a signal to this process or the network) is noted
  for good (`_mark_ends`): a handler may go on for some time after it has killed the network.

A process that the mod forks has a memory of its own.
"""

from __future__ import annotations

import asyncio
import functools
import mmap
import os
import signal
import subprocess
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

from ..ipc.mark import CAUGHT, CROWDED, FIRST_THREAD, IN_USE, LOOP, SIZE, WORDS
from .context import Cause, current_cause

words = memoryview(bytearray(SIZE)).cast("Q")
"""The memory: private until `install`."""

_loop: asyncio.AbstractEventLoop | None = None  # the one whose callbacks are marked
_network = -1  # pid of the supervisor
_free = list(range(FIRST_THREAD, WORDS, 2))
_of_thread: dict[int, int] = {}  # the event's word of each marked thread, by ident

_HARMLESS = frozenset(
    {0, signal.SIGCHLD, signal.SIGCONT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGWINCH}
)


def install(file: str, network: int) -> None:
    """Mark from now on in ``file``, whose size the supervisor has set.

    Call it on the event loop, once. Without the file nothing is marked.

    Args:
        network: pid of the supervisor.
    """
    global words, _loop, _network
    try:
        fd = os.open(file, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return
    with suppress(OSError, ValueError):
        words = memoryview(mmap.mmap(fd, SIZE)).cast("Q")
        words[IN_USE] = 1
        _loop, _network = asyncio.get_running_loop(), network
        wrap()
    os.close(fd)


@functools.lru_cache(maxsize=1)  # once for each process; the guardian does it for those that it forks
def wrap() -> None:
    """Wrap what is marked. Nothing is, until `install`."""
    _mark_callbacks()
    _mark_threads()
    _mark_ends()
    os.register_at_fork(after_in_child=_forget)


def _forget() -> None:
    global words
    words = memoryview(bytearray(SIZE)).cast("Q")


def begin(request_id: int) -> None:
    """Mark the first step of a handler, which is begun where its event is read."""
    words[LOOP] = request_id + 1


def pause() -> None:
    """End the step that `begin` has marked: the handler has ended, or waits."""
    words[LOOP] = 0


def _word(cause: Cause) -> int:
    return 0 if cause is None else (cause if type(cause) is int else _batch(cause)) + 1


def _batch(cause: Any) -> int:
    """Return the request of a batch of copies."""
    return cause[0]


# -- the event loop


def _mark_callbacks() -> None:
    """Mark each callback of the worker's loop while it runs.

    asyncio has no public hook for this. A task factory would have to wrap each coroutine, and the
    mod would see the wrapper. Every callback of a loop is run by `Handle._run`, a task's step and a
    timer too. What follows is that method and the mark: a call more would cost half as much again.
    """
    run = asyncio.Handle._run

    def _run(self: Any) -> None:
        loop = self._loop
        if loop is not _loop:
            return run(self)
        context, marked = self._context, words
        cause, before = context.get(current_cause), marked[LOOP]
        marked[LOOP] = 0 if cause is None else (cause if type(cause) is int else _batch(cause)) + 1
        try:
            context.run(self._callback, *self._args)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:  # noqa: BLE001 - as asyncio does
            _report(self, loop, error)
        marked[LOOP] = before
        self = None  # else an exception would keep it, and be kept by it
        return None

    asyncio.Handle._run = _run  # type: ignore[method-assign]


def _report(handle: Any, loop: asyncio.AbstractEventLoop, error: BaseException) -> None:
    loop.call_exception_handler(
        {"message": f"Exception in callback {handle._callback!r}", "exception": error, "handle": handle}
    )


# -- threads


def _mark_threads() -> None:
    submit, start = ThreadPoolExecutor.submit, threading.Thread.start

    @functools.wraps(submit)
    def marked_submit(self: Any, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        if (word := _word_here()) == 0:
            return submit(self, fn, *args, **kwargs)
        return submit(self, _run_marked, word, fn, *args, **kwargs)

    @functools.wraps(start)
    def marked_start(self: threading.Thread) -> None:
        if (word := _word_here()) and not _is_of_python(self):
            self.run = functools.partial(_run_marked, word, self.run)  # type: ignore[method-assign]
        start(self)

    ThreadPoolExecutor.submit = marked_submit  # type: ignore[method-assign]
    threading.Thread.start = marked_start  # type: ignore[method-assign]


def _is_of_python(thread: threading.Thread) -> bool:
    """Whether a thread runs a loop of the standard library: a pool's, one that waits for a child."""
    target = getattr(thread, "_target", None)
    return str(getattr(target, "__module__", "")).startswith(("asyncio.", "concurrent.futures."))


def _run_marked(word: int, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
    """Call ``fn``, and mark this thread with the event meanwhile."""
    marked, ident = words, threading.get_ident()
    before = _of_thread.get(ident, 0)
    try:
        at = _free.pop()
    except IndexError:
        marked[CROWDED] = 1
        return fn(*args, **kwargs)
    _of_thread[ident] = word
    marked[at + 1], marked[at] = ident, word
    try:
        return fn(*args, **kwargs)
    finally:
        marked[at] = 0
        _of_thread[ident] = before
        if not before:
            del _of_thread[ident]
        _free.append(at)


def _word_here() -> int:
    """Return the word of the event that this code runs for; 0 if for none."""
    return _word(current_cause.get()) or _of_thread.get(threading.get_ident(), 0)


# -- calls for the end


def _mark_ends() -> None:
    """Note whose handler asks the system to end this process or the network."""

    def is_ours(pid: Any) -> bool:
        return isinstance(pid, int) and (pid <= 0 or pid in (os.getpid(), os.getppid(), _network))

    def group_is_ours(group: Any) -> bool:
        return group in {0, *(os.getpgid(pid) for pid in (0, _network) if _lives(pid))}

    def command_is_ours(command: Any) -> bool:
        return _kills(command, {str(os.getpid()), str(_network)})

    _note(os, "_exit", lambda *_: True)
    _note(os, "abort", lambda *_: True)
    _note(os, "kill", lambda pid, signum: signum not in _HARMLESS and is_ours(pid))
    _note(os, "killpg", lambda group, signum: signum not in _HARMLESS and group_is_ours(group))
    _note(os, "system", command_is_ours)
    _note(subprocess.Popen, "__init__", lambda _self, command=None, *_, args=(), **__: command_is_ours(command or args))


def _note(place: Any, name: str, is_an_end: Callable[..., bool]) -> None:
    """Wrap a function: note the event of a call that ``is_an_end``, then go on with the call."""
    function = getattr(place, name)

    @functools.wraps(function)
    def noting(*args: Any, **kwargs: Any) -> Any:
        marked = words
        with suppress(Exception):  # the call itself says what is wrong with it
            if (word := _word_here()) and not marked[CAUGHT] and is_an_end(*args, **kwargs):
                marked[CAUGHT] = word
        return function(*args, **kwargs)

    setattr(place, name, noting)


def _lives(pid: int) -> bool:
    with suppress(ProcessLookupError):
        os.getpgid(pid)
        return True
    return False


def _kills(command: Any, pids: set[str]) -> bool:
    """Whether a command is one that kills, and names one of ``pids``."""
    words = (
        os.fsdecode(command).split() if isinstance(command, (str, bytes)) else [os.fsdecode(word) for word in command]
    )
    texts = {part for word in words for part in word.replace(";", " ").replace("-", " ").split()}
    return any("kill" in text for text in texts) and not pids.isdisjoint(texts)
