"""What is recorded of the requests to a network, and who may operate it from elsewhere."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeVar

from ..ipc.errors import Code
from ..ipc.event import Event, EventResponse
from .agents import OperatorTokens, RefusalLog, Scope
from .audit import Actor, NotAudited, actor
from .config import NetworkConfig
from .inspection import Parts
from .overview import Overview
from .progress import UnderWay

T = TypeVar("T")


class Audited(Overview):
    """The audit of a network, its log of refusals, and its operators' tokens."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__(config)
        self.refusals = RefusalLog()
        self.under_way = UnderWay()
        self._tokens_change = asyncio.Lock()  # two changes of one name would undo each other

    # -- the audit

    async def audited(
        self,
        what: str,
        *,
        do: Callable[[], Awaitable[T]],
        on: str | None = None,
        detail: Mapping[str, Any] | None = None,
        mode: str | None = None,
    ) -> T:
        """Do something that changes the network, and record it with its outcome.

        Who does it says `audit.acting`.

        Args:
            what: its name, such as `mod.load`.
            on: what it is done to.
            detail: plain data without secrets.
            mode: instead of `audit.mode`.

        Returns:
            What ``do`` returns.

        Raises:
            NotAudited: the mode is strict and the audit cannot be written; ``do`` was not called.
            ModvisorError: not_running. Whatever ``do`` raises.
        """
        audit = self._running().audit
        with self.under_way.begun(what, on):
            return await audit.audited(what, on, do, detail, mode)

    def audit_note(
        self,
        what: str,
        *,
        on: str | None = None,
        outcome: str = "ok",
        detail: Mapping[str, Any] | None = None,
        by: Actor | None = None,
    ) -> None:
        """Record what has happened. Does not wait for the disk."""
        if self._parts is not None:
            self._parts.audit.note(what, on, outcome, detail, by)

    async def _recorded(
        self, what: str, on: str, do: Callable[[Parts], Awaitable[EventResponse]], **detail: Any
    ) -> EventResponse:
        """Do the same for a request whose failures are responses."""
        if (parts := self._parts) is None:
            return not_running()
        given = {key: value for key, value in detail.items() if value is not None}
        try:
            return await self.audited(what, on=on, do=lambda: do(parts), detail=given)
        except NotAudited as error:
            return EventResponse.failure(error.code, str(error))

    # -- refusals

    def note_refused(self, event: Event, why: str, code: str = Code.FORBIDDEN, address: str | None = None) -> None:
        """Count and log an event that its sender was not allowed to send."""
        self.counters.refused += 1
        self.refusals.note_event(event, why, code, address)

    def note_refusal(self, kind: str, who: str, text: str) -> None:
        """Count and log a request that was refused; see `RefusalLog.note`."""
        self.counters.refused += 1
        self.refusals.note(kind, who, text)

    def count_refusal(self, kind: str, who: str, text: str) -> None:
        """Count a request that was refused, and that somebody else logs."""
        self.counters.refused += 1
        self.refusals.count(kind, who, text)

    # -- operators

    async def create_token(
        self, name: str, scope: str, lasts: float | None = None, *, payloads: bool = False
    ) -> dict[str, Any]:
        """Make a token for an operator.

        Args:
            scope: read, operate or admin.
            lasts: seconds; None: it never expires.
            payloads: it may read what events carry; `admin` may in any case.

        Returns:
            name, scope, payloads, expires_at, and token: what the operator must send. It cannot be read again.

        Raises:
            ModvisorError: bad_input, conflict: the name is taken; storage_full; not_running.
        """
        async with self._tokens_change:
            parts = self._running()
            made, secret = parts.tokens.make(name, Scope.of(scope), lasts, actor().who, payloads=payloads)

            async def keep() -> None:
                _, kept = parts.journal.together("token", lambda: parts.journal.record("token", made.to_row()))
                await kept
                parts.tokens.enter(made)

            detail = {"scope": made.scope.word, "payloads": made.reads_payloads, "expires_at": made.expires_at}
            await self.audited("token.create", on=name, do=keep, detail=detail)
            return {"name": name, **detail, "token": secret}

    async def revoke_token(self, name: str) -> None:
        """Forget an operator's token, from now on.

        Raises:
            ModvisorError: not_found, storage_full, not_running.
        """
        async with self._tokens_change:
            parts = self._running()

            async def revoke() -> None:
                token = parts.tokens.revoke(name)
                try:
                    row = {"name": name}
                    _, kept = parts.journal.together("token", lambda: parts.journal.record("revoke_token", row))
                    await kept
                except BaseException:
                    parts.tokens.enter(token)
                    raise

            await self.audited("token.revoke", on=name, do=revoke)

    def tokens_in_force(self) -> OperatorTokens:
        return self._parts.tokens if self._parts is not None else OperatorTokens()

    def list_tokens(self) -> list[dict[str, object]]:
        """Return what people see of each operator's token. Raises `ModvisorError` (not_running)."""
        return self._running().tokens.described()


def not_running(event: Event | None = None) -> EventResponse:
    text = "the network is not running (not initialized yet, or shutting down)"
    response = EventResponse.failure(Code.NOT_RUNNING, text)
    response.event_name = event.event_name if event is not None else None
    return response
