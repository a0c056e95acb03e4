"""What the guardian imports so that its forked workers need not: never a mod's code, which each worker imports afresh."""

from __future__ import annotations

import importlib
from collections.abc import Iterable
from contextlib import suppress

COMMON = (
    "difflib", "json", "sqlite3", "unicodedata",
    *(f"modvisor.mods.workspace.{name}" for name in ("announce", "database", "fields", "paging", "store_mod")),
)  # fmt: skip
"""What many mods import and no worker needs by itself: of the standard library (some builds of Python lack some of it), and
what the bundled mods share."""


def import_common() -> None:
    for name in COMMON:
        with suppress(ImportError):
            importlib.import_module(name)


def import_all(names: Iterable[str]) -> dict[str, str]:
    """Import modules that a config names; why it failed, by name."""
    failures = {}
    for name in names:
        try:
            importlib.import_module(name)
        except (Exception, SystemExit) as error:  # noqa: BLE001 - importing runs their code: anything may come
            failures[name] = f"{type(error).__name__}: {error}"[:1000].encode("utf-8", "backslashreplace").decode()
    return failures
