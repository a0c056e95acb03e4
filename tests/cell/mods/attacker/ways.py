"""How an attack is tried: by each of its ways, and what each of them got or why it failed.

An attack is a function of what the attacker knows (`Aim`), and returns its ways: functions that
return what they got, as text or bytes, or raise. Ways that change the process they run in are
`apart`: they run in a forked child.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from contextlib import suppress
from types import SimpleNamespace
from typing import Any

Aim = SimpleNamespace
"""What the attacker knows: pids, paths, addresses and ports. It knows no secret."""

Way = Callable[[], str | bytes]
Ways = dict[str, Way]
Attack = Callable[[Aim], Ways]

LONGEST = 600  # characters of what is told of one way
PATIENCE = 5  # seconds for a way in a child

ATTACKS: dict[str, Attack] = {}


def attack(function: Attack) -> Attack:
    """Add a function to the attacks, under its name."""
    ATTACKS[function.__name__] = function
    return function


def tried(ways: Ways) -> dict[str, dict[str, str]]:
    """Try each way. Return what was got, and why the others failed."""
    got, failed = {}, {}
    for name, way in ways.items():
        try:
            got[name] = _text(way())[:LONGEST]
        except Exception as error:  # noqa: BLE001 - it is told
            failed[name] = f"{type(error).__name__}: {error}"[:LONGEST]
    return {"got": got, "failed": failed}


def _text(found: str | bytes) -> str:
    return found.decode("utf-8", "backslashreplace") if isinstance(found, bytes) else found


def all_tried(known: dict[str, Any], names: list[str]) -> dict[str, dict[str, dict[str, str]]]:
    """Try these attacks, knowing what is known."""
    aim = Aim(**known)
    return {name: _tried_with(ATTACKS[name], aim) for name in names}


def _tried_with(function: Attack, aim: Aim) -> dict[str, dict[str, str]]:
    try:
        return tried(function(aim))
    except Exception as error:  # noqa: BLE001 - what the attack needs before its ways is refused
        return {"got": {}, "failed": {"begin": f"{type(error).__name__}: {error}"[:LONGEST]}}


def apart(way: Way) -> Way:
    """Return a way that runs in a forked child. A child that is killed has failed."""

    def in_child() -> bytes:
        reading, writing = os.pipe()
        pid = os.fork()
        if pid == 0:
            _be_child(way, writing)
        os.close(writing)
        with open(reading, "rb") as pipe:
            data = pipe.read()
        _, status = os.waitpid(pid, 0)
        if not data.startswith(b"+"):
            why = data[1:].decode("utf-8", "replace") or f"the child ended with {os.waitstatus_to_exitcode(status)}"
            raise PermissionError(why)
        return data[1:]

    return in_child


def _be_child(way: Way, writing: int) -> None:
    with suppress(ValueError):  # in a thread Python refuses handlers, and there is none then
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(PATIENCE)
    try:
        found = way()
        os.write(writing, b"+" + (found.encode() if isinstance(found, str) else found)[:LONGEST])
    except BaseException as error:  # noqa: BLE001 - whatever it is, the parent is told
        os.write(writing, f"-{type(error).__name__}: {error}".encode("utf-8", "replace")[:LONGEST])
    finally:
        os._exit(0)
