"""A mod's ``print`` and `logging` become lines of its log; nothing that it writes reaches the pipe.

The launcher gives the worker /dev/null as standard input, and one pipe as standard output and
error. The supervisor reads that pipe line by line, so it also hears C libraries and crashing
interpreters.
"""

from __future__ import annotations

import logging
import os
import sys
from contextlib import suppress
from typing import TextIO

from ..ipc.errors import ModvisorError

_own: TextIO | None = None
"""The standard error that the worker began with. What a mod puts in its place is for the mod: it
may collect the output of one handler, or fail."""


def install() -> None:
    """Write whole lines when they are complete. Escape text that cannot be encoded."""
    global _own
    _own = sys.stderr
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(encoding="utf-8", errors="backslashreplace", line_buffering=True, write_through=False)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)


def flush() -> None:
    """Send buffered output to the supervisor before the process ends."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(BaseException):  # the supervisor is gone, or the mod closed or replaced the stream
            stream.flush()


def say(text: str) -> None:
    """Write a line (or several) of the worker itself to the mod's log. Never raises."""
    line = text if text.endswith("\n") else f"{text}\n"
    stream = sys.stderr if _own is None else _own
    try:
        stream.write(line)
        stream.flush()
    except BaseException:  # noqa: BLE001 - the mod closed it, or replaced what it writes with
        with suppress(BaseException):
            os.write(2, line.encode("utf-8", "backslashreplace"))


def report(error: ModvisorError) -> None:
    """Write an error to the mod's log, where its author looks; the core gets it as well."""
    say(error.details.get("traceback") or f"ERROR {error}")
