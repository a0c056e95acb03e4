"""Operators' tokens while no network runs: the journal is changed under the owner's lock, and the audit told."""

from __future__ import annotations

import asyncio
import getpass
import os
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from ...ipc.errors import ModvisorError
from ..agents import OperatorTokens, Scope
from ..audit import Audit, acting
from ..config import AuditConfig, ConfigError, load_config
from ..journal import Journal, LastRun, StateDir, StateDirBusy
from .exits import CliError, ExitCode
from .settings import Settings


def tokens_at_rest(settings: Settings, storage: Path, nobody: CliError, run: Callable[[TokensAtRest], Any]) -> Any:
    """Return what ``run`` returns.

    Raises:
        CliError: no network has left a state; another program has it; or what the tokens say.
    """
    state = StateDir(storage)
    if not state.database.exists():
        raise CliError(ExitCode.NO_NETWORK, f"{nobody}; and none has left a journal at {state.database}")
    with ExitStack() as opened:
        try:
            state.acquire()
            opened.callback(state.release)
            journal = Journal(state.database)
            kept = journal.open()
            opened.callback(journal.close)
            return run(TokensAtRest(state, journal, kept, _audit_config(settings)))
        except StateDirBusy as error:
            raise CliError(ExitCode.ALREADY_RUNNING, f"{error}; it serves no admin API") from None
        except (ModvisorError, OSError) as error:
            raise CliError(ExitCode.FAILED, str(error)) from None


def _audit_config(settings: Settings) -> AuditConfig:
    try:
        return load_config(settings.network_file).audit
    except ConfigError as error:
        text = f"the file does not say how the audit is kept, and tokens are told to it\n{error}"
        raise CliError(ExitCode.BAD_CONFIG, text) from None


class TokensAtRest:
    """The tokens in a journal that no network uses."""

    def __init__(self, state: StateDir, journal: Journal, kept: LastRun, config: AuditConfig) -> None:
        self._journal = journal
        self._kept = kept
        self._tokens = OperatorTokens(kept.tokens)
        self._who = f"command:uid {os.getuid()} ({_user()})"
        self._audit = Audit(state.root, lambda: config, journal.keep_audit_head, "modvisor")

    def create(self, name: str, scope: str, lasts: float | None) -> dict[str, Any]:
        made, secret = self._tokens.make(name, Scope.of(scope), lasts, self._who)
        detail = {"scope": made.scope.word, "expires_at": made.expires_at}
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

        async def audited() -> None:
            await self._audit.open(self._kept.audit_head)
            with acting(self._who):
                await self._audit.audited(what, name, keep, detail)
            await self._audit.close()

        asyncio.run(audited())


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a user without a name
        return "?"
