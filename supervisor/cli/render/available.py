"""Mods that could be loaded, as a table."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from rich.table import Table

from .figures import NOTHING
from .tables import cell, table


def available_table(mods: Iterable[dict[str, Any]]) -> Table:
    """Return the table of ``modvisor mods``: a line per mod that could be loaded."""
    made = table()
    for name in ("NAME", "VERSIONS", "FROM", "LOADED", "PATH", "REQUIRES", "DESCRIPTION"):
        made.add_column(name, no_wrap=name != "DESCRIPTION")
    for mod in mods:
        versions = ", ".join(version or "?" for version in mod["versions"])
        requires = [*mod["requires"], *(f"({name})" for name in mod["optional"])]
        lists = [", ".join(words) or NOTHING for words in (mod["loaded"], [mod["mod_path"]], requires)]
        plain = [versions or NOTHING, mod["source"], *lists, mod["description"] or NOTHING]
        made.add_row(cell(mod["name"], "red" if mod["error"] else ""), *map(cell, plain))
    return made
