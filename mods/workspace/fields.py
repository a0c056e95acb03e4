"""`Given`: read the fields of a payload or a config. Each field is checked as it is read.

given = Given(event.payload)
title = given.line("title", most=200)
tags = given.texts("tags", items=20, most=50, default=[])
given.done()  # refuses fields that were not read
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from typing import Any, Never, TypeVar, cast

from .. import Event, InvalidEvent, Refused

D = TypeVar("D")

_REQUIRED = cast("Never", object())
"""Stands for "no default". Typed as Never, it does not widen a required field's type."""

_ID = re.compile(r"[A-Za-z0-9_.@-]{1,128}")  # the network's own grammar for agent and channel ids
_RESERVED = frozenset({"broadcast", "all", "system"})
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


class Given:
    """A mapping from outside, read field by field.

    A None counts as absent: many clients send null for "not set". Every reader takes the field's
    name. It raises `Refused` (``bad_input``, with the field in its details) when the field has a
    wrong value, or is missing and has no default.
    """

    def __init__(self, data: Mapping[str, Any]) -> None:
        self._data = data
        self._asked: dict[str, None] = {}

    def text(self, name: str, *, most: int, least: int = 1, default: D = _REQUIRED) -> str | D:
        """Read text of ``least`` to ``most`` characters, which may have several lines."""
        return self._read(name, f"text of {least} to {most} characters", default, lambda v: _text(v, least, most))

    def line(self, name: str, *, most: int, default: D = _REQUIRED) -> str | D:
        """Read a line of text: not blank, no control characters. Strip outer spaces."""
        return self._read(name, f"one line of 1 to {most} characters", default, lambda v: _line(v, most))

    def integer(self, name: str, *, least: int, most: int, default: D = _REQUIRED) -> int | D:
        """Read a whole number. True and False do not count as numbers."""

        def check(value: Any) -> int | None:
            return value if type(value) is int and least <= value <= most else None

        return self._read(name, f"a whole number from {least} to {most}", default, check)

    def number(self, name: str, *, least: float, most: float, default: D = _REQUIRED) -> float | D:
        """Read a number, whole or not."""

        def check(value: Any) -> float | None:
            return float(value) if type(value) in (int, float) and least <= value <= most else None

        return self._read(name, f"a number from {least:g} to {most:g}", default, check)

    def flag(self, name: str, *, default: D = _REQUIRED) -> bool | D:
        """Read True or False."""
        return self._read(name, "true or false", default, lambda v: v if type(v) is bool else None)

    def choice(self, name: str, options: Sequence[str], *, default: D = _REQUIRED) -> str | D:
        """Read one of ``options``."""

        def check(value: Any) -> str | None:
            return value if isinstance(value, str) and value in options else None

        return self._read(name, f"one of {', '.join(options)}", default, check)

    def texts(self, name: str, *, items: int, most: int, default: D = _REQUIRED) -> list[str] | D:
        """Read a list of one-line texts; keep their order and drop repeated ones."""

        def check(value: Any) -> list[str] | None:
            if not isinstance(value, list) or len(value) > items:
                return None
            lines = [_line(item, most) for item in value]
            return None if None in lines else list(dict.fromkeys(cast("list[str]", lines)))

        return self._read(name, f"a list of at most {items} lines of 1 to {most} characters", default, check)

    def numbers(self, name: str, *, items: int, least: float, most: float, default: D = _REQUIRED) -> list[float] | D:
        """Read a list of 1 to ``items`` numbers."""

        def check(value: Any) -> list[float] | None:
            if not isinstance(value, list) or not 1 <= len(value) <= items:
                return None
            good = all(type(item) in (int, float) and least <= item <= most for item in value)
            return [float(item) for item in value] if good else None

        return self._read(name, f"a list of 1 to {items} numbers from {least:g} to {most:g}", default, check)

    def agent(self, name: str, *, default: D = _REQUIRED) -> str | D:
        """Read an agent's bare id; remove a leading ``agent:``."""
        return self._read(name, "an agent id such as 'alice'", default, agent_id)

    def agents(self, name: str, *, items: int = 1000, default: D = _REQUIRED) -> list[str] | D:
        """Read a list of agent ids."""

        def check(value: Any) -> list[str] | None:
            if not isinstance(value, list) or len(value) > items:
                return None
            ids = [agent_id(item) for item in value]
            return None if None in ids else list(dict.fromkeys(cast("list[str]", ids)))

        return self._read(name, f"a list of at most {items} agent ids", default, check)

    def channel(self, name: str, *, default: D = _REQUIRED) -> str | D:
        """Read a channel's name; remove a leading ``channel:`` or ``#``."""
        return self._read(name, "a channel name such as 'general'", default, channel_name)

    def destination(self, name: str) -> str | None:
        """Read an address such as ``channel:NAME`` or ``agent:broadcast``; None if it is absent."""
        return self._read(name, "'channel:NAME', 'group:NAME', 'agent:broadcast' or nothing", None, _destination)

    def anything(self, name: str, *, default: D = _REQUIRED) -> Any | D:
        """Read a value of any type; the caller checks it."""
        return self._read(name, "a value", default, lambda v: v)

    def done(self) -> None:
        """Refuse fields that were not read, so that a misspelt field is not ignored in silence."""
        for name in self._data:
            if name not in self._asked:
                raise Refused(f"{_short(name)}: unknown field{self._hint(name)}", field=str(name))

    # -- inside

    def _read(self, name: str, expected: str, default: Any, check: Any) -> Any:
        self._asked[name] = None
        value = self._data.get(name)
        if value is None:
            if default is _REQUIRED:
                raise Refused(f"{name}: missing; expected {expected}{self._lookalike(name)}", field=name)
            return default
        good = check(value)
        if good is None:
            raise Refused(f"{name}: expected {expected}, got {_got(value)}", field=name)
        return good

    def _hint(self, name: Any) -> str:
        near = difflib.get_close_matches(str(name), self._asked, n=1)
        known = ", ".join(self._asked) or "none"
        return f"; did you mean {near[0]!r}?" if near else f"; known fields: {known}"

    def _lookalike(self, name: str) -> str:
        others = [key for key in self._data if isinstance(key, str) and key not in self._asked]
        near = difflib.get_close_matches(name, others, n=1)
        return f" (there is {near[0]!r}; did you mean {name!r}?)" if near else ""


