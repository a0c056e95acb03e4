"""What a page shows beside what is printed: the same words, where a page cannot know a value any value of its kind.

``…`` on a line of its own is any number of lines, within a line any text. A number is any number; so are a size, a
duration, a share and a point in time, with their units. Columns may be wider. A code (an id, a secret, a token) is any
code, and the same one wherever a page shows it again: `codes` says which one it is in this run.
"""

from __future__ import annotations

import re

_CODE = "|".join((
    r"inv-[0-9a-f]{12}-[\w-]+",
    r"mvt_[\w-]+",
    r"\$argon2id\$[\w$=,+/]+",
    r"(?<![\w-])[\w-]{43}(?![\w-])",
    r"(?<![\w-])(?=[a-f]*\d)[0-9a-f]{12,32}(?!\w)",
))  # fmt: skip
_NUMBER = r"\d+(?:\.\d+)?(?:e-?\d+)?"
_KINDS = {
    "rest": (r" *… *", r"[^\n]*"),
    "code": (_CODE, rf"(?:{_CODE})"),
    "cursor": (r"\b[0-9a-f]{8}\.\d+\b", r"[0-9a-f]{8}\.\d+"),
    "moment": (r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:\.\d+Z)?", r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:\.\d+Z)?"),
    "size": (rf"{_NUMBER} [kMG]?B\b", rf"(?:{_NUMBER} [kMG]?B|-)"),
    "share": (rf"{_NUMBER} ?%", rf"(?:{_NUMBER} ?%|-)"),
    "place": (r"0x[0-9a-f]+", r"0x[0-9a-f]+"),
    "span": (rf"(?<![\w.]){_NUMBER} ?(?:ms|[smhd])\b(?: \d+[smh]\b)?", rf"{_NUMBER} ?(?:ms|[smhd])(?: \d+[smh])?"),
    "graph": (r"[▁▂▃▄▅▆▇█]+", r"[▁▂▃▄▅▆▇█ ]*"),
    "number": (_NUMBER, rf"(?:{_NUMBER}|(?<![\w.])-(?!\w)|null)"),
}
_VARIES = re.compile("|".join(f"(?P<{kind}>{shown})" for kind, (shown, _) in _KINDS.items()))


def pattern(lines: list[str]) -> re.Pattern[str]:
    """Return what matches the lines that a page shows, each with its line break."""
    counted = iter(range(1_000))
    return re.compile(
        "".join(r"(?:.*\n)*?" if line.strip() == "…" else f"{_loosely(line, counted)}\n" for line in lines)
    )


def _loosely(line: str, counted: object) -> str:
    return r"\s*" + r"[^\S\n]+".join(_varying(line.strip(), counted)) + r"[^\S\n]*"


def _varying(line: str, counted: object) -> list[str]:
    """Return the words of a line, as patterns. What varies may hold a space, so it is found before words are."""
    parts: list[str] = []
    at = 0
    for found in _VARIES.finditer(line):
        parts.append(re.escape(line[at : found.start()]))
        kind = str(found.lastgroup)
        any_value = _KINDS[kind][1]
        parts.append(f"(?P<code{next(counted)}>{any_value})" if kind == "code" else f"(?:{any_value})")  # type: ignore[call-overload]
        at = found.end()
    whole = "".join([*parts, re.escape(line[at:])])
    return re.split(r"(?:\\ )+", whole)


def compared(printed: str, shown: str) -> dict[str, str] | None:
    """Return the codes of a page with those of this run, or None if something else was printed than is shown.

    A page that shows nothing of it shows no code.
    """
    lines = shown.strip().splitlines()
    lines = [line for line in lines if line.strip()]
    if not lines:
        return {}
    there = "".join(f"{line}\n" for line in printed.splitlines() if line.strip())
    found = pattern(lines).fullmatch(there)
    if found is None:
        return None
    codes = [code[0] for line in lines for code in _VARIES.finditer(line) if code.lastgroup == "code"]
    return dict(zip(codes, found.groupdict().values(), strict=True))


def is_as_shown(printed: str, shown: str) -> bool:
    """Whether a command printed what a page shows; a page may show nothing of it."""
    return compared(printed, shown) is not None


def first_difference(printed: str, shown: str) -> str:
    """Return the first line of a page that what was printed does not go on with."""
    lines = [line for line in shown.strip().splitlines() if line.strip()]
    there = "".join(f"{line}\n" for line in printed.splitlines() if line.strip())
    for count in range(1, len(lines) + 1):
        if pattern(lines[:count]).match(there) is None:
            return lines[count - 1]
    return "(more was printed than is shown)"
