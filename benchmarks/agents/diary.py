"""What one agent has done, line by line in a file that outlives its process.

A line is one write, so a kill leaves whole lines. What an agent does counts when its line is there:

    secret SECRET          it is registered
    send ID TO             it is about to send this event
    done ID                the event was answered: it has reached one inbox
    got CURSOR ID MS       it has handled this event, so many milliseconds after it was sent; - if it was away then
    told EVENTS            the network says that so many events for it were lost
"""

from __future__ import annotations

import os
from pathlib import Path


class Diary:
    """The diary of one agent, and what it says.

    Attributes:
        unanswered: by its id, to whom each event goes whose answer is not there.
    """

    def __init__(self, file: Path) -> None:
        self.secret = ""
        self.cursor: str | None = None
        self.unanswered: dict[str, str] = {}
        self.done: set[str] = set()
        self.got: list[str] = []
        self.waited: list[float] = []
        self.told = 0
        for line in file.read_text().splitlines() if file.exists() else ():
            self._read(line.split())
        self._file = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def write(self, *words: object) -> None:
        line = [str(word) for word in words]
        os.write(self._file, (" ".join(line) + "\n").encode())
        self._read(line)

    def close(self) -> None:
        os.close(self._file)

    def _read(self, words: list[str]) -> None:
        match words:
            case ["secret", secret]:
                self.secret = secret
            case ["send", event, to]:
                self.unanswered[event] = to
            case ["done", event]:
                self.unanswered.pop(event, None)
                self.done.add(event)
            case ["got", cursor, event, waited]:
                self.cursor = cursor
                self.got.append(event)
                if waited != "-":
                    self.waited.append(float(waited))
            case ["told", events]:
                self.told += int(events)
