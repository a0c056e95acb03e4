"""Operators' tokens while no network runs: the journal is changed under the owner's lock, and the audit told."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from ...agents import OperatorTokens, Scope
from ...config import AuditConfig
from ...journal import Journal, LastRun, StateDir
from ..client.target import audit_config
from ..settings import Settings
from ..terminal.exits import CliError
from .audited import audited, owned_journal, who


def tokens_at_rest(settings: Settings, storage: Path, nobody: CliError, run: Callable[[TokensAtRest], Any]) -> Any:
    """Return what ``run`` returns.

    Raises:
        CliError: no network has left a state; another program has it; or what the tokens say.
    """
    with owned_journal(storage, nobody) as (state, journal, kept):
        config = audit_config(settings, "how the audit is kept, and tokens are told to it")
        return run(TokensAtRest(state, journal, kept, config))


class TokensAtRest:
    """The tokens in a journal that no network uses."""

    def __init__(self, state: StateDir, journal: Journal, kept: LastRun, config: AuditConfig) -> None:
        self._journal = journal
        self._tokens = OperatorTokens(kept.tokens)
        self._root = state.root
        self._config = config
        self._sealed = kept.audit_head

    def create(self, name: str, scope: str, lasts: float | None, *, payloads: bool = False) -> dict[str, Any]:
        made, secret = self._tokens.make(name, Scope.of(scope), lasts, who(), payloads=payloads)
        detail = {"scope": made.scope.word, "payloads": made.reads_payloads, "expires_at": made.expires_at}
        self._change("token.create", name, "token", made.to_row(), detail)
        return {"success": True, "message": f"token {name} made", "data": {"name": name, **detail, "token": secret}}

    def list(self) -> list[dict[str, object]]:
        return self._tokens.described()

    def revoke(self, name: str) -> dict[str, Any]:
        self._tokens.revoke(name)
        self._change("token.revoke", name, "revoke_token", {"name": name}, {})
        return {"success": True, "message": f"token {name} revoked", "data": {"name": name}}

    def _change(self, what: str, name: str, kind: str, row: dict[str, Any], detail: dict[str, Any]) -> None:
        async def keep() -> None:
            _, kept = self._journal.together(what, lambda: self._journal.record(kind, row))
            await kept

        keep_head = self._journal.keep_audit_head
        audited(self._root, self._config, self._sealed, keep, what, name, detail, keep_head)
