"""Sends the events of a JSONL file in batches and counts what became of them."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, BinaryIO

from ....ipc.errors import InvalidEvent
from ....ipc.event import Event
from ...causes import cause
from ..terminal.exits import CliError, ExitCode
from .client import Client

BATCH_EVENTS = 500  # a batch waits for its slowest event: long batches hide that wait, short ones show progress
BATCH_BYTES = 1_000_000  # of JSON
MAX_LINE = 32 * 1024 * 1024  # bytes; a longer line is a file without line ends, not an event
MAX_MALFORMED = 1000  # lines described in the summary; all are counted

Moved = Callable[[int], None]
"""Called with the number of bytes of the file that were done since the last call."""


@dataclass(slots=True)
class Summary:
    """The outcomes of the events.

    Attributes:
        answered: by a mod; ``delivered``: not answered, put into inboxes, of ``deliveries`` agents all together.
        failed: how many by error code.
        malformed: the first lines that are no events: ``{"line", "reason"}``; all of them count in ``skipped``.
    """

    events: int = 0
    answered: int = 0
    delivered: int = 0
    deliveries: int = 0
    failed: Counter[str] = field(default_factory=Counter)
    malformed: list[dict[str, Any]] = field(default_factory=list)
    skipped: int = 0
    started: float = field(default_factory=time.monotonic)
    seconds: float = 0.0

    def add(self, result: dict[str, Any]) -> None:
        """Count one result of the batch request."""
        self.events += 1
        self.seconds = time.monotonic() - self.started
        if not result.get("success"):
            self.failed[str(result.get("error") or "failed")] += 1
        elif result.get("delivered") is None:
            self.answered += 1
        else:
            self.delivered += 1
            self.deliveries += result["delivered"]

    def skip(self, number: int, reason: str) -> None:
        self.skipped += 1
        if len(self.malformed) < MAX_MALFORMED:
            self.malformed.append({"line": number, "reason": reason})

    @property
    def troubled(self) -> bool:
        return bool(self.failed or self.skipped)

    def sentence(self) -> str:
        return f"interrupted after {self.events} events, {self.failed.total()} of them failed"

    def to_dict(self) -> dict[str, Any]:
        return {
            "success": not self.troubled,
            "events": self.events,
            "answered": self.answered,
            "delivered": self.delivered,
            "deliveries": self.deliveries,
            "failed": dict(self.failed.most_common()),
            "malformed": self.malformed,
            "malformed_count": self.skipped,
            "seconds": round(self.seconds, 3),
            "events_per_second": round(self.events / self.seconds, 1) if self.seconds else 0.0,
        }


class Replay:
    """One pass over a file. Batches follow each other, so that no event overtakes another one of its source.

    Args:
        how: ``concurrency`` and ``in_order`` of the batch request.
        on_malformed: told of each line that is no event.
    """

    def __init__(
        self, client: Client, how: dict[str, Any], *, new_ids: bool, on_malformed: Callable[[str], None]
    ) -> None:
        self.summary = Summary()
        self._client = client
        self._how = how
        self._new_ids = new_ids
        self._on_malformed = on_malformed

    def send(self, source: BinaryIO, moved: Moved) -> None:
        """Send every event of ``source``; raises `CliError` if the network cannot be asked."""
        batch: list[dict[str, Any]] = []
        held = 0
        for number, line in _lines(source):
            held += len(line)
            event = self._event(number, line)
            if event is not None:
                batch.append(event)
            if len(batch) >= BATCH_EVENTS or held >= BATCH_BYTES:
                self._flush(batch)
                moved(held)
                batch, held = [], 0
        self._flush(batch)
        moved(held)

    def _flush(self, batch: list[dict[str, Any]]) -> None:
        if not batch:
            return
        answer = self._client.post("/events/batch", {"events": batch, **self._how})
        for result in answer["results"]:
            self.summary.add(result)

    def _event(self, number: int, line: bytes) -> dict[str, Any] | None:
        if not line.strip():
            return None
        try:
            return parse_line(line, new_id=self._new_ids)
        except ValueError as error:  # InvalidEvent is one
            self.summary.skip(number, str(error))
            self._on_malformed(f"line {number}: {error}")
            return None


def parse_line(line: bytes, *, new_id: bool = False) -> dict[str, Any]:
    """Return the event of one line: plain data, or a record of ``modvisor events --json``. Raises ValueError."""
    if len(line) > MAX_LINE:
        raise ValueError(f"longer than {MAX_LINE} bytes; is it one event per line?")
    try:
        data = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"not JSON: {error}") from None
    if isinstance(data, dict) and isinstance(data.get("event"), dict):
        data = data["event"]
    try:
        Event.from_dict(data)
    except TypeError as error:
        raise InvalidEvent(f"event: {error}") from None
    if new_id:
        data.pop("event_id", None)
    return data


def _lines(source: BinaryIO) -> Iterator[tuple[int, bytes]]:
    """Yield numbered lines; of a line that is too long only the beginning, so that memory stays bounded."""
    number = 0
    while line := source.readline(MAX_LINE + 1):
        number += 1
        yield number, line
        while len(line) > MAX_LINE and not line.endswith(b"\n"):
            line = source.readline(MAX_LINE + 1)


@contextlib.contextmanager
def open_events(name: str) -> Iterator[BinaryIO]:
    """Open the file, or standard input for ``-``; raises `CliError` if it cannot be read."""
    if name == "-":
        yield sys.stdin.buffer
        return
    try:
        file = open(name, "rb")  # noqa: SIM115 - errors of the body are not errors of opening
    except OSError as error:
        raise CliError(ExitCode.USAGE, f"cannot read {name}: {cause(error, name)}") from None
    with file:
        yield file


@contextlib.contextmanager
def progress(source: BinaryIO, *, shown: bool) -> Iterator[Moved]:
    """Show a progress bar on a terminal, by bytes: the number of lines is known only at the end."""
    if not shown or not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn

    from ..terminal.output import console

    columns = ("replaying", BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=_size_of(source))
        yield lambda moved: bar.advance(task, moved)


def _size_of(source: BinaryIO) -> int | None:
    try:
        status = os.fstat(source.fileno())
    except OSError:
        return None
    return status.st_size or None
