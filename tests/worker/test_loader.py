"""The right mod class is found; sources are fresh; snapshots run. All in this process."""

from __future__ import annotations

import importlib
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from modvisor.worker.loader import LoadFailed, find_mod_class, sources_for

ONE = "from modvisor.mods import BaseMod\nclass Wiki(BaseMod):\n    version = '1'\n"


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[dict[str, str]], Path]]:
    """Write files below a folder that is first on sys.path. Remove their modules afterwards."""
    modules, finders = set(sys.modules), list(sys.meta_path)
    monkeypatch.syspath_prepend(tmp_path)

    def write(files: dict[str, str]) -> Path:
        for name, text in files.items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(textwrap.dedent(text))
        importlib.invalidate_caches()
        return tmp_path

    yield write
    sys.meta_path[:] = finders
    for name in set(sys.modules) - modules:
        del sys.modules[name]


def load(mod_path: str, folder: Path | None = None) -> type:
    sources = sources_for(mod_path, None if folder is None else str(folder))
    sources.install()
    return find_mod_class(mod_path, sources)


@pytest.mark.parametrize(
    ("files", "mod_path", "module"),
    [
        ({"pkg1/__init__.py": "", "pkg1/wiki/__init__.py": "", "pkg1/wiki/mod.py": ONE}, "pkg1.wiki", "pkg1.wiki.mod"),
        ({"pkg2/wiki/mod.py": ONE}, "pkg2.wiki", "pkg2.wiki.mod"),
        ({"pkg3/wiki/mod.py": ONE}, "pkg3.wiki.mod", "pkg3.wiki.mod"),
        ({"pkg4/wiki.py": ONE}, "pkg4.wiki", "pkg4.wiki"),
        ({"pkg9/mod/__init__.py": "", "pkg9/mod/mod.py": ONE}, "pkg9.mod", "pkg9.mod.mod"),
        ({"pkg5/wiki/__init__.py": ONE}, "pkg5.wiki", "pkg5.wiki"),
        ({"pkg6/two.py": ONE + "class Other(BaseMod): pass\n"}, "pkg6.two:Wiki", "pkg6.two"),
        ({"pkg7/wiki/mod.py": "from .impl import Wiki", "pkg7/wiki/impl.py": ONE}, "pkg7.wiki", "pkg7.wiki.impl"),
        ({"pkg8/wiki.py": ONE.replace("Wiki", "Base") + "class Wiki(Base): pass\n"}, "pkg8.wiki", "pkg8.wiki"),
    ],
)
def test_every_form_of_a_mod_path(
    project: Callable[[dict[str, str]], Path], files: dict[str, str], mod_path: str, module: str
) -> None:
    project(files)
    cls = load(mod_path)
    assert (cls.__module__, cls.__name__) == (module, "Wiki")


@pytest.mark.parametrize("name", ["wiki", "my-mod", "email"])
def test_a_local_folder_shadows_nothing_and_may_import_its_neighbours(
    project: Callable[[dict[str, str]], Path], name: str
) -> None:
    root = project(
        {f"mods/{name}/mod.py": "from .helper import VERSION\n" + ONE, f"mods/{name}/helper.py": "VERSION = '7'\n"}
    )
    cls = load(f"./{name}", root / "mods" / name)
    assert cls.__module__ == f"local_mods.{name.replace('-', '_')}.mod"
    assert importlib.import_module("email").__file__ != cls.__module__


