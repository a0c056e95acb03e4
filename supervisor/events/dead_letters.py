"""Events that were given up because a mod died of them, kept with the crash report, for people to look at and try again."""

from __future__ import annotations

import logging
import time
from dataclasses import asdict
from typing import Any

from ...ipc.errors import Code, ModvisorError
from ...ipc.event import Event, EventResponse
from ..calls import Journey
from ..fleet import ModRegistry
from ..journal import DeadLetter, Journal
from ..process import CrashReport
from .gateway import Gateway

logger = logging.getLogger("modvisor.dead_letters")


class LetterLedger:
    """What a caller tells about events that died with an incarnation, put into the journal."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal

    def charge(self, journey: Journey) -> None:
        """The event is about to be tried again; a durable one remembers that over a restart."""
        if journey.seq is not None:
            self._journal.charge(journey.seq, journey.attempt)

    async def bury(self, journey: Journey, mod_id: str, reason: str, report: CrashReport | None) -> int | None:
        """Keep the event as a dead letter; its number, or None if the journal cannot take it."""
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
            return await self._journal.bury(letter, seq=journey.seq)
        except ModvisorError as error:
            logger.error("event %s of mod %s was given up and could not be kept: %s",
                         journey.event.event_id, mod_id, error)  # fmt: skip
            return None


class DeadLetters:
    """The dead-letter store, as the operator sees it."""

    def __init__(self, journal: Journal, mods: ModRegistry, gateway: Gateway) -> None:
        self._journal = journal
        self._mods = mods
        self._gateway = gateway
        self._replaying: set[int] = set()

    async def list(
        self, mod_id: str | None = None, *, limit: int = 1000, before: int | None = None
    ) -> list[dict[str, Any]]:
        """The newest first, without payloads and crash reports: letter_id, mod_id, event (event_id, event_name, source_id,
        destination_id), attempts, code, reason, size (bytes), at; ``before``: only those with smaller numbers."""
        return [asdict(head) for head in await self._journal.letter_heads(mod_id, limit=limit, before=before)]

    async def show(self, letter_id: int) -> dict[str, Any]:
        """All of one; raises `ModvisorError` (not_found)."""
        return asdict(await self._get(letter_id))

    async def replay(self, letter_id: int) -> EventResponse:
        """Give the event to its mod again. What is answered (or passed on and delivered) is a dead letter no more.

        An event that kills again becomes a new dead letter in place of the former.

        Raises:
            ModvisorError: not_found; conflict, while it is being replayed already.
        """
        if letter_id in self._replaying:
            raise ModvisorError(f"dead letter {letter_id} is being replayed already", code=Code.CONFLICT)
        self._replaying.add(letter_id)
        try:
            return await self._replay(await self._get(letter_id), letter_id)
        finally:
            self._replaying.discard(letter_id)

    async def _replay(self, letter: DeadLetter, letter_id: int) -> EventResponse:
        keeper = self._mods.find(letter.mod_id)
        if keeper is None:
            text = f"mod {letter.mod_id}, which dead letter {letter_id} is for, is not loaded; load it first"
            return EventResponse.failure(Code.NO_SUCH_MOD, text, mod=letter.mod_id)
        response = await self._gateway.replay(Event.from_dict(letter.event), keeper)
        if response.success or response.error == Code.DEAD_LETTERED:
            await self._journal.forget_dead_letters(letter_id=letter_id)
        return response

    async def purge(
        self, *, letter_id: int | None = None, mod_id: str | None = None, older_than: float | None = None
    ) -> int:
        """Forget one, those of a mod, those older than so many seconds, or all; returns how many."""
        return await self._journal.forget_dead_letters(letter_id=letter_id, mod_id=mod_id, older_than=older_than)

    async def _get(self, letter_id: int) -> DeadLetter:
        letter = await self._journal.dead_letter(letter_id)
        if letter is None:
            raise ModvisorError(f"there is no dead letter {letter_id}", code=Code.NOT_FOUND)
        return letter
