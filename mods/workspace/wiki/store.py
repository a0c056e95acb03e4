"""Pages and their revisions in SQLite. Every change is a revision, and no revision is removed."""

from __future__ import annotations

import json
import sqlite3
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ... import Code, Refused
from ..database import open_database, transaction
from .paths import path_key

# `key` is the case-folded path. The table of pages repeats the newest revision's title and content,
# which are read and searched most.
MIGRATIONS = [
    """
    CREATE TABLE pages (
        id INTEGER PRIMARY KEY,
        key TEXT NOT NULL UNIQUE,
        path TEXT NOT NULL,
        title TEXT NOT NULL,
        content TEXT NOT NULL,
        tags TEXT NOT NULL,
        revision INTEGER NOT NULL,
        deleted INTEGER NOT NULL DEFAULT 0,
        created_at REAL NOT NULL,
        created_by TEXT NOT NULL,
        updated_at REAL NOT NULL,
        updated_by TEXT NOT NULL
    );
    CREATE TABLE page_tags (
        tag TEXT NOT NULL,
        page_id INTEGER NOT NULL REFERENCES pages(id) ON DELETE CASCADE,
        PRIMARY KEY (tag, page_id)
    ) WITHOUT ROWID;
    CREATE INDEX page_tags_by_page ON page_tags(page_id);
    CREATE TABLE revisions (
        id INTEGER PRIMARY KEY,
        page_id INTEGER NOT NULL REFERENCES pages(id) ON DELETE CASCADE,
        number INTEGER NOT NULL,
        action TEXT NOT NULL,
        author TEXT NOT NULL,
        at REAL NOT NULL,
        summary TEXT NOT NULL,
        title TEXT NOT NULL,
        content TEXT NOT NULL,
        tags TEXT NOT NULL,
        UNIQUE (page_id, number)
    );
    CREATE TABLE proposals (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        key TEXT NOT NULL,
        path TEXT NOT NULL,
        base_revision INTEGER NOT NULL,
        title TEXT,
        content TEXT NOT NULL,
        tags TEXT,
        rationale TEXT NOT NULL,
        author TEXT NOT NULL,
        at REAL NOT NULL,
        status TEXT NOT NULL DEFAULT 'pending',
        decided_by TEXT,
        decided_at REAL,
        reason TEXT,
        revision INTEGER
    );
    CREATE INDEX proposals_by_status ON proposals(status, id);
    CREATE INDEX proposals_by_key ON proposals(key, id);
    """
]
_HEAD = "path, title, tags, revision, created_at, created_by, updated_at, updated_by"


@dataclass(frozen=True, slots=True)
class Change:
    """Who changes a page, when and why."""

    author: str
    at: float
    summary: str = ""


