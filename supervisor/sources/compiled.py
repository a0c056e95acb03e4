"""Keeps the compiled code of mods, so that the next worker of the same mod starts faster.

Workers report the code. It is kept by mod_path and folder, and only workers of the same mod get it:
a mod that reports false code harms only itself. A worker uses it only for a source that is equal
byte by byte, so a changed file is compiled again (``worker/sources.py``).
"""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path
from typing import Any

from .saved_files import digest

MAX_BYTES = 32 * 1024 * 1024
"""Of all mods together; the mod that was loaded longest ago is dropped first."""

MAX_MOD_BYTES = 8 * 1024 * 1024
"""Of one mod; a mod with more code is compiled each time."""

Whose = tuple[str, Path | None]
"""A mod_path, and the folder that it was loaded from."""


class CompiledCode:
    """The newest code of each file, of a bounded number of mods."""

    def __init__(self) -> None:
        self._mods: OrderedDict[Whose, dict[str, tuple[bytes, bytes]]] = OrderedDict()

    def of(self, whose: Whose) -> dict[str, tuple[bytes, bytes]]:
        """Return file name -> (digest of the source, code) of a mod; {} if nothing is kept."""
        if whose in self._mods:
            self._mods.move_to_end(whose)
        return dict(self._mods.get(whose, {}))

    def take(self, whose: Whose, modules: Any) -> None:
        """Keep the code in the modules of a snapshot, and remove it from them."""
        if not isinstance(modules, dict):
            return
        known = self.of(whose)
        for entry in modules.values():
            match entry:
                case {"path": str(path), "source": bytes(source), "code": bytes(code)}:
                    known[path] = digest(source), code
            if isinstance(entry, dict):
                entry.pop("code", None)
        if known and _size(known) <= MAX_MOD_BYTES:
            self._mods[whose] = known
            self._mods.move_to_end(whose)
        while sum(map(_size, self._mods.values())) > MAX_BYTES:
            self._mods.popitem(last=False)


def _size(files: dict[str, tuple[bytes, bytes]]) -> int:
    return sum(len(path) + len(code) for path, (_, code) in files.items())
