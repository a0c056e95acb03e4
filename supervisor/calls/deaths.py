"""What is known of an event from the processes that died with it."""

from __future__ import annotations

from dataclasses import dataclass, field

from ..journal import IN_TURN, LAST, LAST_ALONE, UNPROVEN, Record


@dataclass(slots=True, eq=False)
class Deaths:
    """The processes that died with one event, as far as they count; see `blame`.

    Attributes:
        charges: deaths that the event is to blame for.
        unproven: deaths for which it may be to blame: it ran alone, and somebody else may have
            killed the process.
        is_suspect: it is tried when no other event is in flight, together with its group.
        is_last: it is tried after all other events.
        group: events that are tried together have the same.
        is_back: it had a slot in its trial, and its incarnation ended before it was sent.
    """

    charges: int = 0
    unproven: int = 0
    is_suspect: bool = False
    is_last: bool = False
    group: object = field(default_factory=object)
    is_back: bool = False

    def is_enough(self, max_attempts: int) -> bool:
        """Whether the event is given up."""
        return self.charges >= max_attempts or self.charges + self.unproven >= max(max_attempts, UNPROVEN)

    @classmethod
    def of(cls, record: Record, group: object) -> Deaths:
        """Return what a record of the journal tells.

        Args:
            group: shared by the events that are tried last, but need not be alone.
        """
        is_last = record.turn != IN_TURN
        deaths = cls(record.charges, record.unproven, is_suspect=is_last, is_last=is_last)
        if record.turn == LAST:
            deaths.group = group
        return deaths

    def record(self, attempt: int) -> Record:
        """Return the record for the journal, with the attempt that comes next."""
        turn = LAST_ALONE if self.is_last else LAST if self.is_suspect else IN_TURN
        return Record(attempt, self.charges, self.unproven, turn)