@pytest.mark.parametrize(
    ("files", "mod_path", "code", "said"),
    [
        ({}, "nowhere.wiki", "import_failed", "no module named 'nowhere'"),
        (
            {"bad1.py": "import nothing_like_this\n"},
            "bad1",
            "import_failed",
            "bad1.py:1: ModuleNotFoundError: No module named",
        ),
        ({"bad2.py": "x = (\n"}, "bad2", "import_failed", "bad2.py:1: SyntaxError"),
        ({"bad3.py": "import sys\nsys.exit(3)\n"}, "bad3", "import_failed", "bad3.py:2: the module called sys.exit(3)"),
        ({"bad4.py": "1 / 0\n"}, "bad4", "import_failed", "bad4.py:1: ZeroDivisionError"),
        ({"bad5.py": "x = 1\n"}, "bad5", "no_mod_class", "no subclass of modvisor.mods.BaseMod"),
        (
            {"bad6.py": ONE + "class Two(BaseMod): pass\n"},
            "bad6",
            "ambiguous_mod_class",
            "(Two, Wiki); choose one with",
        ),
        ({"bad7.py": ONE}, "bad7:Missing", "no_mod_class", "Missing does not exist"),
        ({"bad8.py": "Wiki = 3\n"}, "bad8:Wiki", "no_mod_class", "is not a subclass"),
        ({}, "builtins:eval", "no_mod_class", "eval is not a subclass of modvisor.mods.BaseMod but a builtin"),
        ({}, "builtins:nothing", "no_mod_class", "nothing does not exist in the module builtins"),
        ({}, "os:PathLike", "no_mod_class", "PathLike is not a subclass of modvisor.mods.BaseMod but another class"),
        ({}, "modvisor.mods:BaseMod", "no_mod_class", "but BaseMod itself"),
        (
            {"bad10.py": "class R:\n    def __repr__(self): 1 / 0\nWiki = R()\n"},
            "bad10:Wiki",
            "no_mod_class",
            "but a R in ",
        ),
        ({"bad11.py": "def __getattr__(name): 1 / 0\n"}, "bad11:Wiki", "import_failed", "ZeroDivisionError"),
        ({"bad9/notes.txt": ""}, "bad9", "no_mod_class", "neither mod.py nor __init__.py"),
        (
            {},
            "openagents.mods.workspace.nothing",
            "import_failed",
            "no module named 'openagents.mods.workspace.nothing'",
        ),
    ],
)
def test_a_failure_names_cause_and_place(
    project: Callable[[dict[str, str]], Path], files: dict[str, str], mod_path: str, code: str, said: str
) -> None:
    project(files)
    with pytest.raises(LoadFailed) as caught:
        load(mod_path)
    assert caught.value.code == code
    assert said in str(caught.value)
    assert mod_path.partition(":")[0] in str(caught.value)


def test_a_snapshot_runs_what_was_loaded_though_the_files_changed_or_went(
    project: Callable[[dict[str, str]], Path],
) -> None:
    root = project({
        "snap/wiki/mod.py": "from .helper import VERSION\n" + ONE.replace("'1'", "VERSION"),
        "snap/wiki/helper.py": "VERSION = 'old'\n",
        "snap/wiki/lazy.py": "VERSION = 'old lazy'\n",
        "snap/wiki/tests/test_it.py": "raise RuntimeError\n",
    })  # fmt: skip
    sources = sources_for("snap.wiki", None)
    sources.install()
    assert find_mod_class("snap.wiki", sources).version == "old"
    snapshot = sources.snapshot()
    assert sorted(snapshot) == ["snap.wiki.helper", "snap.wiki.lazy", "snap.wiki.mod"]

    sys.meta_path.remove(sources)
    for name in [name for name in sys.modules if name.startswith("snap")]:
        del sys.modules[name]
    (root / "snap/wiki/helper.py").write_text("VERSION = 'new'\n")
    (root / "snap/wiki/lazy.py").unlink()
    (root / "snap/wiki/mod.py").unlink()
    again = sources_for("snap.wiki", None, snapshot)
    again.install()
    assert find_mod_class("snap.wiki", again).version == "old"
    assert importlib.import_module("snap.wiki.lazy").VERSION == "old lazy"


def test_own_sources_leave_no_bytecode(project: Callable[[dict[str, str]], Path]) -> None:
    root = project({"clean/wiki/mod.py": ONE})
    load("clean.wiki")
    assert not list(root.rglob("*.pyc"))
