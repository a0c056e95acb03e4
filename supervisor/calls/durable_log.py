"""What accepted events, dead letters and checkpoints are kept in, as those who use it see it.

On one machine it is the journal (`journal.Journal`). In a cluster it is JetStream, so that another
node can go on. `tests/journal/kept_contract.py` holds both to the same behavior.
"""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any, Protocol

from ...ipc.event import Event
from ..journal import Checkpoint, DeadLetter, DurableEvent, LetterHead, Record


class DurableLog(Protocol):
    """Keeps the events that durable mods have accepted, until they are answered.

    A method that is not awaited returns at once. Its change is kept soon, in the order of the calls.
    """

    def accept(self, mod_id: str, event: Event, owner: str | None = None) -> Awaitable[int]:
        """Keep an event, and return its number. See `Journal.accept`."""
        ...

    def charge(self, seq: int, record: Record) -> None:
        """Remember which attempt of event ``seq`` comes next, and what counts against it."""
        ...

    def answered(self, seq: int, answer: bytes | None = None) -> None:
        """Forget event ``seq``, which is done, and remember its answer for retries."""
        ...

    def pending(self, mod_id: str, after: int = 0, limit: int = 1000) -> Awaitable[list[DurableEvent]]:
        """Return the first ``limit`` unanswered events of a mod above number ``after``, in order."""
        ...


class LetterStore(Protocol):
    """Keeps dead letters."""

    def bury(self, letter: DeadLetter, *, seq: int | None = None) -> Awaitable[int]:
        """Keep a dead letter, and forget the durable event ``seq`` in the same step. See `Journal.bury`."""
        ...

    def letter_heads(
        self, mod_id: str | None = None, *, limit: int = 1000, before: int | None = None
    ) -> Awaitable[list[LetterHead]]:
        """Return the newest letters of a mod, or of all, without their large parts."""
        ...

    def dead_letter(self, letter_id: int) -> Awaitable[DeadLetter | None]: ...

    def forget_dead_letters(
        self, *, letter_id: int | None = None, mod_id: str | None = None, older_than: float | None = None
    ) -> Awaitable[int]:
        """Drop the letters that meet all given conditions, and return how many."""
        ...


class CheckpointStore(Protocol):
    """Keeps the newest checkpoint of each mod."""

    def save_checkpoint(self, mod_id: str, version: str, state: Any) -> Awaitable[None]:
        """Keep a state. The earlier checkpoint stays if this fails."""
        ...

    def checkpoint(self, mod_id: str) -> Awaitable[Checkpoint | None]: ...

    def checkpoint_head(self, mod_id: str) -> Awaitable[tuple[str, float, int] | None]:
        """Return version, time and bytes of the newest checkpoint, or None."""
        ...

    def drop_checkpoint(self, mod_id: str) -> None:
        """Forget the checkpoint of a mod."""
        ...
