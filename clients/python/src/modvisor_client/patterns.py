"""Patterns of event names, as the network has them: an exact name, `a.*` (any depth below `a`), `*`."""

from __future__ import annotations

import re

from .errors import BadUse

_PATTERN = re.compile(r"\*|[a-z0-9_]+(?:\.[a-z0-9_]+)*\.(?:\*|[a-z0-9_]+)")


def check_patterns(patterns: tuple[str, ...]) -> tuple[str, ...]:
    """Return the patterns, `("*",)` if there are none; raise `BadUse` for a wrong one."""
    for pattern in patterns:
        if not isinstance(pattern, str) or not _PATTERN.fullmatch(pattern):
            text = f"pattern {pattern!r}: expected an event name ('chat.message'), a prefix ('chat.*') or '*'"
            raise BadUse(text)
    return patterns or ("*",)


def matches(pattern: str, name: str) -> bool:
    """Return whether the pattern matches the name of an event."""
    if pattern == "*":
        return True
    return name.startswith(pattern[:-1]) if pattern.endswith(".*") else name == pattern
