"""Knows what YAML reads otherwise than its writer may have meant.

YAML 1.1, which PyYAML reads, and YAML 1.2 differ in numbers and in words such as ``no``. A key with
a reader of its own refuses what does not fit. Plain data takes anything, so there a value is refused
or warned of.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_LEADING_ZERO = re.compile(r"[-+]?0[0-9_]*[0-9][0-9_]*(?:\.[0-9_]*)?")
_EXPONENT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)[eE][-+]?[0-9]+")
_OCTAL = re.compile(r"[-+]?0o[0-7]+")
_LOST_ZERO = re.compile(r"[1-9][0-9]*\.[0-9]+0")
_WORDS = {"yes": "true", "on": "true", "no": "false", "off": "false"}


@dataclass(frozen=True, slots=True)
class Doubt:
    """A value without quotes that may mean something else. ``is_refused``: else it is warned of."""

    message: str
    is_refused: bool


def has_leading_zero(text: str) -> bool:
    """Tell whether a number begins with a zero that YAML 1.1 takes for the sign of an octal one."""
    return _LEADING_ZERO.fullmatch(text) is not None


def doubt_of(kind: str, text: str) -> Doubt | None:
    """Return what is doubtful in a value that was written without quotes, or None.

    Args:
        kind: what YAML 1.1 takes it for: ``int``, ``float``, ``bool``, ``str`` …
    """
    if kind in ("int", "float") and has_leading_zero(text):
        number = text.replace("_", "").lstrip("+-0") or "0"
        return Doubt(
            f"{text} is kept as text, because of its leading zero; write {number}, or '{text}' in quotes", False
        )
    if kind == "str" and (_EXPONENT.fullmatch(text) or _OCTAL.fullmatch(text)):
        number = int(text, 8) if "o" in text else float(text)
        return Doubt(
            f"{text} is text in YAML 1.1 and a number in YAML 1.2; write {number!r} for the number, or '{text}' in quotes",
            True,
        )
    if kind == "bool" and text.lower() in _WORDS:
        word = _WORDS[text.lower()]
        return Doubt(f"YAML reads {text} as {word}; write {word}, or '{text}' in quotes for the text", False)
    if kind == "float" and _LOST_ZERO.fullmatch(text):
        return Doubt(f"YAML reads {text} as the number {float(text)!r}; write '{text}' in quotes for the text", False)
    return None
