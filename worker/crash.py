"""What went wrong in a mod, and where in the mod's own files."""

from __future__ import annotations

import faulthandler
import linecache
import signal
import traceback
from collections.abc import Callable, Mapping
from typing import Any

MAX_TRACEBACK = 16_000  # characters; of a deep recursion, the head and the tail are enough
MAX_MESSAGE = 4_000  # characters of an exception's own text


def install(dump: int) -> None:
    """Have a crash, a deadly signal or SIGUSR2 write the stacks of all threads to ``dump``.

    The supervisor made this file. A flood of output cannot hide what is in it, and a full pipe
    cannot hold it up.
    """
    faulthandler.enable(file=dump, all_threads=True)
    faulthandler.register(signal.SIGUSR2, file=dump, all_threads=True, chain=False)


def describe(error: BaseException, own: Mapping[str, bytes]) -> dict[str, Any]:
    """Return what people and programs need to know of an exception. Never raises.

    An exception is the mod's own object: its methods may fail too.

    Args:
        own: file name to source of the mod's own modules, as they were compiled. The files may have
            changed since.

    Returns:
        ``{"type", "message", "where", "traceback"}``; ``where`` is ``file:line`` of the last frame
        in the mod's own files, or of the syntax error, or "" when no frame is in the mod's code.
    """
    told = {
        "type": _told(lambda: type(error).__name__, "exception"),
        "message": _told(lambda: _one_line(error), ""),
        "where": _told(lambda: _place(error, own), ""),
        "traceback": _told(lambda: _traceback(error, own), ""),
    }
    # File names of another encoding contain lone surrogates, which msgpack cannot carry.
    return {key: value.encode("utf-8", "backslashreplace").decode() for key, value in told.items()}


def _told(tell: Callable[[], str], otherwise: str) -> str:
    try:
        return tell()
    except BaseException:  # noqa: BLE001 - whatever the exception's own methods raise
        return otherwise


def _traceback(error: BaseException, own: Mapping[str, bytes]) -> str:
    for name, source in own.items():  # a traceback must show the lines that ran, not those on disk
        if name not in linecache.cache:
            text = source.decode("utf-8", "replace")
            linecache.cache[name] = (len(source), None, text.splitlines(keepends=True), name)
    text = "".join(traceback.format_exception(error))
    if len(text) > MAX_TRACEBACK:
        half = MAX_TRACEBACK // 2
        text = f"{text[:half]}\n  … {len(text) - 2 * half} characters left out …\n{text[-half:]}"
    return text


def _one_line(error: BaseException) -> str:
    name = type(error).__name__
    try:
        text = str(error)
    except BaseException as failure:  # noqa: BLE001 - the exception's own __str__
        text = f"(its text cannot be had: __str__ raised {type(failure).__name__})"
    if len(text) > MAX_MESSAGE:
        text = f"{text[:MAX_MESSAGE]} (… {len(text) - MAX_MESSAGE} more characters)"
    return f"{name}: {text}" if text else name


def _place(error: BaseException, own: Mapping[str, bytes]) -> str:
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename}:{error.lineno}"
    frames = [
        f"{frame.filename}:{frame.lineno}"
        for frame in traceback.extract_tb(error.__traceback__)
        if frame.filename in own
    ]
    return frames[-1] if frames else ""
