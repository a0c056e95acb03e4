"""Account for every event: it gets a number, it is settled once, it is counted."""

from __future__ import annotations

import time
from array import array
from collections import Counter
from collections.abc import Iterator

from modvisor.ipc.errors import Code
from modvisor.supervisor import EventResponse

OPEN, ANSWERED = 0, 1
_CODES = [str(code) for code in Code]
_FIRST_CODE = 2
PENDING = _FIRST_CODE + _CODES.index(Code.PENDING)


class Ledger:
    """The account of the events of one run, by number.

    Its memory is allocated and touched in advance, so that it does not look like a leak.

    Attributes:
        sent: how many events so far; their numbers are 0 to `sent` - 1.
        told_twice: numbers that were settled twice.
        nameless: numbers of failures without a known code.
        letters: number of each dead letter to the number of its event.
    """

    def __init__(self, capacity: int) -> None:
        self.sent = 0
        self.told_twice: list[int] = []
        self.nameless: list[int] = []
        self.letters: dict[int, int] = {}
        self.late = 0
        self._mods: list[str] = []
        self._mod = bytearray(capacity)
        self._agent = bytearray(capacity)
        self._outcome = bytearray(capacity)
        self._at = array("d", bytes(8 * capacity))
        self._open = 0

    def open(self, mod_id: str, agent: int) -> int:
        """Enter a new event for a mod. Return its number."""
        number, self.sent = self.sent, self.sent + 1
        if mod_id not in self._mods:
            self._mods.append(mod_id)
        self._mod[number], self._agent[number] = self._mods.index(mod_id), agent
        self._open += 1
        return number

    def settle(self, number: int, response: EventResponse) -> None:
        """Note that the sender was told how an event ended."""
        outcome = self._outcome_of(number, response)
        if self._outcome[number] not in (OPEN, PENDING) or outcome == self._outcome[number] == PENDING:
            self.told_twice.append(number)
            return
        self.late += self._outcome[number] == PENDING
        self._open -= outcome != PENDING
        self._outcome[number], self._at[number] = outcome, time.monotonic()
        if response.error == Code.DEAD_LETTERED:
            self.letters[response.data["dead_letter"]] = number

    def _outcome_of(self, number: int, response: EventResponse) -> int:
        if response.success:
            return ANSWERED
        if response.error not in _CODES:
            self.nameless.append(number)
            return _FIRST_CODE + _CODES.index(Code.INTERNAL)
        return _FIRST_CODE + _CODES.index(response.error)

    @property
    def unsettled(self) -> int:
        """Return how many events have no answer yet, late answers included."""
        return self._open

    def lost(self) -> list[int]:
        """Return the numbers of events without an answer."""
        return [number for number in range(self.sent) if self._outcome[number] in (OPEN, PENDING)]

    def mod(self, number: int) -> str:
        return self._mods[self._mod[number]]

    def agent(self, number: int) -> int:
        return self._agent[number]

    def outcome(self, number: int) -> str:
        """Return `answered`, `open` or a code."""
        return _name(self._outcome[number])

    def settled_at(self, number: int) -> float:
        """Return the monotonic seconds at which an event was settled."""
        return self._at[number]

    def numbers(self, outcome: str) -> Iterator[int]:
        return (number for number in range(self.sent) if self.outcome(number) == outcome)

    def counts(self, mods: list[str]) -> Counter[str]:
        """Count how the events for these mods ended."""
        wanted = {self._mods.index(mod_id) for mod_id in mods if mod_id in self._mods}
        found = Counter(self._outcome[number] for number in range(self.sent) if self._mod[number] in wanted)
        return Counter({_name(outcome): count for outcome, count in found.items()})


def _name(outcome: int) -> str:
    return {OPEN: "open", ANSWERED: "answered"}.get(outcome) or _CODES[outcome - _FIRST_CODE]
