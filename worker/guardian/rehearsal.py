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
from ...ipc.messages import Request
from ...ipc.pipe import Pipe
from ...ipc.shared_memory import is_possible
from ..running import run
from ..serve import Worker

ROUNDS = 8
AT_ONCE = 16
"""Events of the rehearsal: so many rounds of so many at once. Functions are adapted after some 64 calls."""

PATIENCE = 5.0
"""Seconds after which the rehearsal is given up. It takes 0.01."""

OURS = f"{__package__}.rehearsed"
OPENAGENTS = f"{__package__}.rehearsed_openagents"
"""The mods of a rehearsal, as modules."""

_LOAD: dict[str, Any] = {
    "mod_id": "rehearsal",
    "config": {},
    "storage_path": "/",
    "network_name": "rehearsal",
    "network_id": "rehearsal",
    "concurrency": AT_ONCE,
    "shelf": is_possible,
    "compiled": {},
    "limits": None,
}
"""Parameters of `load`, of a core that limits nothing: a limit would be one of the guardian."""

_AGENT = {"agent_id": "rehearsal", "metadata": {}, "group": "rehearsal"}
_MIRROR = {"agents": [_AGENT], "channels": {}, "groups": {"rehearsal": ["rehearsal"]}, "last": True}


def rehearse(rounds: int = ROUNDS, module: str = OURS) -> None:
    """Serve one of the mods of a rehearsal for a while. Call this in the main thread, without a loop.

    Workers run without a rehearsal too, so a failure is only reported.
    """
    try:
        with _undone(module):
            run(_play(module, rounds))
    except Exception:  # noqa: BLE001 - the mod of the rehearsal may raise anything, and workers run without it
        traceback.print_exc()


async def _play(module: str, rounds: int) -> int:
    async with asyncio.timeout(PATIENCE):
        return await _serve_a_while(module, rounds)


async def _serve_a_while(module: str, rounds: int) -> int:
    here, there = socket.socketpair()
    worker = Worker(there)
    core = Pipe(here, on_request=lambda request: _answer(core, request), on_notification=_ignore, on_close=_ignore)
    try:
        await _ask_all(core, module, rounds)
        await worker.ended.wait()
        await worker.close()
    finally:
        core.close()
        there.close()
    return worker.exit_status


async def _ask_all(core: Pipe, module: str, rounds: int) -> None:
    """Ask what a core asks of a worker, from its load to its shutdown."""
    await core.request(messages.LOAD, {**_LOAD, "mod_path": module})
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


def _answer(core: Pipe, request: Request) -> None:
    """Answer what a mod asks: whom it sends events and what the network is like."""
    if request.method == messages.MIRROR:
        core.notify(messages.MIRROR, _MIRROR)
    core.respond(request.id, {"success": True} if request.method == messages.SEND_EVENT else None)


def _ignore(_what: object) -> None:
    """Drop what the worker tells."""


@contextmanager
def _undone(module: str) -> Iterator[None]:
    """Undo at the end what a worker sets up for one mod: variables, the search for modules, a signal."""
    variables, finders, path = dict(os.environ), list(sys.meta_path), list(sys.path)
    interrupt = signal.getsignal(signal.SIGINT)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, interrupt)
        sys.meta_path[:], sys.path[:] = finders, path
        sys.modules.pop(module, None)
        for name in os.environ.keys() - variables:
            del os.environ[name]
