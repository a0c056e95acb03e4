"""Which version is meant, what a class says of itself, where a mod is: read, not run."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.version import Version

from modvisor.ipc.errors import ModvisorError
from modvisor.supervisor.config.mod_entry import parse_mod
from modvisor.supervisor.config.mod_file import ModFile
from modvisor.supervisor.config.network_file import load_config
from modvisor.supervisor.config.versions import (
    WrongVersion,
    check_version,
    matching_version,
    newest_final_version,
    parse_version,
    same_version,
    versions_in_order,
)
from modvisor.supervisor.config.yaml_source import ConfigError
from modvisor.supervisor.sources.class_source import BadSource, class_attributes
from modvisor.supervisor.sources.facts import facts_of
from modvisor.supervisor.sources.home import Home, find_home, version_folders, with_mod_files
from modvisor.supervisor.sources.snapshots import SnapshotStore

releases = st.lists(st.integers(0, 30), min_size=1, max_size=3).map(lambda parts: ".".join(map(str, parts)))
suffixes = st.sampled_from(["", "", "", "a1", "rc2", ".dev3", ".post1"])
versions = st.builds("{}{}".format, releases, suffixes)
words = st.text(max_size=10)


@given(st.lists(versions, unique=True))
def test_the_newest_final_one_is_final_and_none_that_is_final_is_newer(names: list[str]) -> None:
    final = [name for name in names if not Version(name).is_prerelease]
    newest = newest_final_version(names)
    assert (newest is None) == (not final)
    assert newest is None or (newest in final and all(Version(newest) >= Version(name) for name in final))


@given(st.lists(versions | words))
def test_the_order_is_that_of_pep_440_and_what_is_no_version_comes_first(names: list[str]) -> None:
    ordered = versions_in_order(names)
    assert sorted(ordered) == sorted(names)
    ranks = [parse_version(name) for name in ordered]
    known = [rank for rank in ranks if rank is not None]
    assert ranks == [None] * (len(ranks) - len(known)) + sorted(known)


@given(versions | words, versions | words)
def test_the_same_is_what_pep_440_calls_equal_or_the_same_text(one: str, other: str) -> None:
    assert same_version(one, other) == same_version(other, one)
    assert same_version(one, one)
    if parse_version(one) and parse_version(other):
        assert same_version(one, other) == (Version(one) == Version(other))
        assert matching_version(one, [other]) == (other if same_version(one, other) else None)
    else:
        assert same_version(one, other) == (one == other)


@given(st.none() | versions, st.none() | versions, versions | words)
def test_who_speaks_of_a_version_must_mean_the_same(asked: str | None, declared: str | None, reported: str) -> None:
    told: ModvisorError | None = None
    try:
        check_version(asked, declared, reported)
    except ModvisorError as error:
        told = error
    if asked is not None and not same_version(asked, reported):
        assert isinstance(told, WrongVersion)
        assert (told.details["asked"], told.details["found"]) == (asked, reported)
    elif declared is not None and not same_version(declared, reported):
        assert told is not None
        assert (told.code, told.details["declared"], told.details["found"]) == ("invalid_mod", declared, reported)
    else:
        assert told is None


CLASSES = [
    ("class Wiki(BaseMod):\n    version = '1.0'\n    requires = ['a']", None, {"version": "1.0", "requires": ["a"]}),
    ("class Wiki(mods.BaseMod):\n    version: ClassVar[str] = '1.0'", None, {"version": "1.0"}),
    ("from modvisor.mods import BaseMod as B\nclass Wiki(B):\n    version = '1.0'", None, {"version": "1.0"}),
    ("class Base(BaseMod):\n    version, x = '1', 2\n    a = 1\nclass Wiki(Base):\n    b = 2", None, {"a": 1, "b": 2}),
    ("class Base(BaseMod):\n    version = '1'\nclass Wiki(Base):\n    version = compute()", None, {}),
    ("class Base(BaseMod, Generic[T]):\n    a = 1\nclass Wiki(Base[int]): pass", None, {"a": 1}),
    ("class One(BaseMod):\n    a = 1\nclass Two(BaseMod):\n    a = 2", "Two", {"a": 2}),
    ("class One(BaseMod):\n    a = 1", "Other", {}),
    ("class Wiki(Wiki):\n    a = 1\nclass A(B): pass\nclass B(A): pass", None, {}),
    ("class Wiki:\n    version = '1.0'", None, {}),
]


@pytest.mark.parametrize(("source", "name", "found"), CLASSES)
def test_what_a_class_says_of_itself_is_read_from_its_source(source: str, name: str | None, found: Any) -> None:
    told = class_attributes(source, name)
    if "version" not in found:
        assert "version" not in told or "compute" not in source
    assert {key: told[key] for key in found} == found
    assert (told == {}) == (found == {}) or "compute" in source


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("class One(BaseMod):\n    a = 1\nclass Two(BaseMod):\n    a = 2", ": 2 mod classes (One, Two)"),
        ("x = 1\nthis is no python (", ":2: SyntaxError"),
        ("\0", "null byte"),
        ("(" * 100_000, ""),
    ],
)
def test_what_cannot_be_a_mod_is_told(source: str, said: str) -> None:
    with pytest.raises(BadSource) as caught:
        class_attributes(source)
    assert said in str(caught.value)


@given(st.text() | st.binary())
def test_whatever_a_file_holds_it_is_read_or_told(source: str | bytes) -> None:
    try:
        found = class_attributes(source)
    except BadSource:
        return
    assert isinstance(found, dict)


def write(folder: Path, version: str, **files: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "mod.py").write_text(f"class Wiki(BaseMod):\n    version = {version!r}\n")
    for name, text in files.items():
        (folder / name.replace("_", ".")).write_text(textwrap.dedent(text))
    return folder


def home(base: Path, path: str = "./wiki", **keys: Any) -> Home:
    return find_home(parse_mod({"path": path, **keys}, base_dir=base), base, [str(base / "lib")])


def test_only_folders_with_a_mod_and_a_version_for_a_name_are_versions(tmp_path: Path) -> None:
    root = tmp_path / "wiki"
    for name in ("1.10", "1.9", "not a version", "2.0rc1"):
        write(root / "versions" / name, name)
    (root / "versions" / "3.0").mkdir()
    (root / "versions" / "4.0").touch()
    assert list(version_folders(root)) == ["1.9", "1.10", "2.0rc1"]
    assert version_folders(tmp_path) == {}
    assert home(tmp_path).folder == root / "versions" / "1.10"
    assert home(tmp_path, version="2.0.0rc1").folder == root / "versions" / "2.0rc1"
    with pytest.raises(WrongVersion, match=r"no version 3 of \./wiki; in .* there is 1.9, 1.10, 2.0rc1$"):
        home(tmp_path, version="3")


def test_the_folder_itself_is_a_version_too(tmp_path: Path) -> None:
    root = write(tmp_path / "mods" / "wiki", "2.0")
    old = write(root / "versions" / "1.0", "1.0", mod_yaml="durable: true\n")
    assert home(tmp_path) == home(tmp_path, version="2") == Home(root, None, True)
    assert home(tmp_path, version="1") == Home(old, ModFile(str(old / "mod.yaml"), "durable: true\n"), True)
    write(root, "2.0", mod_yaml="version: 2.5")
    assert facts_of(root).version == "2.5", (
        "mod.yaml speaks for a mod before its class does; its worker will say if they differ"
    )
    (root / "mod.yaml").write_text("version: [")
    assert facts_of(root).version == "2.0"


def test_a_package_is_imported_by_its_name_unless_it_is_another_version_or_for_another_python(tmp_path: Path) -> None:
    root = write(tmp_path / "lib" / "team" / "wiki", "2.0")
    old = write(root / "versions" / "1.0", "1.0")
    assert home(tmp_path, "team.wiki") == Home(root)
    assert home(tmp_path, "team.wiki.mod:Wiki") == Home(root)
    assert home(tmp_path, "team.wiki", version="1.0") == Home(old, None, True)
    (tmp_path / "python").touch(0o755)
    assert home(tmp_path, "team.wiki", python="python") == Home(root, None, True)
    assert home(tmp_path, "team.nowhere") == Home()
    bundled = home(tmp_path, "modvisor.mods.workspace.wiki")
    assert bundled.folder is not None, "an editable install is no folder on sys.path"
    assert facts_of(bundled.folder).version == "1.0.0"


def test_validate_names_the_entry_whose_version_is_not_there(tmp_path: Path) -> None:
    write(tmp_path / "mods" / "wiki", "2.0")
    file = tmp_path / "network.yaml"
    file.write_text(
        "network: {name: n}\nmods:\n  - {path: ./wiki, version: 2.0}\n  - {path: ./wiki, id: b, version: 1.10}\n"
    )
    with pytest.raises(ConfigError) as caught:
        with_mod_files(load_config(file))
    (problem,) = caught.value.problems
    assert (problem.file, problem.key) == (str(file), "mods[1].version")
    assert "there is no version 1.10 of ./wiki" in problem.message


@pytest.mark.anyio
async def test_a_snapshot_is_of_a_path_and_of_the_version_that_was_asked_for(tmp_path: Path) -> None:
    store = SnapshotStore(tmp_path / "snapshots")
    modules = {"local_mods.wiki.mod": {"path": "/mod.py", "source": b"", "is_package": False}}
    where = Home(tmp_path / "1.0", ModFile("/mod.yaml", "durable: true"), True)
    await store.write("wiki", "./wiki", modules, where, "1.0")
    assert [await store.is_of("wiki", path, asked) for path in ("./wiki", "./other") for asked in ("1.0", "2.0", None)] == [
        True, False, False, False, False, False,
    ]  # fmt: skip
    kept = await store.read("wiki")
    assert kept is not None
    assert (kept.modules, kept.home) == (modules, where)
    await store.write("wiki", "pkg.wiki", modules)
    assert await store.is_of("wiki", "pkg.wiki")
    (tmp_path / "snapshots" / "wiki.msgpack").write_bytes(b"\xc1")
    assert await store.read("wiki") is None
