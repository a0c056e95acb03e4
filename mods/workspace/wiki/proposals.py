"""Proposals: new content for a page that waits for an editor's decision."""

from __future__ import annotations

import json
import sqlite3
from typing import Any

from ... import Code, Refused
from ..database import transaction
from .paths import path_key
from .store import Change, PageStore

STATUSES = ("pending", "accepted", "rejected")
_HEAD = "id AS proposal_id, path, base_revision, title, rationale, author, at, status, decided_by, decided_at, reason, revision"


class ProposalStore:
    """Keeps proposals in the pages' database, so that accepting one is a single transaction."""

    def __init__(self, pages: PageStore) -> None:
        self._pages = pages
        self._connection = pages.connection

    def create(
        self, path: str, title: str | None, content: str, tags: list[str] | None, rationale: str, change: Change
    ) -> dict[str, Any]:
        """Keep a proposal for a page, which may not exist yet.

        It is based on the newest revision.
        """
        with transaction(self._connection):
            base, _ = self._pages.head(path)
            cursor = self._connection.execute(
                "INSERT INTO proposals (key, path, base_revision, title, content, tags, rationale, author, at) "
                "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    path_key(path), path, base, title, content, None if tags is None else json.dumps(tags),
                    rationale, change.author, change.at,
                ),
            )  # fmt: skip
            assert cursor.lastrowid is not None
            return self.get(cursor.lastrowid, brief=True)

    def get(self, proposal_id: int, *, brief: bool = False) -> dict[str, Any]:
        """Return a proposal, with its content unless ``brief``."""
        row = self._connection.execute(
            f"SELECT {_HEAD}, content, tags FROM proposals WHERE id = ?", (proposal_id,)
        ).fetchone()
        if row is None:
            raise Refused(f"proposal_id: there is no proposal {proposal_id}", code=Code.NOT_FOUND, field="proposal_id")
        proposal = dict(row)
        proposal["tags"] = None if row["tags"] is None else json.loads(row["tags"])
        if brief:
            del proposal["content"]
        return proposal

    def list(self, status: str | None, path: str | None, before: int, limit: int) -> list[dict[str, Any]]:
        """Return proposals without content, newest first.

        Args:
            before: return proposals with smaller ids; 0 starts with the newest.
        """
        conditions: list[str] = ["id < ?"]
        values: list[Any] = [before or 2**62]
        if status is not None:
            conditions.append("status = ?")
            values.append(status)
        if path is not None:
            conditions.append("key = ?")
            values.append(path_key(path))
        rows: list[sqlite3.Row] = self._connection.execute(
            f"SELECT {_HEAD}, length(content) AS size FROM proposals WHERE {' AND '.join(conditions)} "
            "ORDER BY id DESC LIMIT ?",
            (*values, limit),
        ).fetchall()
        return [dict(row) for row in rows]

    def accept(self, proposal_id: int, force: bool, change: Change) -> tuple[dict[str, Any], dict[str, Any]]:
        """Make a revision by the proposal's author. Return the proposal and the page."""
        with transaction(self._connection):
            proposal = self._pending(proposal_id)
            summary = change.summary or proposal["rationale"]
            page = self._pages.accept(
                proposal["path"], proposal["base_revision"], force, proposal["title"], proposal["content"],
                proposal["tags"], Change(proposal["author"], change.at, summary),
            )  # fmt: skip
            return self._decide(proposal_id, "accepted", change, None, page["revision"]), page

    def reject(self, proposal_id: int, reason: str | None, change: Change) -> dict[str, Any]:
        """Close the proposal and keep the reason with it."""
        with transaction(self._connection):
            self._pending(proposal_id)
            return self._decide(proposal_id, "rejected", change, reason, None)

    def _pending(self, proposal_id: int) -> dict[str, Any]:
        proposal = self.get(proposal_id)
        if proposal["status"] != "pending":
            raise Refused(
                f"proposal_id: {proposal['decided_by']} already {proposal['status']} proposal {proposal_id}",
                code=Code.CONFLICT, field="proposal_id", status=proposal["status"],
            )  # fmt: skip
        return proposal

    def _decide(
        self, proposal_id: int, status: str, change: Change, reason: str | None, revision: int | None
    ) -> dict[str, Any]:
        self._connection.execute(
            "UPDATE proposals SET status = ?, decided_by = ?, decided_at = ?, reason = ?, revision = ? WHERE id = ?",
            (status, change.author, change.at, reason, revision, proposal_id),
        )
        return self.get(proposal_id, brief=True)
