"""Proposals: new content for a page, waiting for somebody who may edit."""

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
    """Proposals in the pages' own database, so that accepting one is a single transaction."""

    def __init__(self, pages: PageStore) -> None:
        self._pages = pages
        self._connection = pages.connection

    def create(
        self, path: str, title: str | None, content: str, tags: list[str] | None, rationale: str, change: Change
    ) -> dict[str, Any]:
        """Keep a proposal against the page as it is now (or for a page that does not exist)."""
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
        """One proposal, with content unless ``brief``."""
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
        """Proposals without content, newest first; ``before`` a proposal's id, 0 for from the newest on."""
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
        """Make the proposal a revision, written by the proposal's author. Returns the proposal and the page."""
        with transaction(self._connection):
            proposal = self._pending(proposal_id)
            summary = change.summary or proposal["rationale"]
            page = self._pages.accept(
                proposal["path"], proposal["base_revision"], force, proposal["title"], proposal["content"],
                proposal["tags"], Change(proposal["author"], change.at, summary),
            )  # fmt: skip
            return self._decide(proposal_id, "accepted", change, None, page["revision"]), page

    def reject(self, proposal_id: int, reason: str | None, change: Change) -> dict[str, Any]:
        """Close the proposal; the reason is kept with it."""
        with transaction(self._connection):
            self._pending(proposal_id)
            return self._decide(proposal_id, "rejected", change, reason, None)

    def _pending(self, proposal_id: int) -> dict[str, Any]:
        proposal = self.get(proposal_id)
        if proposal["status"] != "pending":
            raise Refused(
                f"proposal_id: proposal {proposal_id} was {proposal['status']} by {proposal['decided_by']} already",
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
