"""What OpenAgents' own network records of the script, and mods written on the spot, importable by it and by workers."""

from __future__ import annotations

import itertools
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from .driver import Driver, Record
from .script import SCRIPT
from .theirs import their_network

_numbers = itertools.count()

HEAD = """
import asyncio, os, time
from pathlib import Path
from openagents.models.event import Event
from openagents.models.event_response import EventResponse
from openagents.sdk.base_mod import BaseMod, mod_event_handler
"""


@pytest.fixture
async def theirs(tmp_path: Path) -> list[Record]:
    """What everybody sees of the script in OpenAgents' own network, in this process."""
    folder = tmp_path / "theirs"
    async with their_network(folder) as network:
        return await Driver(network, str(folder)).run(SCRIPT)


@pytest.fixture
def library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder on the path of imports, for this process; networks here get it as `mod_paths`."""
    folder = tmp_path / "library"
    folder.mkdir()
    before = set(sys.modules)
    monkeypatch.syspath_prepend(str(folder))
    yield folder
    for name in set(sys.modules) - before:
        if (getattr(sys.modules[name], "__file__", None) or "").startswith(str(folder)):
            del sys.modules[name]


@pytest.fixture
def their_mod(library: Path) -> Callable[..., str]:
    """Write a mod for OpenAgents into a package of its own; returns its path, such as ``shop3.till``."""

    def write(name: str, source: str, path: str | None = None) -> str:
        package = path.split(".")[0] if path is not None else f"shop{next(_numbers)}"
        folder = library / package / name
        folder.mkdir(parents=True, exist_ok=True)
        (folder.parent / "__init__.py").touch()
        (folder / "__init__.py").touch()
        (folder / "mod.py").write_text(HEAD + textwrap.dedent(source))
        return f"{package}.{name}"

    return write
