"""Finds what was changed, removed, reordered or cut in an audit.

`verify_lines` is pure. One torn line at the very end is forgiven, since a power failure leaves one,
unless the journal knows that the line was whole.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from .chain import START, Head, Line, checked, seal
from .file import audit_files
from .records import REMOVED

MOST_SHOWN = 200
"""Findings that are kept in words. No key of the network file: a file that is all wrong needs no more."""


@dataclass(frozen=True, slots=True)
class Place:
    """A line of a file."""

    file: str
    line: int

    def __str__(self) -> str:
        return f"{self.file}, line {self.line}"


@dataclass(slots=True)
class Verdict:
    """What a verification found.

    Attributes:
        lines: how many were read.
        first: number of the first sound line; ``last``: of the last one; 0: there is none.
        findings: what is wrong, in words.
        count: how many findings there are; the first `MOST_SHOWN` are in words.
        notes: what is no finding, and good to know.
    """

    lines: int = 0
    first: int = 0
    last: int = 0
    findings: list[str] = field(default_factory=list)
    count: int = 0
    notes: list[str] = field(default_factory=list)

    @property
    def is_sound(self) -> bool:
        return not self.count

    def find(self, text: str) -> None:
        self.count += 1
        if len(self.findings) < MOST_SHOWN:
            self.findings.append(text)


def verify(folder: Path, key: bytes, sealed: tuple[int, bytes] | None, told: Head | None = None) -> Verdict:
    """Verify the audit in a folder.

    Args:
        sealed: number and seal of the newest line, as the journal knows them.
        told: number and the first digits of the MAC of a line, as somebody noted them elsewhere.

    Raises:
        OSError: a file cannot be read.
    """
    with ExitStack() as opened:
        return verify_lines(key, _lines(_opened(folder, opened)), sealed, told)


def _opened(folder: Path, stack: ExitStack) -> list[tuple[str, BinaryIO]]:
    """Open all files of one moment: a network that runs may put one aside meanwhile."""
    while True:
        paths = audit_files(folder)
        with suppress(FileNotFoundError), ExitStack() as opening:
            files: list[tuple[str, BinaryIO]] = [(path.name, opening.enter_context(path.open("rb"))) for path in paths]
            if paths == audit_files(folder):
                stack.push(opening.pop_all())
                return files


def _lines(files: Iterable[tuple[str, BinaryIO]]) -> Iterator[tuple[Place, bytes]]:
    for name, file in files:
        for number, line in enumerate(file, 1):
            yield Place(name, number), line


def verify_lines(
    key: bytes, lines: Iterable[tuple[Place, bytes]], sealed: tuple[int, bytes] | None, told: Head | None = None
) -> Verdict:
    """Verify lines in the order of the files."""
    check = _Check(key, sealed, told)
    for place, line in lines:
        check.take(place, line)
    return check.end()


class _Check:
    """The state of a verification between two lines."""

    def __init__(self, key: bytes, sealed: tuple[int, bytes] | None, told: Head | None) -> None:
        self._key = key
        self._sealed = sealed
        self._told = told
        self._verdict = Verdict()
        self._before = Head(0, START)  # the last sound line
        self._strange = 0  # lines since then that the key did not write
        self._torn: Place | None = None  # a line without a line break, which is the last one if it is forgiven
        self._missing: list[range] = []
        self._removed = 0  # the last line that made room for new ones

    def take(self, place: Place, line: bytes) -> None:
        self._verdict.lines += 1
        if self._torn is not None:
            self._find_strange(self._torn)
        self._torn = None
        found = checked(self._key, line)
        if found is not None:
            self._take_sound(place, found)
        elif line.endswith(b"\n"):
            self._find_strange(place)
        else:
            self._torn = place

    def _find_strange(self, place: Place) -> None:
        self._strange += 1
        self._verdict.find(f"{place}: changed, or not written by the network")

    def _take_sound(self, place: Place, line: Line) -> None:
        verdict, expected = self._verdict, self._before.number + 1
        if line.number < expected:
            self._take_from_missing(place, line.number)
            return
        skipped = line.number - expected
        if skipped > self._strange:
            self._missing.append(range(expected, line.number))
        elif skipped == 0 and not self._strange and line.prev != self._before.mac[:32]:
            verdict.find(f"{place}: record {line.number} does not follow record {self._before.number} of this file")
        verdict.first = verdict.first or line.number
        verdict.last = line.number
        self._before, self._strange = line.head, 0
        self._note(place, line)

    def _take_from_missing(self, place: Place, number: int) -> None:
        """Report a line that stands after a later one: it was moved, or is there twice."""
        for position, gap in enumerate(self._missing):
            if number in gap:
                self._missing[position : position + 1] = [
                    part for part in (range(gap.start, number), range(number + 1, gap.stop)) if part
                ]
                self._verdict.find(f"{place}: record {number} stands behind record {self._before.number}")
                return
        self._verdict.find(f"{place}: record {number} is there a second time, or was moved")

    def _note(self, place: Place, line: Line) -> None:
        if line.record.get("what") == REMOVED:
            self._removed = max(self._removed, line.record["detail"]["until"])
        known, told = self._sealed, self._told
        if (
            known is not None
            and known[0] == line.number
            and not hmac.compare_digest(seal(self._key, line.head), known[1])
        ):
            self._verdict.find(f"{place}: record {line.number} is not the one that the journal knows")
        if told is not None and told.number == line.number and not line.mac.startswith(told.mac):
            self._verdict.find(f"{place}: record {line.number} is not the one that was noted ({told.mac})")

    def end(self) -> Verdict:
        verdict = self._verdict
        self._check_beginning()
        for gap in self._missing:
            verdict.find(f"{_records(gap)} missing: removed")
        self._check_end()
        return verdict

    def _check_beginning(self) -> None:
        first = self._missing[0] if self._missing and self._missing[0].start == 1 else None
        if first is None or not self._removed:
            return
        left = range(self._removed + 1, first.stop)
        self._missing[:1] = [left] if left else []
        if not left:
            self._verdict.notes.append(f"{_records(range(1, first.stop))} gone: they made room for new ones")

    def _check_end(self) -> None:
        verdict, last = self._verdict, self._before.number
        known = 0 if self._sealed is None else self._sealed[0]
        if self._torn is not None and known > last + self._strange:
            self._find_strange(self._torn)
        elif self._torn is not None:
            verdict.notes.append(f"{self._torn}: torn, as a power failure leaves the last line; it does not count")
        self._check_cut(known, "the journal knows of")
        if self._told is not None:
            self._check_cut(self._told.number, "somebody noted")
        if self._sealed is None:
            verdict.notes.append("the journal knows of no record: lines that were cut off the end cannot be found")

    def _check_cut(self, known: int, who: str) -> None:
        last = self._before.number
        if known > last + self._strange:
            self._verdict.find(f"{_records(range(last + 1, known + 1))} missing at the end: {who} record {known}")


def _records(numbers: range) -> str:
    if len(numbers) == 1:
        return f"record {numbers.start} is"
    return f"records {numbers.start} to {numbers.stop - 1} are"
