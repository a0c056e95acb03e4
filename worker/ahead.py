"""Installed mods whose code the guardian has imported for its workers, so that they need not.

The code of a mod is imported afresh by each worker, because a person edits it. The mods of a
framework are installed with it, and are large: their import takes a tenth of a second and megabytes
of memory. So the guardian imports them, and notes what their files held. A worker whose mod is among
them uses the modules if the files still hold that, and imports them afresh if not.
"""

from __future__ import annotations

import importlib
import os
import sys
import time
from hashlib import blake2b
from types import ModuleType

_packages: dict[str, list[str]] = {}  # the names of the modules of each package that was imported ahead
_known: dict[str, bytes] = {}  # by module: the digest of its source when it was imported


def import_ahead(name: str) -> None:
    """Import a module, and note what the modules of its package hold."""
    began = time.time()
    importlib.import_module(name)
    package = name.removesuffix(".mod")
    names = [each for each in sys.modules if each == package or each.startswith(f"{package}.")]
    _packages[package] = names
    for each in names:
        path = getattr(sys.modules[each], "__file__", None)
        if path is None:
            continue
        with open(path, "rb") as file:
            source, changed = file.read(), os.fstat(file.fileno()).st_mtime
        if changed < began:  # else it may have been changed after the import
            _known[each] = digest(source)


def imported_ahead(package: str) -> dict[str, ModuleType]:
    """Return the modules of a package that were imported ahead, by name."""
    # By their names: to look at every module would copy its memory, in a forked worker.
    return {name: sys.modules[name] for name in _packages.get(package, ()) if name in sys.modules}


def is_as_imported(fullname: str, source: bytes) -> bool:
    """Return whether the module that was imported ahead has this source."""
    return _known.get(fullname) == digest(source)


def digest(source: bytes) -> bytes:
    return blake2b(source, digest_size=16).digest()