class PageStore:
    """Pages by path.

    Every method is one short transaction, and raises `Refused` for a bad request.
    """

    def __init__(self, path: Path) -> None:
        self.connection = open_database(path, MIGRATIONS)

    def close(self) -> None:
        self.connection.close()

    # -- reading

    def current(self, path: str) -> dict[str, Any]:
        """Return the page with its content; refuse with ``not_found`` if there is none."""
        row = self._row(path)
        if row is None:
            raise _no_page(path)
        if row["deleted"]:
            raise Refused(
                f"path: page {row['path']!r} was deleted by {row['updated_by']}; "
                "wiki.page.history lists its revisions, and wiki.page.revert restores one",
                code=Code.NOT_FOUND, field="path", deleted=True, revision=row["revision"],
            )  # fmt: skip
        return _page(row)

    def head(self, path: str) -> tuple[int, bool]:
        """Return the newest revision's number (0 for none ever) and whether the page exists now."""
        row = self._row(path)
        return (0, False) if row is None else (row["revision"], not row["deleted"])

    def revision(self, path: str, number: int) -> dict[str, Any]:
        """Return a revision with its content, of a deleted page too."""
        row = self.connection.execute(
            "SELECT path, number AS revision, action, author, at, summary, r.title, r.content, r.tags "
            "FROM revisions r JOIN pages p ON p.id = r.page_id WHERE p.key = ? AND number = ?",
            (path_key(path), number),
        ).fetchone()
        if row is not None:
            return {**dict(row), "tags": json.loads(row["tags"])}
        newest, _ = self.head(path)
        if newest == 0:
            raise _no_page(path)
        raise Refused(
            f"revision: page {path!r} has revisions 1 to {newest}, not {number}",
            code=Code.NOT_FOUND, field="revision", newest=newest,
        )  # fmt: skip

    def history(self, path: str, before: int, limit: int) -> list[dict[str, Any]]:
        """Return revisions without content, newest first.

        Args:
            before: return revisions with smaller numbers; 0 starts with the newest.
        """
        newest, _ = self.head(path)
        if newest == 0:
            raise _no_page(path)
        rows = self.connection.execute(
            "SELECT number AS revision, action, author, at, summary, r.title, length(r.content) AS size "
            "FROM revisions r JOIN pages p ON p.id = r.page_id WHERE p.key = ? AND number < ? "
            "ORDER BY number DESC LIMIT ?",
            (path_key(path), before or newest + 1, limit),
        )
        return [dict(row) for row in rows]

    def list(
        self, prefix: str = "", tag: str | None = None, deleted: bool = False, after: str = "", limit: int = 50
    ) -> list[dict[str, Any]]:
        """Return pages without content, ordered by path, after the path ``after``."""
        tables = "pages" if tag is None else "page_tags JOIN pages ON pages.id = page_id AND tag = :tag"
        # Not LIKE, because a range uses the index. U+10FFFF sorts after every character of a path.
        rows = self.connection.execute(
            f"SELECT {_HEAD}, length(content) AS size FROM {tables} WHERE deleted = :deleted AND key > :after "
            "AND key >= :prefix AND key < :prefix || char(1114111) ORDER BY key LIMIT :limit",
            {
                "tag": tag,
                "deleted": deleted,
                "after": path_key(after),
                "prefix": path_key(prefix),
                "limit": limit,
            },
        )
        return [_page(row) for row in rows]

    # -- changing

    def create(self, path: str, title: str, content: str, tags: list[str], change: Change) -> dict[str, Any]:
        """Create a page. A deleted page of that path comes back, and its history goes on."""
        with transaction(self.connection):
            row = self._row(path)
            if row is not None and not row["deleted"]:
                raise Refused(
                    f"path: page {row['path']!r} already exists (revision {row['revision']}); change it with wiki.page.edit",
                    code=Code.CONFLICT, field="path", revision=row["revision"],
                )  # fmt: skip
            return self._write(path, "created", title, content, tags, change)

    def edit(
        self,
        path: str,
        title: str | None,
        content: str | None,
        tags: list[str] | None,
        base: int | None,
        change: Change,
    ) -> tuple[dict[str, Any], bool]:
        """Write a revision that changes what is not None.

        Return the page and whether it changed.
        """
        with transaction(self.connection):
            page = self.current(path)
            _check_base(page, base)
            wanted = (
                page["title"] if title is None else title,
                page["content"] if content is None else content,
                page["tags"] if tags is None else tags,
            )
            if wanted == (page["title"], page["content"], page["tags"]):
                return page, False
            return self._write(path, "edited", *wanted, change), True

    def revert(self, path: str, number: int, change: Change) -> dict[str, Any]:
        """Write a revision equal to an old one. This restores a deleted page."""
        with transaction(self.connection):
            old = self.revision(path, number)
            if old["action"] == "deleted":
                raise Refused(
                    f"revision: revision {number} is the page's deletion; choose an older one, or use wiki.page.delete",
                    field="revision",
                )
            return self._write(path, "reverted", old["title"], old["content"], old["tags"], change)

    def delete(self, path: str, base: int | None, change: Change) -> dict[str, Any]:
        """Hide the page. Its revisions stay, and the deletion becomes one."""
        with transaction(self.connection):
            page = self.current(path)
            _check_base(page, base)
            return self._write(path, "deleted", page["title"], "", [], change)

    def accept(
        self, path: str, base: int, force: bool, title: str | None, content: str, tags: list[str] | None, change: Change
    ) -> dict[str, Any]:
        """Write the revision that a proposal asks for, inside the caller's transaction."""
        newest, exists = self.head(path)
        if newest != base and not force:
            raise Refused(
                f"proposal_id: page {path!r} has changed: the proposal is based on revision {base}, "
                f"the page is at {newest}; compare both, then accept with force, or reject",
                code=Code.CONFLICT, field="proposal_id", revision=newest, base_revision=base,
            )  # fmt: skip
        page = self.current(path) if exists else {"title": path.rpartition("/")[2], "tags": []}
        return self._write(
            path, "accepted", title or page["title"], content, page["tags"] if tags is None else tags, change
        )

    # -- inside

    def _row(self, path: str) -> sqlite3.Row | None:
        return self.connection.execute("SELECT * FROM pages WHERE key = ?", (path_key(path),)).fetchone()

    def _write(
        self, path: str, action: str, title: str, content: str, tags: list[str], change: Change
    ) -> dict[str, Any]:
        """Write one revision and bring the page up to date."""
        gone = action == "deleted"
        values = {
            "key": path_key(path), "path": path, "title": title, "content": content, "tags": json.dumps(tags),
            "deleted": gone, "at": change.at, "author": change.author, "action": action, "summary": change.summary,
        }  # fmt: skip
        row = self.connection.execute(
            "INSERT INTO pages (key, path, title, content, tags, revision, deleted, created_at, created_by, updated_at, "
            "updated_by) VALUES (:key, :path, :title, :content, :tags, 1, :deleted, :at, :author, :at, :author) "
            "ON CONFLICT (key) DO UPDATE SET title = :title, content = :content, tags = :tags, deleted = :deleted, "
            "revision = revision + 1, updated_at = :at, updated_by = :author RETURNING id, revision",
            values,
        ).fetchone()
        values |= {"id": row["id"], "number": row["revision"]}
        self.connection.execute(
            "INSERT INTO revisions (page_id, number, action, author, at, summary, title, content, tags) "
            "VALUES (:id, :number, :action, :author, :at, :summary, :title, :content, :tags)",
            values,
        )
        self.connection.execute("DELETE FROM page_tags WHERE page_id = ?", (row["id"],))
        self.connection.executemany(
            "INSERT INTO page_tags (tag, page_id) VALUES (?, ?)", [(tag, row["id"]) for tag in tags]
        )
        page = self._row(path)
        assert page is not None
        return _page(page)


def _check_base(page: dict[str, Any], base: int | None) -> None:
    if base is not None and base != page["revision"]:
        raise Refused(
            f"base_revision: page {page['path']!r} is at revision {page['revision']} by {page['updated_by']}, "
            f"not {base}; get it and apply your change to it",
            code=Code.CONFLICT, field="base_revision", revision=page["revision"], updated_by=page["updated_by"],
        )  # fmt: skip


def _no_page(path: str) -> Refused:
    return Refused(f"path: there is no page {path!r}", code=Code.NOT_FOUND, field="path")


def _page(row: sqlite3.Row) -> dict[str, Any]:
    page = {name: row[name] for name in row.keys() if name not in ("id", "key", "deleted")}  # noqa: SIM118 - a Row iterates values
    page["tags"] = json.loads(page["tags"])
    return page
