"""`modvisor.mods.workspace.project.rules`: moves, ids, and what an artifact may hold."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modvisor.mods import Refused
from modvisor.mods.workspace.project.rules import (
    LEGAL_MOVES,
    STATUSES,
    check_move,
    check_project_id,
    decode_content,
    encode_content,
    id_from_name,
)


@pytest.mark.parametrize("now", STATUSES)
@pytest.mark.parametrize("then", STATUSES)
def test_the_table_of_moves_is_what_is_allowed(now: str, then: str) -> None:
    assert set(LEGAL_MOVES[now]) <= set(STATUSES) - {now}
    if then in LEGAL_MOVES[now]:
        check_move("p", now, then)
    else:
        with pytest.raises(Refused, match=f"from {now} it may become"):
            check_move("p", now, then)


@given(st.text())
def test_every_name_gives_an_id(name: str) -> None:
    assert check_project_id(id_from_name(name))


JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner),
)  # fmt: skip


@given(JSON | st.binary())
def test_content_is_stored_without_loss(content: Any) -> None:
    kind, data = encode_content(content, 10**9)
    back = decode_content(kind, data)
    assert back == content
    assert type(back) is type(content)
