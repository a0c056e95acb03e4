"""Full-text search in the pages: with SQLite's FTS5, or a plain scan where SQLite lacks it."""

from __future__ import annotations

import sqlite3
from typing import Any

_INDEX = """
CREATE VIRTUAL TABLE IF NOT EXISTS page_index USING fts5(
    title, content, content='pages', content_rowid='id', tokenize='unicode61 remove_diacritics 2'
)"""
_TRIGGERS = {
    "page_index_insert": """AFTER INSERT ON pages BEGIN
        INSERT INTO page_index(rowid, title, content) VALUES (new.id, new.title, new.content);
    END""",
    "page_index_delete": """AFTER DELETE ON pages BEGIN
        INSERT INTO page_index(page_index, rowid, title, content) VALUES ('delete', old.id, old.title, old.content);
    END""",
    "page_index_update": """AFTER UPDATE OF title, content ON pages BEGIN
        INSERT INTO page_index(page_index, rowid, title, content) VALUES ('delete', old.id, old.title, old.content);
        INSERT INTO page_index(rowid, title, content) VALUES (new.id, new.title, new.content);
    END""",
}
# A word in the title counts five times as much as a word in the text.
_FIND = """
SELECT path, pages.title, revision, updated_at, updated_by, snippet(page_index, -1, '**', '**', '…', 16) AS snippet
FROM page_index JOIN pages ON pages.id = page_index.rowid
WHERE page_index MATCH ? AND NOT deleted
ORDER BY bm25(page_index, 5.0, 1.0), pages.id LIMIT ? OFFSET ?"""
_SNIPPET = 60  # characters before and after the first word found


class Search:
    """Finds pages that contain all words of a query; the last word may be the beginning of one."""

    def __init__(self, connection: sqlite3.Connection, *, full_text: bool = True) -> None:
        self._connection = connection
        self.full_text = full_text and _prepare(connection)
        if not self.full_text:
            _drop_triggers(connection)

    def find(self, query: str, limit: int, offset: int) -> list[dict[str, Any]] | None:
        """Return pages, each with a snippet, best first; None if ``query`` holds no word."""
        words = query_words(query)
        if not words:
            return None
        if self.full_text:
            rows = self._connection.execute(_FIND, (match_expression(words), limit, offset))
            return [dict(row) for row in rows]
        return self._scan(words, limit, offset)

    def _scan(self, words: list[str], limit: int, offset: int) -> list[dict[str, Any]]:
        where = " AND ".join(r"(title LIKE ? ESCAPE '\' OR content LIKE ? ESCAPE '\')" for _ in words)
        patterns = [pattern for word in words for pattern in (like_pattern(word),) * 2]
        rows = self._connection.execute(
            f"SELECT path, title, revision, updated_at, updated_by, content FROM pages "
            f"WHERE NOT deleted AND {where} ORDER BY key LIMIT ? OFFSET ?",
            (*patterns, limit, offset),
        )
        found = []
        for row in rows:
            page = dict(row)
            page["snippet"] = _snippet(page.pop("content") or page["title"], words)
            found.append(page)
        return found


def query_words(query: str) -> list[str]:
    """Split a query at blanks; drop parts without a letter or digit."""
    return [word for word in query.split() if any(char.isalnum() for char in word)]


def match_expression(words: list[str]) -> str:
    """Return an FTS5 expression for literal words.

    They are quoted, so that a query cannot use FTS5's own syntax.
    """
    quoted = ['"' + word.replace('"', '""').replace("\0", " ") + '"' for word in words]
    return " ".join(quoted) + "*"


def like_pattern(word: str) -> str:
    r"""Return a LIKE pattern (with ``ESCAPE '\'``) for texts that contain ``word``."""
    escaped = word.replace("\\", r"\\").replace("%", r"\%").replace("_", r"\_")
    return f"%{escaped}%"


def _snippet(text: str, words: list[str]) -> str:
    lower = text.lower()
    at = max(0, min((lower.find(word.lower()) for word in words if word.lower() in lower), default=0))
    start, end = max(0, at - _SNIPPET), at + _SNIPPET
    return ("…" if start else "") + text[start:end] + ("…" if end < len(text) else "")


def _prepare(connection: sqlite3.Connection) -> bool:
    """Create the index, or fill it anew if its triggers were missing. Return False without FTS5."""
    try:
        connection.execute(_INDEX)
        # The statement above ignores a table that exists, so without FTS5 this one fails.
        connection.execute("SELECT rowid FROM page_index LIMIT 0")
    except sqlite3.OperationalError as error:
        if "no such module" in str(error):
            return False
        raise
    present = {row["name"] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'")}
    if not present >= _TRIGGERS.keys():
        for name, body in _TRIGGERS.items():
            connection.execute(f"CREATE TRIGGER IF NOT EXISTS {name} {body}")
        connection.execute("INSERT INTO page_index(page_index) VALUES ('rebuild')")
    return True


def _drop_triggers(connection: sqlite3.Connection) -> None:
    for name in _TRIGGERS:
        connection.execute(f"DROP TRIGGER IF EXISTS {name}")
