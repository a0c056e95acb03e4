"""`modvisor.mods.workspace.wiki.paths`: which texts are the path of a page."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from modvisor.mods.workspace.wiki.paths import page_path, path_key


@given(st.text(max_size=250) | st.text(alphabet="aB/.-_é", max_size=30))
def test_paths_are_stable(text: str) -> None:
    path = page_path(text)
    if path is not None:
        assert page_path(path) == path
        assert path_key(path_key(path)) == path_key(path)
        assert not set(path.split("/")) & {"", ".", ".."}
        assert not any(char.isspace() or ord(char) < 32 for char in path)
