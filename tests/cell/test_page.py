"""docs/security.md says what the table says."""

from __future__ import annotations

from . import page
from .mods.attacker import files, kernel, processes, sockets
from .mods.attacker.ways import ATTACKS
from .mods.attacker.wire import FORGERIES
from .table import TABLE

_FOLDERS = (files, kernel, processes, sockets)  # importing them fills ATTACKS


def test_the_page_is_printed_from_the_table() -> None:
    text = page.PAGE.read_text("utf-8")
    assert page.printed(text) == text, "docs/security.md is stale: run 'make docs'"
    assert set(page.BLOCKS) == {found[2] for found in page._MARKED.finditer(text)}, "a marker is missing in the page"


def test_every_attack_has_its_row() -> None:
    assert set(TABLE) == {*ATTACKS, *FORGERIES}
