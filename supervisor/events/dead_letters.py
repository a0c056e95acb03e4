"""Dead letters: events that were given up because a mod died of them, kept with the crash report.

A person looks at them and tries them again.
"""

from __future__ import annotations

import logging
import time
from dataclasses import asdict
from typing import Any

from ...ipc.errors import Code, ModvisorError
from ...ipc.event import Event, EventResponse
from ..calls import DurableLog, Journey, LetterStore
from ..fleet import ModRegistry
from ..journal import DeadLetter, Record
from ..process import CrashReport
from .gateway import Gateway

logger = logging.getLogger("modvisor.dead_letters")


class LetterLedger:
    """Writes into the journal what a caller tells of events that died with an incarnation."""

    def __init__(self, journal: DurableLog, letters: LetterStore) -> None:
        self._journal = journal
        self._letters = letters

    def charge(self, journey: Journey) -> None:
        """Keep the attempts of a durable event, and what counts against it, across restarts."""
        if journey.seq is not None:
            record = Record(journey.attempt) if journey.deaths is None else journey.deaths.record(journey.attempt)
            self._journal.charge(journey.seq, record)

    async def bury(self, journey: Journey, mod_id: str, reason: str, report: CrashReport | None) -> int | None:
        """Keep the event as a dead letter.

        Returns its number, or None if the journal cannot take it.
        """
        letter = DeadLetter(
            letter_id=None,
            mod_id=mod_id,
            event=journey.event.to_dict(),
            attempts=journey.attempt,
            code=Code.DEAD_LETTERED,
            reason=reason,
            report=None if report is None else report.to_dict(),
            at=time.time(),
        )
        try:
            return await self._letters.bury(letter, seq=journey.seq)
        except ModvisorError as error:
            logger.error("event %s of mod %s was given up and could not be kept as a dead letter: %s",
                         journey.event.event_id, mod_id, error)  # fmt: skip
            return None


class DeadLetters:
    """The dead letters, as an operator works with them."""

    def __init__(self, journal: LetterStore, mods: ModRegistry, gateway: Gateway) -> None:
        self._journal = journal
        self._mods = mods
        self._gateway = gateway
        self._replaying: set[int] = set()

    async def list(
        self, mod_id: str | None = None, *, limit: int = 1000, before: int | None = None
    ) -> list[dict[str, Any]]:
        """List dead letters, the newest first, without payloads and crash reports.

        Each: letter_id, mod_id, event (event_id, event_name, source_id, destination_id), attempts,
        code, reason, size (bytes), at.

        Args:
            before: list only letters with smaller numbers, to page on.
        """
        return [asdict(head) for head in await self._journal.letter_heads(mod_id, limit=limit, before=before)]

    async def show(self, letter_id: int) -> dict[str, Any]:
        """Return one dead letter with everything in it, secrets masked.

        Raises `ModvisorError` (not_found).
        """
        return self._mods.redaction.data(asdict(await self._get(letter_id)))

    async def replay(self, letter_id: int) -> EventResponse:
        """Give the event to its mod again.

        A letter that is answered, or passed on and delivered, is removed.

        An event that kills the mod again becomes a new dead letter in place of this one.

        Raises:
            ModvisorError: not_found; conflict, if the letter is being replayed already.
        """
        if letter_id in self._replaying:
            raise ModvisorError(f"dead letter {letter_id} is being replayed already", code=Code.CONFLICT)
        self._replaying.add(letter_id)
        try:
            return await self._replay(await self._get(letter_id), letter_id)
        finally:
            self._replaying.discard(letter_id)

    async def _replay(self, letter: DeadLetter, letter_id: int) -> EventResponse:
        mod = self._mods.find(letter.mod_id)
        if mod is None:
            text = f"dead letter {letter_id} is for mod {letter.mod_id}, which is not loaded; load it first"
            return EventResponse.failure(Code.NO_SUCH_MOD, text, mod=letter.mod_id)
        response = await self._gateway.replay(Event.from_dict(letter.event), mod)
        if response.success or response.error == Code.DEAD_LETTERED:
            await self._journal.forget_dead_letters(letter_id=letter_id)
        return response

    async def purge(
        self, *, letter_id: int | None = None, mod_id: str | None = None, older_than: float | None = None
    ) -> int:
        """Remove one letter, a mod's letters, letters older than so many seconds, or all.

        Returns how many.
        """
        return await self._journal.forget_dead_letters(letter_id=letter_id, mod_id=mod_id, older_than=older_than)

    async def _get(self, letter_id: int) -> DeadLetter:
        letter = await self._journal.dead_letter(letter_id)
        if letter is None:
            raise ModvisorError(f"there is no dead letter {letter_id}", code=Code.NOT_FOUND)
        return letter
