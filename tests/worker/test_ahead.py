"""Installed mods that were imported ahead: used while their files are as they were, else imported afresh."""

from __future__ import annotations

import importlib
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from modvisor.worker import ahead
from modvisor.worker.loader import find_mod_class, sources_for
from modvisor.worker.sources import Sources

MOD = "from modvisor.mods import BaseMod\nfrom .helper import WORD\nclass Wiki(BaseMod):\n    description = WORD\n"


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Write files of the package ``aheadpkg.wiki``, long ago."""
    modules, finders = set(sys.modules), list(sys.meta_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(ahead, "_known", {})
    monkeypatch.setattr(ahead, "_packages", {})

    def write(age: float = 100.0, **files: str) -> None:
        for name, text in files.items():
            path = tmp_path / "aheadpkg" / "wiki" / f"{name}.py"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
            os.utime(path, (time.time() - age,) * 2)
        importlib.invalidate_caches()

    write(mod=MOD, helper="WORD = 'old'\n")
    yield write
    sys.meta_path[:] = finders
    for name in set(sys.modules) - modules:
        del sys.modules[name]


def load(**more: object) -> tuple[type, Sources]:
    sys.meta_path[:] = [finder for finder in sys.meta_path if not isinstance(finder, Sources)]
    sources = sources_for("aheadpkg.wiki", None, **more)  # type: ignore[arg-type]
    sources.install()
    return find_mod_class("aheadpkg.wiki", sources), sources


def test_unchanged_modules_are_used_as_they_are_and_known_as_the_mod_s_own(write: Callable[..., None]) -> None:
    ahead.import_ahead("aheadpkg.wiki.mod")
    module = sys.modules["aheadpkg.wiki.mod"]
    cls, sources = load()
    assert sys.modules[cls.__module__] is module
    assert {Path(file).name for file in sources.files} == {"mod.py", "helper.py"}
    assert set(sources.snapshot()) == {"aheadpkg.wiki.mod", "aheadpkg.wiki.helper"}


def test_one_changed_file_has_the_whole_mod_imported_afresh(write: Callable[..., None]) -> None:
    ahead.import_ahead("aheadpkg.wiki.mod")
    write(helper="WORD = 'new'\n")
    cls, _ = load()
    assert getattr(cls, "description") == "new"  # noqa: B009 - a type has none


def test_a_file_that_was_changed_while_it_was_imported_is_not_trusted(write: Callable[..., None]) -> None:
    write(helper="WORD = 'just now'\n", age=-100.0)
    ahead.import_ahead("aheadpkg.wiki.mod")
    module = sys.modules["aheadpkg.wiki.mod"]
    cls, _ = load()
    assert sys.modules[cls.__module__] is not module


def test_the_snapshot_of_the_last_good_version_decides_where_there_is_one(write: Callable[..., None]) -> None:
    ahead.import_ahead("aheadpkg.wiki.mod")
    module = sys.modules["aheadpkg.wiki.mod"]
    cls, sources = load()
    kept = sources.snapshot()
    write(helper="WORD = 'half-finished edit'\n")
    cls, _ = load(snapshot=kept)
    assert sys.modules[cls.__module__] is module, "what was imported ahead is that version"
    helper = kept["aheadpkg.wiki.helper"]
    cls, _ = load(snapshot={**kept, "aheadpkg.wiki.helper": {**helper, "source": b"WORD = 'kept'\n"}})
    assert getattr(cls, "description") == "kept"  # noqa: B009


def test_other_mods_are_left_alone(write: Callable[..., None]) -> None:
    importlib.import_module("aheadpkg.wiki.mod")
    module = sys.modules["aheadpkg.wiki.mod"]
    cls, _ = load()
    assert sys.modules[cls.__module__] is module, "imported, but not ahead"
