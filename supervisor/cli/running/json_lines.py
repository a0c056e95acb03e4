"""The network's own messages as JSON: one object on each line of stderr, for programs that collect logs.

Keys: ``time`` (ISO 8601, UTC), ``level``, ``logger``, ``message``, ``exception`` (a traceback), and what the
message is about where that is known: ``mod``, ``agent``, ``event_id``, and what else the code gave as ``extra``.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from structlog.processors import JSONRenderer, format_exc_info
from structlog.stdlib import ExtraAdder, ProcessorFormatter
from structlog.typing import EventDict, WrappedLogger

_KEYS = {"mod": "mod", "agent": "agent", "event": "event_id"}
_PLACE = re.compile(r"(?:\b(mod|agent|event) )?%(%|[-#0 +]*\d*(?:\.\d+)?[a-zA-Z])")


def json_formatter(mask: Callable[[str], str]) -> logging.Formatter:
    """Return the formatter of the lines.

    Args:
        mask: masks the secrets in a text.
    """

    def masked(_: WrappedLogger, __: str, found: EventDict) -> EventDict:
        return {key: mask(value) if isinstance(value, str) else value for key, value in found.items()}

    return ProcessorFormatter(
        foreign_pre_chain=[ExtraAdder()],
        pass_foreign_args=True,
        processors=[_described, format_exc_info, _in_order, masked, JSONRenderer(default=str, ensure_ascii=False)],
    )


def named_in(template: str, args: Any) -> dict[str, str]:
    """Return what a message is about: the values behind words such as ``mod %s`` in its template."""
    found: dict[str, str] = {}
    places = [place for place in _PLACE.finditer(template) if place[2] != "%"]
    for place, value in zip(places, args if isinstance(args, tuple) else (), strict=False):
        if place[1] is not None:
            found.setdefault(_KEYS[place[1]], str(value))
    return found


def _described(_: WrappedLogger, __: str, found: EventDict) -> EventDict:
    record: logging.LogRecord = found["_record"]
    at = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    named = {"time": at, "level": record.levelname.lower(), "logger": record.name}
    about = named_in(str(record.msg), found.pop("positional_args", ()))
    return {**about, **found, **named}


def _in_order(_: WrappedLogger, __: str, found: EventDict) -> EventDict:
    """Put what every line has in front, and leave out what structlog noted for itself."""
    first = {key: found[key] for key in ("time", "level", "logger")} | {"message": found["event"]}
    return first | {key: value for key, value in found.items() if key not in first and key != "event" and key[0] != "_"}
