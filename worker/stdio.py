"""A mod's ``print`` and `logging` become lines of its log; nothing it writes can reach the pipe.

The launcher gives the worker /dev/null as standard input and one pipe as standard output and error; the supervisor reads
that pipe line by line. So C libraries and crashing interpreters are heard as well.
"""

from __future__ import annotations

import logging
import sys
from contextlib import suppress


def install() -> None:
    """Whole lines, written when they are complete; text that cannot be encoded is escaped, never an error in the mod."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(encoding="utf-8", errors="backslashreplace", line_buffering=True, write_through=False)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)


def flush() -> None:
    """Push what is buffered to the supervisor before the process ends."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(
            OSError, ValueError
        ):  # the supervisor is gone, or the mod closed the stream: nobody is left to tell
            stream.flush()


def say(text: str) -> None:
    """A line (or several) of the worker itself in the mod's log."""
    with suppress(OSError, ValueError):
        sys.stderr.write(text if text.endswith("\n") else f"{text}\n")
        sys.stderr.flush()
