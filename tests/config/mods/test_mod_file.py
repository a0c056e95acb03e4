"""What a mod.yaml says, and what goes before it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from modvisor.supervisor.config.mods.entry import parse_mod
from modvisor.supervisor.config.mods.mod import LimitsConfig, ModConfig, RestartConfig
from modvisor.supervisor.config.mods.mod_file import ModFile, with_mod_file
from modvisor.supervisor.config.yaml.source import ConfigError
from modvisor.supervisor.sources.home import find_home

FILE = ModFile(
    "mods/x/mod.yaml",
    """
limits: {memory: 300MB, concurrency: 4}
restart: {max_restarts: 1}
durable: true
checkpoint_every: 5s
""",
)


def asked(tmp_path: Path, **keys: Any) -> ModConfig:
    return parse_mod({"path": "pkg.x", **keys}, base_dir=tmp_path)


def test_it_completes_what_was_asked_for(tmp_path: Path) -> None:
    mod = with_mod_file(asked(tmp_path), FILE)
    assert mod.limits == LimitsConfig(memory=300_000_000, concurrency=4)
    assert mod.restart == RestartConfig(max_restarts=1)
    assert (mod.durable, mod.checkpoint_every, mod.delivery) == (True, 5.0, "at_least_once")


def test_what_was_given_goes_before_it_even_if_it_is_the_default(tmp_path: Path) -> None:
    mod = with_mod_file(asked(tmp_path, limits={"concurrency": 64, "queue": 7}, durable=False, restart={}), FILE)
    assert mod.limits == LimitsConfig(memory=300_000_000, concurrency=64, queue=7)
    assert (mod.durable, mod.restart.max_restarts) == (False, 1)


def test_the_next_file_completes_what_was_asked_for_not_what_the_former_made_of_it(tmp_path: Path) -> None:
    first = with_mod_file(asked(tmp_path, limits={"queue": 7}), FILE)
    assert with_mod_file(first, ModFile("mod.yaml", "limits: {concurrency: 2}")).limits == LimitsConfig(
        queue=7, concurrency=2
    )
    assert with_mod_file(first, None) == first.as_asked == asked(tmp_path, limits={"queue": 7})
    assert with_mod_file(first, ModFile("mod.yaml", "")) == first.as_asked


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (
            "limits: {memory: lots}\nretries: 3",
            ["mods/x/mod.yaml:1: limits.memory: expected a size", "mod.yaml:2: retries"],
        ),
        ("limits: [", ["mods/x/mod.yaml:1: not valid YAML"]),
        ("\npath: ./y", ["mods/x/mod.yaml:2: path: unknown key"]),
        (
            "limits:\n  memory_soft: 500MB",
            ["mods/x/mod.yaml:2: limits.memory_soft: must be less than memory, 400000000"],
        ),
        ("restart: {max_delay: 1ms}", ["restart.max_delay: must not be less than first_delay, 0.1"]),
        ("- limits", ["expected a mapping"]),
    ],
)
def test_mistakes_are_told_with_their_line(tmp_path: Path, text: str, told: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        with_mod_file(asked(tmp_path, limits={"memory": "400MB"}), ModFile("mods/x/mod.yaml", text))
    for part in told:
        assert part in str(caught.value)


def test_it_is_found_beside_the_mod(tmp_path: Path) -> None:
    for folder in ("lib/pkg/wiki", "lib/pkg/flat", "other/pkg/wiki", "local"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "mod.yaml").write_text(f"# {folder}")
    (tmp_path / "lib/pkg/flat/mod.py").touch()
    (tmp_path / "lib/pkg/single.py").touch()
    search = [str(tmp_path / "none"), str(tmp_path / "lib"), str(tmp_path / "other")]

    def found(mod_path: str) -> str | None:
        file = find_home(parse_mod(mod_path, base_dir=tmp_path), tmp_path, search).file
        return None if file is None else file.text.removeprefix("# ")

    assert found("pkg.wiki") == "lib/pkg/wiki", "as Python would: the first folder of the path that has it"
    assert found("pkg.wiki:Wiki") == "lib/pkg/wiki"
    assert found("pkg.flat.mod:Flat") == "lib/pkg/flat"
    assert found("pkg.single") is None
    assert found("pkg.missing") is None
    assert found("./local") == "local"
    (tmp_path / "local" / "mod.yaml").write_bytes(b"\xff")
    with pytest.raises(ConfigError, match="is not UTF-8"):
        found("./local")
