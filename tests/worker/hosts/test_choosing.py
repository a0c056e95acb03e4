"""Which of several classes of a file is the mod: what the author has written down, never a guess."""

from __future__ import annotations

import importlib
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from modvisor.worker.loader import LoadFailed, find_mod_class, sources_for

HEAD = "from openagents.core.base_mod import BaseMod\n"
TWO = HEAD + "class WikiMod(BaseMod): pass\nclass Helper(BaseMod): pass\n"


@pytest.fixture
def load(tmp_path: Path) -> Iterator[Callable[..., type]]:
    """Write the folder of ``./my_wiki`` and find its class."""
    modules, finders = set(sys.modules), list(sys.meta_path)

    def write(**files: str) -> type:
        for name, text in files.items():
            file = name.replace("__", ".") if "__" in name else f"{name}.py"
            (tmp_path / file).write_text(textwrap.dedent(text))
        importlib.invalidate_caches()
        sources = sources_for("./my_wiki", str(tmp_path))
        sources.install()
        return find_mod_class("./my_wiki", sources)

    yield write
    sys.meta_path[:] = finders
    for name in [name for name in set(sys.modules) - modules if name.startswith("local_mods")]:
        del sys.modules[name]


@pytest.mark.parametrize("name", ["NetworkMod", "MyWikiNetworkMod", "MyWikiMod", "Mod"])
def test_one_class_has_a_name_that_their_loaders_look_for(load: Callable[..., type], name: str) -> None:
    assert load(mod=TWO.replace("WikiMod", name)).__name__ == name


@pytest.mark.parametrize("said", ["default_mod_class = Helper", "default_mod_class = 'Helper'"])
def test_the_module_names_its_class(load: Callable[..., type], said: str) -> None:
    assert load(mod=f"{TWO.replace('WikiMod', 'NetworkMod')}{said}\n").__name__ == "Helper"


@pytest.mark.parametrize("file", ["manifest__json", "mod_manifest__json"])
def test_a_manifest_beside_the_code_names_its_class(load: Callable[..., type], file: str) -> None:
    assert load(mod=TWO, **{file: '{"network_mod_class": "Helper"}'}).__name__ == "Helper"


def test_a_manifest_that_names_no_class_says_nothing(load: Callable[..., type]) -> None:
    assert load(mod=HEAD + "class Any(BaseMod): pass\n", manifest__json='{"version": "1.0.0"}').__name__ == "Any"


@pytest.mark.parametrize(
    ("files", "code", "said"),
    [
        ({"mod": TWO}, "ambiguous_mod_class", r"2 mod classes in .*mod.py \(Helper, WikiMod\)"),
        ({"mod": TWO.replace("Wiki", "MyWiki").replace("Helper", "NetworkMod")}, "ambiguous_mod_class", "2 mod classes"),
        ({"mod": TWO + "default_mod_class = 'Gone'\n"}, "no_mod_class", "names 'Gone', which is no mod class of the file; "
         "it has WikiMod, Helper"),
        ({"mod": TWO, "manifest__json": '{"network_mod_class": "Gone"}'}, "no_mod_class", r"manifest.json names 'Gone'"),
        ({"mod": TWO, "manifest__json": "{"}, "no_mod_class", r"manifest.json is not JSON"),
        ({"mod": HEAD}, "no_mod_class", "expected exactly one"),
    ],
)  # fmt: skip
def test_a_guess_is_refused_by_name(load: Callable[..., type], files: dict[str, str], code: str, said: str) -> None:
    with pytest.raises(LoadFailed, match=said) as caught:
        load(**files)
    assert caught.value.code == code


def test_a_name_error_names_file_line_and_cause(load: Callable[..., type]) -> None:
    with pytest.raises(LoadFailed, match=r"import failed at .*mod.py:2: NameError: name 'Optional' is not defined"):
        load(mod=HEAD + "def find(x: Optional[str]): ...\nclass Any(BaseMod): pass\n")


def test_a_missing_openagents_says_what_to_install(load: Callable[..., type], monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "openagents"]:
        monkeypatch.delitem(sys.modules, name)

    class Without:
        @staticmethod
        def find_spec(fullname: str, _path: object = None, _target: object = None) -> None:
            if fullname == "openagents":
                raise ModuleNotFoundError(f"No module named {fullname!r}", name=fullname)

    monkeypatch.setattr(sys, "meta_path", [Without, *sys.meta_path])
    with pytest.raises(LoadFailed, match=r"No module named 'openagents'; pip install 'modvisor\[openagents\]' for "):
        load(mod=HEAD)
