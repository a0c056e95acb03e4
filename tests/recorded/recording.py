"""The recordings as files: one JSON value a line, so that a change of a recording reads as a diff."""

from __future__ import annotations

import difflib
import json
from collections.abc import Awaitable, Callable, Iterator, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any

from .http import answers
from .session import Lines, wire_and_journal

FOLDER = Path(__file__).parent
PLAYS: dict[str, Callable[[Path], Awaitable[dict[str, Lines]]]] = {"session": wire_and_journal, "http": answers}
SHOWN = 300  # characters of a line that is told whole


def text(lines: Sequence[dict[str, Any]]) -> list[str]:
    return [json.dumps(line, ensure_ascii=False) for line in lines]


def write(file: Path, lines: Sequence[dict[str, Any]]) -> None:
    file.write_text("".join(line + "\n" for line in text(lines)))


def differences(file: Path, lines: Sequence[dict[str, Any]]) -> Iterator[str]:
    """Yield what differs from the recording: of a line that has changed the places, else the whole line."""
    recorded, now = file.read_text().splitlines(), text(lines)
    matcher = difflib.SequenceMatcher(None, recorded, now, autojunk=False)
    for tag, begin, end, other_begin, other_end in matcher.get_opcodes():
        if tag == "equal":
            continue
        yield f"{file.name}:{begin + 1}:"
        for old, new in zip_longest(recorded[begin:end], now[other_begin:other_end]):
            if tag == "replace" and old and new:
                yield f"  {old[:SHOWN]}"
                yield from (f"    {place}" for place in _places(json.loads(old), json.loads(new), ""))
            else:
                yield from (f"  {sign} {line[:SHOWN]}" for sign, line in (("-", old), ("+", new)) if line)


def _places(old: Any, new: Any, place: str) -> Iterator[str]:
    if isinstance(old, dict) and isinstance(new, dict):
        if list(old) != list(new):
            yield f"{place or '.'}: keys {list(old)}, now {list(new)}"
        for key in old.keys() & new.keys():
            yield from _places(old[key], new[key], f"{place}.{key}")
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for number, (left, right) in enumerate(zip(old, new, strict=True)):
            yield from _places(left, right, f"{place}[{number}]")
    elif old != new:
        yield f"{place}: recorded {json.dumps(old)[:SHOWN]}, now {json.dumps(new)[:SHOWN]}"
