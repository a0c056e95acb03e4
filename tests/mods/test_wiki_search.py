"""`modvisor.mods.workspace.wiki.search`: words, snippets, and queries that try to be syntax."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modvisor.mods.workspace.wiki import WikiMod
from modvisor.mods.workspace.wiki.search import Search, like_pattern, match_expression, query_words
from modvisor.mods.workspace.wiki.store import MIGRATIONS
from modvisor.worker.testing import ModHarness

pytestmark = pytest.mark.anyio


async def test_search_without_fts5_and_back(tmp_path: Path) -> None:
    async with ModHarness(WikiMod, storage_path=tmp_path) as wiki:
        await wiki.ask("wiki.page.create", {"path": "a", "content": "find the needle here"})
    connection = sqlite3.connect(tmp_path / "wiki.db", isolation_level=None)
    connection.row_factory = sqlite3.Row
    plain = Search(connection, full_text=False)
    connection.execute("UPDATE pages SET content = '100% need_le ' || content")
    found = plain.find("eedl FIND", 10, 0)
    assert found is not None
    assert [page["path"] for page in found] == ["a"]
    assert "needle" in found[0]["snippet"]
    assert plain.find("0%", 10, 0)
    assert plain.find("need%here", 10, 0) == []
    again = Search(connection)
    assert again.full_text
    assert again.find("100", 10, 0)
    connection.close()


@given(st.text())
def test_no_query_reaches_the_syntax_of_fts5_or_like(query: str) -> None:
    connection = sqlite3.connect(":memory:")
    try:
        connection.executescript(MIGRATIONS[0])
        connection.row_factory = sqlite3.Row
        connection.execute(
            "INSERT INTO pages VALUES (1, 'a', 'a', 't', ?, '[]', 1, 0, 0, '', 0, '')", (query.replace("\0", ""),)
        )
        for full_text in (True, False):
            Search(connection, full_text=full_text).find(query, 10, 0)
    finally:
        connection.close()


@given(st.text(alphabet="ab%_\\'", min_size=1), st.text(alphabet="ab%_\\'"))
def test_a_like_pattern_finds_exactly_what_contains_the_word(word: str, text: str) -> None:
    connection = sqlite3.connect(":memory:")
    row = connection.execute(r"SELECT ? LIKE ? ESCAPE '\'", (text, like_pattern(word))).fetchone()
    connection.close()
    assert bool(row[0]) == (word in text)


def test_match_expressions_are_quoted() -> None:
    assert match_expression(query_words('a "b" NOT - c')) == '"a" """b""" "NOT" "c"*'
