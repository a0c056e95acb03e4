"""The wire as an interpreter without msgspec has it: `modvisor.ipc` once more, under another name."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from types import ModuleType
from unittest.mock import patch

from modvisor import ipc


def _without_msgspec() -> ModuleType:
    spec = importlib.util.spec_from_file_location(
        "plain_ipc", ipc.__file__, submodule_search_locations=list(ipc.__path__)
    )
    assert spec is not None
    assert spec.loader is not None
    package = sys.modules["plain_ipc"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(package)
    with patch.dict(sys.modules, {"msgspec": None}):
        for name in ("record", "event", "usual", "connection"):
            importlib.import_module(f"plain_ipc.{name}")
    return package


plain_ipc = _without_msgspec()