def agent_id(value: Any) -> str | None:
    """Return the bare agent id in ``value``, or None if it holds none."""
    if not isinstance(value, str):
        return None
    bare = value.removeprefix("agent:")
    good = _ID.fullmatch(bare) and ".." not in bare and bare != "." and bare not in _RESERVED
    return bare if good else None


def channel_name(value: Any) -> str | None:
    """Return the bare channel name in ``value``, or None if it holds none."""
    if not isinstance(value, str):
        return None
    bare = value.removeprefix("channel:").removeprefix("#")
    return bare if _ID.fullmatch(bare) and ".." not in bare and bare != "." else None


def actor(event: Event) -> str:
    """Return who sent the event: an agent's bare id, ``mod:ID`` or ``system:system``."""
    return event.source_agent or event.source_id or "system:system"


def _destination(value: Any) -> str | None:
    if not isinstance(value, str) or value.partition(":")[0] not in ("channel", "group", "agent"):
        return None
    try:
        Event("workspace.config.checked", destination_id=value)
    except InvalidEvent:
        return None
    return value


def _text(value: Any, least: int, most: int) -> str | None:
    if not isinstance(value, str) or not least <= len(value) <= most or "\0" in value:
        return None
    try:
        value.encode()
    except UnicodeEncodeError:  # a lone surrogate, which neither SQLite nor the pipe can carry
        return None
    return value


def _line(value: Any, most: int) -> str | None:
    text = _text(value, 1, most)
    if text is None or _CONTROL.search(text):
        return None
    return text.strip() or None


def _got(value: Any) -> str:
    if isinstance(value, str) and len(value) > 60:
        return f"text of {len(value)} characters ({_short(value)})"
    if isinstance(value, (list, dict, bytes)) and len(value) > 20:
        return f"{type(value).__name__} of {len(value)} items"
    return f"{type(value).__name__} {_short(value)}"


def _short(value: Any) -> str:
    # Cut before `repr`, since the value may have megabytes.
    text = repr(value[:60]) if isinstance(value, (str, bytes)) else repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
