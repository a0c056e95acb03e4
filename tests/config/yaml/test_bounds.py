"""What a file may hold is bounded while it is read, so that a small file costs little."""

from __future__ import annotations

import re
import time
import tracemalloc

import pytest

from modvisor.supervisor.config.mods import mod_file
from modvisor.supervisor.config.mods.mod_file import ModFile, mod_file_keys
from modvisor.supervisor.config.yaml import source as yaml_source
from modvisor.supervisor.config.yaml.bounds import MOD_FILE, NETWORK_FILE, Bounds
from modvisor.supervisor.config.yaml.source import BROKEN, ConfigError, Source, parse_yaml

SMALL = Bounds(20_000, 500)
"""Bounds that are reached quickly; the bounds of real files cost a second of the parser."""

BOMBS = {
    "aliases of aliases": "a0: &a0 [x]\n" + "".join(f"a{i}: &a{i} [{f'*a{i - 1},' * 9}]\n" for i in range(1, 30)),
    "aliases in one list": "a: &a [" + "x," * 200 + "]\nb: [" + "*a," * 1_000 + "]",
    "an alias of a long text": f"a: &a {'x' * 10_000}\nb: [{'*a,' * 300}]",
    "an alias of nothing": "a: &a\nb: [" + "*a," * 1_000 + "]",
    "merges of merges": "a0: &a0 {x: 1}\n"
    + "".join(f"a{i}: &a{i} {{<<: [{f'*a{i - 1},' * 9}]}}\n" for i in range(1, 30)),
    "many values": "[" + "1," * 1_000 + "1]",
    "depth": "[" * 20_000,
    "depth of keys": "? " * 20_000,
}


@pytest.mark.parametrize("bomb", BOMBS.values(), ids=BOMBS)
def test_a_bomb_is_refused_while_it_is_read(bomb: str) -> None:
    began, source = time.process_time(), Source()
    assert parse_yaml(bomb, source, bounds=SMALL) is BROKEN
    (problem,) = source.problems
    assert re.match(r"more than \d+ (values|aliases|letters)|nested deeper than 100", problem.message)
    assert time.process_time() - began < 2


def test_a_mod_yaml_is_bounded_more_strictly_than_a_network_file(monkeypatch: pytest.MonkeyPatch) -> None:
    assert (MOD_FILE.size, MOD_FILE.values) < (NETWORK_FILE.size, NETWORK_FILE.values)
    monkeypatch.setattr(mod_file, "MOD_FILE", SMALL)
    with pytest.raises(ConfigError, match="more than 500 values"):
        mod_file_keys(ModFile("mod.yaml", BOMBS["many values"]))
    source = Source()
    assert parse_yaml(BOMBS["many values"], source) is not BROKEN
    assert source.problems == []


@pytest.mark.slow
def test_a_mod_yaml_of_any_shape_is_refused_within_seconds() -> None:
    """What held the loop for 100 s and took 1.2 GB."""
    began = time.process_time()
    tracemalloc.start()
    try:
        with pytest.raises(ConfigError, match="more than 5000 values"):
            mod_file_keys(ModFile("mod.yaml", "a: &a [" + "x," * 4_000 + "]\nb: [" + "*a," * 60_000 + "]"))
        assert tracemalloc.get_traced_memory()[1] < 40_000_000
    finally:
        tracemalloc.stop()
    assert time.process_time() - began < 5


def test_mistakes_are_counted_up_to_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(yaml_source, "MAX_PROBLEMS", 20)
    with pytest.raises(ConfigError) as caught:
        mod_file_keys(ModFile("mod.yaml", "".join(f"k{i}: 1\n" for i in range(30))))
    assert len(caught.value.problems) == 21
    assert "mend these first" in caught.value.problems[-1].message
