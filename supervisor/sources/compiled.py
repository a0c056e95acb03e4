"""The compiled code of the mods, as their workers reported it: handed to the next workers of the same mod, which start faster.

It is kept by mod_path and folder, and goes to nobody else: what a worker says of its own code can do no harm to other mods. A
worker takes it for a source that is the same to the byte, so a changed file is compiled anew (``worker/sources.py``).
"""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path
from typing import Any

from .saved_files import digest

MAX_BYTES = 32 * 1024 * 1024
"""Of all mods together; the one that was loaded longest ago goes first."""

MAX_MOD_BYTES = 8 * 1024 * 1024
"""Of one mod; code beyond that is compiled each time."""

Whose = tuple[str, Path | None]
"""A mod_path, and the folder it was taken from."""


class CompiledCode:
    """Bounded; of each file the newest."""

    def __init__(self) -> None:
        self._mods: OrderedDict[Whose, dict[str, tuple[bytes, bytes]]] = OrderedDict()

    def of(self, whose: Whose) -> dict[str, tuple[bytes, bytes]]:
        """File name to digest of its source, and code; {} if none is known."""
        if whose in self._mods:
            self._mods.move_to_end(whose)
        return dict(self._mods.get(whose, {}))

    def take(self, whose: Whose, modules: Any) -> None:
        """Keep the code that comes with the modules of a snapshot, and take it out of them."""
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
