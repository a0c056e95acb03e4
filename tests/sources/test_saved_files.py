"""What saved files mean for a mod, for any files and any order of saves and reloads."""

from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from modvisor.supervisor.config.mods.mod_file import ModFile
from modvisor.supervisor.sources.saved_files import (
    EMPTY,
    Decision,
    changed_files,
    decide,
    digest,
    files_read,
    made_of,
    may_be_code,
    source_files,
    touched_files,
)

PATHS = st.sampled_from(["mod.py", "helper.py", "parts/names.py", "mod.yaml"])
CONTENTS = st.sampled_from([b"", b"one", b"two", b"broken"])
DIGESTS = st.dictionaries(PATHS, CONTENTS.map(digest))


@given(running=DIGESTS, tried=st.none() | DIGESTS, hoped=DIGESTS, saved=st.booleans(), patient=st.booleans())
def test_what_runs_is_not_reloaded(running, tried, hoped, saved, patient) -> None:
    decision = decide(running, tried, dict(running), hoped, is_up=True, saved=saved, patient=patient)
    assert decision is Decision.NOTHING


@given(running=DIGESTS, now=DIGESTS, hoped=DIGESTS, is_up=st.booleans(), patient=st.booleans())
def test_what_has_failed_is_tried_again_only_when_it_is_down_and_saved(running, now, hoped, is_up, patient) -> None:
    tried = {**now, **hoped}
    given = {"is_up": is_up, "patient": patient}
    assert decide(running, tried, now, hoped, saved=False, **given) is Decision.NOTHING
    again = decide(running, tried, now, hoped, saved=True, **given)
    assert again is (Decision.NOTHING if is_up else Decision.RELOAD)


@given(running=DIGESTS, now=DIGESTS, is_up=st.booleans(), saved=st.booleans())
def test_it_waits_only_for_files_that_are_gone_or_empty(running, now, is_up, saved) -> None:
    patient = decide(running, None, now, {}, is_up=is_up, saved=saved)
    at_last = decide(running, None, now, {}, is_up=is_up, saved=saved, patient=False)
    assert at_last is not Decision.WAIT
    if patient is Decision.WAIT:
        assert at_last is Decision.RELOAD
        assert {now.get(path, EMPTY) for path in changed_files(running, now)} == {EMPTY}
    else:
        assert patient is at_last


class Workshop(RuleBasedStateMachine):
    """Somebody saves files, at any moment; reloads take what is there while they last, and fail for broken files.

    The watcher is asked after each save, as in life, and does what `decide` says.
    """

    def __init__(self) -> None:
        super().__init__()
        self.disk: dict[str, bytes] = {"mod.py": digest(b"one")}
        self.running: dict[str, bytes] = dict(self.disk)
        self.serving: dict[str, bytes] = dict(self.disk)  # what the worker has really read
        self.tried: dict[str, bytes] | None = None
        self.before: dict[str, bytes] | None = None  # when the reload under way began
        self.read: dict[str, bytes] = {}
        self.told = False
        self.reloads = 0

    @rule(path=PATHS, content=CONTENTS)
    def save(self, path: str, content: bytes) -> None:
        self.disk[path] = digest(content)
        self.told = True

    @rule(path=PATHS)
    def remove(self, path: str) -> None:
        self.disk.pop(path, None)
        self.told = True

    @precondition(lambda self: self.before is None and self.told)
    @rule()
    def look(self) -> None:
        self.told = False
        decision = decide(self.running, self.tried, self.disk, {}, is_up=True, saved=True, patient=False)
        if self.disk == self.running:
            self.tried = None
        if decision is Decision.RELOAD:
            assert self.disk != self.running
            assert self.disk != self.tried
            self.before = dict(self.disk)

    @precondition(lambda self: self.before is not None)
    @rule()
    def worker_reads(self) -> None:
        self.read = dict(self.disk)

    @precondition(lambda self: self.before is not None and self.read)
    @rule(unreported=st.sets(PATHS))
    def reload_ends(self, unreported: set[str]) -> None:
        assert self.before is not None
        if digest(b"broken") in self.read.values() or "mod.py" not in self.read:
            self.tried = self.before
        else:
            reported = {path: found for path, found in self.read.items() if path not in unreported}
            self.running, self.tried = made_of(reported, self.before), None
            self.serving = self.read
            self.reloads += 1
        self.before, self.read = None, {}

    @invariant()
    def at_rest_it_runs_what_is_saved_or_has_failed_with_it(self) -> None:
        if self.before is None and not self.told:
            assert self.disk in (self.running, self.tried)

    def teardown(self) -> None:
        """Left alone it comes to rest, after one more reload at most."""
        rounds = 0
        while self.told or self.before is not None:
            if self.before is None:
                self.look()
                continue
            self.read = dict(self.disk)
            self.reload_ends(set())
            rounds += 1
            self.told = self.told or self.disk not in (self.running, self.tried)
            assert rounds <= 3
        self.at_rest_it_runs_what_is_saved_or_has_failed_with_it()


