"""Do once what every worker does, before the first one is forked.

A fresh interpreter adapts to what it runs: it rewrites the code of functions that are called often,
fills caches, and makes objects at their first use. Each worker would do that anew, and each page
that it writes to would become memory of its own. So the guardian serves a small mod of its own,
with a real worker on a real socket, and forks workers from what has come of that.

It leaves no thread, no file and no process, and undoes what is meant for one mod alone.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ...ipc import messages
from ...ipc.event import Event
from ...ipc.pipe import Pipe
from ...ipc.shared_memory import is_possible
from ..running import run
from ..serve import Worker

ROUNDS = 8
AT_ONCE = 16
"""Events of the rehearsal: so many rounds of so many at once. Functions are adapted after some 64 calls."""

PATIENCE = 5.0
"""Seconds after which the rehearsal is given up. It takes 0.01."""

_MODULE = f"{__package__}.rehearsed"
_LOAD: dict[str, Any] = {
    "mod_id": "rehearsal",
    "mod_path": _MODULE,
    "config": {},
    "storage_path": "/",
    "network_name": "rehearsal",
    "concurrency": AT_ONCE,
    "shelf": is_possible,
    "compiled": {},
    "limits": None,
}
"""Parameters of `load`, of a core that limits nothing: a limit would be one of the guardian."""


def rehearse(rounds: int = ROUNDS) -> None:
    """Serve the mod `rehearsed` for a while. Call this in the main thread, without a loop.

    Workers run without a rehearsal too, so a failure is only reported.
    """
    try:
        with _undone():
            run(_play(rounds))
    except Exception:  # noqa: BLE001 - whatever it is
        traceback.print_exc()


async def _play(rounds: int) -> int:
    async with asyncio.timeout(PATIENCE):
        return await _serve_a_while(rounds)


async def _serve_a_while(rounds: int) -> int:
    here, there = socket.socketpair()
    worker = Worker(there)
    core = Pipe(here, on_request=_ignore, on_notification=_ignore, on_close=_ignore)
    try:
        await _ask_all(core, rounds)
        await worker.ended.wait()
        await worker.close()
    finally:
        core.close()
        there.close()
    return worker.exit_status


async def _ask_all(core: Pipe, rounds: int) -> None:
    """Ask what a core asks of a worker, from its load to its shutdown."""
    await core.request(messages.LOAD, _LOAD)
    await core.request(messages.ACTIVATE, {})
    for number in range(rounds):
        await asyncio.gather(*(_ask(core, number, index) for index in range(AT_ONCE)))
        await core.request(messages.PING)
    await core.request(messages.SNAPSHOT, {})
    await core.request(messages.SHUTDOWN, {})


async def _ask(core: Pipe, number: int, index: int) -> None:
    name = ("answer", "answer", "wait", "other")[index % 4]
    event = Event(f"rehearsal.event.{name}", "agent:rehearsal", "mod:rehearsal", {"i": number, "text": "of some words"})
    await core.request(messages.EVENT, {"event": event.to_dict()})


def _ignore(_what: object) -> None:
    """Answer nothing: the mod asks for nothing."""


@contextmanager
def _undone() -> Iterator[None]:
    """Undo at the end what a worker sets up for one mod: variables, the search for modules, a signal."""
    variables, finders, path = dict(os.environ), list(sys.meta_path), list(sys.path)
    interrupt = signal.getsignal(signal.SIGINT)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, interrupt)
        sys.meta_path[:], sys.path[:] = finders, path
        sys.modules.pop(_MODULE, None)
        for name in os.environ.keys() - variables:
            del os.environ[name]
