"""Call functions that block in threads, for as little as that can cost the loop.

`anyio.to_thread.run_sync` passes two checkpoints and asks a limiter before its thread begins: two
turns of the loop and some two hundred Python calls. The executors of the standard library take a
hundred. The load of a mod calls four such functions, and so does its unload.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from queue import SimpleQueue
from typing import Any, TypeVar

T = TypeVar("T")


class _Call(asyncio.Future[Any]):
    """A call that cannot be taken back: who is cancelled learns of it when the call is over."""

    def cancel(self, msg: Any | None = None) -> bool:
        return False


class Aside:
    """A few threads, which begin when they are needed, and end at `close` or with this object.

    Args:
        most: how many calls run at the same time; further ones wait, in order.
        name: what the threads are called.
    """

    def __init__(self, most: int, name: str) -> None:
        self._most = most
        self._name = name
        self._calls: SimpleQueue[tuple[_Call, Callable[..., Any], tuple[Any, ...]] | None] = SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._open = 0  # calls whose results were not taken yet

    async def run(self, function: Callable[..., T], *args: Any) -> T:
        """Call a function that blocks, and return what it returns.

        Who is cancelled meanwhile learns of it afterwards: the call is never left alone.
        """
        call = _Call(loop=asyncio.get_running_loop())
        self._open += 1
        if len(self._threads) < min(self._open, self._most):
            # As a daemon: what is still called when the interpreter ends, nobody waits for.
            thread = threading.Thread(target=_serve, args=(self._calls,), name=self._name, daemon=True)
            thread.start()
            self._threads.append(thread)
        self._calls.put((call, function, args))
        try:
            return await call
        finally:
            self._open -= 1

    def close(self) -> None:
        """Have the threads end when they have done what was asked so far. A further call begins another one."""
        ended, self._threads = self._threads, []
        for _ in ended:
            self._calls.put(None)
        for thread in () if self._open else ended:  # else they end later
            thread.join()

    def __del__(self) -> None:
        for _ in self._threads:
            self._calls.put(None)


def _serve(calls: SimpleQueue[tuple[_Call, Callable[..., Any], tuple[Any, ...]] | None]) -> None:
    while (each := calls.get()) is not None:
        call, function, args = each
        try:
            settle, outcome = call.set_result, function(*args)
        except BaseException as error:  # noqa: BLE001 - whoever called gets it
            settle, outcome = call.set_exception, error
        with suppress(RuntimeError):  # the loop is closed, so nobody waits
            call.get_loop().call_soon_threadsafe(settle, outcome)
        del each, call, function, args, settle, outcome  # nothing is kept until the next call