TestWorkshop = Workshop.TestCase


def test_which_of_the_changes_are_the_mods() -> None:
    names = {"/real/mods/echo/mod.yaml": "/link/mods/echo/mod.yaml", "/lib/shared.py": "/lib/shared.py"}
    inner = frozenset({"/real/mods/echo"})
    paths = {
        "/real/mods/echo/mod.yaml", "/lib/shared.py", "/real/mods/echo/new.py", "/real/mods/echo/parts",
        "/lib/other.py", "/real/mods/echo/.mod.py.swp", "/real/mods/echo/4913", "/real/mods/echo/__pycache__",
        "/real/mods/echo/data.json", "/real/mods/echo/tests", "/real/mods/echo/mod.py~", "/real/mods/other/mod.py",
    }  # fmt: skip
    assert touched_files(paths, names, inner) == {
        "/link/mods/echo/mod.yaml", "/lib/shared.py", "/real/mods/echo/new.py", "/real/mods/echo/parts",
    }  # fmt: skip


@given(st.text())
def test_any_name_is_code_or_not(name: str) -> None:
    assert may_be_code(name) in (True, False)
    assert not may_be_code("." + name)


@pytest.mark.parametrize(
    ("mod_path", "modules", "root"),
    [
        ("pkg.wiki", {"pkg.wiki": ("/p/wiki/__init__.py", True), "pkg.wiki.mod": ("/p/wiki/mod.py", False)}, "/p/wiki"),
        ("pkg.wiki", {"pkg.wiki.mod": ("/p/wiki/mod.py", False)}, "/p/wiki"),
        ("pkg.wiki.mod:Wiki", {"pkg.wiki.mod": ("/p/wiki/mod.py", False)}, "/p/wiki"),
        ("pkg.single:Wiki", {"pkg.single": ("/p/single.py", False), "lib": ("/p/lib.py", False)}, None),
    ],
)
def test_where_the_package_of_a_version_stands(mod_path: str, modules: dict, root: str | None) -> None:
    reported = {name: {"path": p, "source": b"x", "is_package": k} for name, (p, k) in modules.items()}
    found = source_files(mod_path, reported, ModFile("/p/wiki/mod.yaml", "durable: true\n"))
    assert (found.mod_path, found.root) == (mod_path, root)
    assert found.digests == {
        **{path: digest(b"x") for path, _ in modules.values()},
        "/p/wiki/mod.yaml": digest(b"durable: true\n"),
    }


NAMES = st.text() | st.text().map("/{}".format)


@given(st.dictionaries(st.just("files"), st.none() | st.integers() | st.text() | st.lists(NAMES | st.integers())))
def test_what_a_worker_says_it_has_read(details: dict) -> None:
    assert all(os.path.isabs(path) for path in files_read(details))
    assert len(files_read({"files": ["/x"] * 5000})) == 1000
