"""Answers that were given to other nodes of late, for a node that lost its connection and asks again."""

from __future__ import annotations

from collections import deque
from typing import Any

from .frames import Passage

MOST = 4096
MOST_BYTES = 16 * 1024 * 1024
_OVERHEAD = 512


class Recent:
    """Answers by question, bounded in number and bytes; the oldest are forgotten first."""

    def __init__(self, most: int = MOST, most_bytes: int = MOST_BYTES) -> None:
        self._most = most
        self._most_bytes = most_bytes
        self._answers: dict[Passage, Any] = {}
        self._order: deque[Passage] = deque()
        self._bytes = 0
        self._forgotten: dict[str, int] = {}  # by asker: the greatest number that was forgotten

    def __contains__(self, passage: Passage) -> bool:
        return passage in self._answers

    def __getitem__(self, passage: Passage) -> Any:
        return self._answers[passage]

    def is_known(self, passage: Passage) -> bool:
        """Whether it can be told if the question was answered here."""
        asker, number = passage
        return passage in self._answers or number > self._forgotten.get(asker, 0)

    def add(self, passage: Passage, answer: Any) -> None:
        answers = self._answers
        if passage in answers:
            self._bytes -= _size(answers[passage])
        else:
            self._order.append(passage)
        answers[passage] = answer
        self._bytes += _OVERHEAD + len(answer) if type(answer) is bytes else _OVERHEAD
        while len(answers) > self._most or (self._bytes > self._most_bytes and answers):
            self._forget()

    def _forget(self) -> None:
        passage = self._order.popleft()
        self._bytes -= _size(self._answers.pop(passage))
        asker, number = passage
        greatest = max(number, self._forgotten.pop(asker, 0))
        self._forgotten[asker] = greatest  # put last: the runs that asked long ago go first
        if len(self._forgotten) > self._most:
            del self._forgotten[next(iter(self._forgotten))]


def _size(answer: Any) -> int:
    return _OVERHEAD + (len(answer) if type(answer) is bytes else 0)
