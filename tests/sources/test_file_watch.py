"""How the files of a mod are read, and which folders are watched for changes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modvisor.supervisor.config.mods.mod import ModConfig
from modvisor.supervisor.sources.file_watch import code_place, look_at_files, mark_unsure
from modvisor.supervisor.sources.saved_files import UNSURE, digest, files_read, source_files, touched_files

NAMES = st.text() | st.text().map("/{}".format)


@given(
    st.lists(
        NAMES.filter(str.isprintable) | st.sampled_from(["/a\0b", "/" + "x/" * 3000, "/dev/zero", "/"]), max_size=5
    )
)
def test_whatever_a_worker_calls_its_files_can_be_looked_at(paths: list[str]) -> None:
    modules = {f"m{n}": {"path": path, "source": b"", "is_package": True} for n, path in enumerate(paths)}
    found = source_files("m0", modules, None)
    seen = look_at_files(None, [*found.digests, *files_read({"files": paths})])
    assert all(os.path.isdir(folder) for folder in seen.watched)
    assert found.root is None or os.path.isabs(found.root)


def test_a_look_at_a_package(tmp_path: Path) -> None:
    root, shared = tmp_path / "mods" / "echo", tmp_path / "lib" / "shared.py"
    for file in (
        "mod.py",
        "parts/names.py",
        "tests/test_mod.py",
        "parts/data.json",
        "not-code/x.py",
        "__pycache__/a.py",
    ):
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).write_text(file)
    shared.parent.mkdir()
    shared.write_text("shared")
    os.mkfifo(root / "pipe.py")
    (root / "mod.yaml").write_bytes(b"\xef\xbb\xbfdurable: true\n")
    place = code_place(ModConfig("./echo", "echo"), tmp_path, [str(tmp_path)])
    assert (place.root, place.files) == (str(root), (str(root / "mod.yaml"),))
    seen = look_at_files(place.root, [*place.files, str(shared), str(tmp_path / "gone" / "far" / "away.py")])
    assert {os.path.relpath(path, tmp_path) for path in seen.digests} == {
        "mods/echo/mod.py", "mods/echo/parts/names.py", "mods/echo/mod.yaml", "lib/shared.py",
    }  # fmt: skip
    assert seen.digests[str(root / "mod.yaml")] == digest(b"durable: true\n"), "as its text is read"
    assert {os.path.relpath(path, tmp_path) for path in seen.watched} == {
        "mods", "mods/echo", "mods/echo/parts", "lib", ".",
    }, "a folder that is not there is waited for in the next one above it"  # fmt: skip
    assert seen.inner == {str(root), str(root / "parts")}


def test_a_look_through_links(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "elsewhere.py").write_text("x")
    (tmp_path / "link").symlink_to("real")
    (tmp_path / "real" / "mod.py").symlink_to("../elsewhere.py")
    seen = look_at_files(str(tmp_path / "link"), [])
    own = str(tmp_path / "link" / "mod.py")
    assert list(seen.digests) == [own]
    for told in ("real/mod.py", "elsewhere.py"):
        assert touched_files([str(tmp_path / told)], seen.names, frozenset()) == {own}
    assert touched_files([str(tmp_path / "link")], seen.names, frozenset()) == {str(tmp_path / "link")}


def test_what_may_be_found_when_something_was_missing(tmp_path: Path) -> None:
    (tmp_path / "late.py").write_text("x")
    (tmp_path / "package").mkdir()
    (tmp_path / "notes.txt").write_text("x")
    seen = look_at_files(None, [], [str(tmp_path)])
    assert (seen.digests, set(seen.hoped)) == ({}, {str(tmp_path / "late.py"), str(tmp_path / "package")})
    assert set(mark_unsure(seen.hoped, 0.0).values()) == {UNSURE}
    assert mark_unsure(seen.hoped, 1e12) == seen.hoped


@pytest.mark.parametrize(
    ("mod_path", "root", "files"),
    [
        ("pkg.wiki", "pkg/wiki", ["pkg/wiki/mod.yaml"]),
        ("pkg.wiki.mod:Wiki", "pkg/wiki", ["pkg/wiki/mod.yaml", "pkg/wiki/mod.py"]),
        ("pkg.single", None, ["pkg/single.py"]),
        ("mod:Wiki", None, ["mod.yaml", "mod.py"]),
        ("nowhere.to.be:Found", None, []),
    ],
)
def test_where_the_code_of_a_mod_stands(tmp_path: Path, mod_path: str, root: str | None, files: list[str]) -> None:
    for file in ("pkg/wiki/mod.py", "pkg/single.py", "mod.py"):
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).write_text("")
    place = code_place(ModConfig(mod_path, "mod"), tmp_path, [str(tmp_path)])
    assert place.root == (None if root is None else str(tmp_path / root))
    assert set(place.files) == {str(tmp_path / file) for file in files}


def test_of_several_versions_the_one_that_runs_is_watched(tmp_path: Path) -> None:
    for folder in ("wiki", "wiki/versions/1.0"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "mod.py").write_text("class Wiki(BaseMod):\n    version = '2.0'\n")
    roots = [
        code_place(ModConfig("./wiki", "wiki", version=asked), tmp_path, []).root for asked in (None, "1", "2", "3")
    ]
    old, own = str(tmp_path / "wiki" / "versions" / "1.0"), str(tmp_path / "wiki")
    assert roots == [own, old, own, own], "what is not there may come"
