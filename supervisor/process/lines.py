"""Bytes that a process prints become lines of text.

A line ends with a line break, with the process, or when its text has stood for a while: a question,
a progress bar, or the last words before a crash have no line break. What follows a carriage return
overwrites what precedes it, as on a terminal: a progress bar is one line, in its newest state.
"""

from __future__ import annotations

import asyncio
import codecs
from collections.abc import Callable

MAX_LINE = 16 * 1024
"""Bytes kept of one line: a long line of a traceback fits, a dumped data structure does not."""

STANDS = 0.25
"""Seconds after which text without a line break becomes a line."""

BAR = 1.0
"""Seconds after which a progress bar that still moves becomes a line, so that one can see it move."""


class LineSplitter:
    """Splits bytes into lines of text. Holds one unfinished line of bounded length."""

    def __init__(self) -> None:
        self._held = bytearray()
        self._dropped = 0  # bytes of the unfinished line beyond the cap
        self._returned = False  # a carriage return came: a line break may follow, or text that overwrites
        self._is_interrupted = False  # the text was taken before its line break, which may follow
        self.overwrites = False  # the unfinished line has overwritten text: it is a progress bar

    def feed(self, data: bytes) -> list[str]:
        if self._is_interrupted and data:
            self._is_interrupted = False
            data = data.removeprefix(b"\r\n") if data.startswith(b"\r") else data.removeprefix(b"\n")
        lines: list[str] = []
        for start in range(0, len(data), MAX_LINE):
            lines += self._feed(data[start : start + MAX_LINE])
        return lines

    def _feed(self, data: bytes) -> list[str]:
        """Take at most `MAX_LINE` bytes, so that no line between two breaks in them can be too
        long.
        """
        begin, end = data.find(b"\n") + 1, data.rfind(b"\n") + 1
        if not end:
            self._hold(data)
            return []
        self._hold(data[: begin - 1])
        lines = [self._take()]
        if begin < end:  # decode all at once: no other character contains a line break
            text = data[begin:end].decode(errors="replace")
            more = text[:-1].split("\n")
            lines += map(_last_state, more) if "\r" in text else more
        self._hold(data[end:])
        return lines

    @property
    def has_text(self) -> bool:
        """Whether the unfinished line has any text."""
        return bool(self._held)

    def interrupt(self) -> list[str]:
        """Return the unfinished line as it is. What follows is a line of its own."""
        if not self._held:
            return []
        self._is_interrupted = True
        return [self._take()]

    def end(self) -> list[str]:
        """Return the unfinished line, if there is one."""
        self._is_interrupted = False
        return [self._take()] if self._held or self._returned else []

    def _hold(self, piece: bytes) -> None:
        if piece and (self._returned or b"\r" in piece):
            piece = self._overwrite(piece)
        room = MAX_LINE - len(self._held)
        self._held += piece[:room]
        self._dropped += max(0, len(piece) - room)

    def _overwrite(self, piece: bytes) -> bytes:
        """Forget what a piece with carriage returns overwrites. Return the rest of the piece."""
        text = piece.rstrip(b"\r")
        begin = text.rfind(b"\r") + 1
        if text and (begin or self._returned):
            self.overwrites = True
            self._held.clear()
            self._dropped = 0
        self._returned = len(text) < len(piece)
        return text[begin:]

    def _take(self) -> str:
        line, dropped = bytes(self._held), self._dropped
        self._held.clear()
        self._dropped = 0
        self._returned = self.overwrites = False
        if not dropped:
            return line.decode(errors="replace")
        # The incremental decoder drops a character that the cut split.
        text = codecs.getincrementaldecoder("utf-8")("replace").decode(line)
        return f"{text} [... {dropped} bytes cut]"


def _last_state(line: str) -> str:
    return line.rstrip("\r").rpartition("\r")[2]


class OutputLines:
    """The lines of one process, published as they come.

    Args:
        publish: takes the lines.
        stands: seconds after which text without a line break becomes a line.
    """

    def __init__(self, publish: Callable[[list[str]], None], stands: float = STANDS) -> None:
        self._publish = publish
        self._stands = stands
        self._splitter = LineSplitter()
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._since = 0.0  # when the unfinished line began
        self._fed = 0.0  # when anything came last

    def feed(self, data: bytes) -> None:
        """Take output of the process."""
        lines = self._splitter.feed(data)
        if lines:
            self._publish(lines)
        if self._splitter.has_text:
            self._fed = self._loop.time()
            if lines or self._timer is None:
                self._since = self._fed
            if self._timer is None:
                self._timer = self._loop.call_later(self._stands, self._look)

    def end(self) -> None:
        """Take an unfinished line as it is: the process has ended."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if lines := self._splitter.end():
            self._publish(lines)

    def _look(self) -> None:
        self._timer = None
        if not self._splitter.has_text:
            return
        due = self._fed + self._stands
        if self._splitter.overwrites:
            due = min(due, self._since + max(BAR, self._stands))
        if due <= self._loop.time():
            self._publish(self._splitter.interrupt())
        else:
            self._timer = self._loop.call_at(due, self._look)
