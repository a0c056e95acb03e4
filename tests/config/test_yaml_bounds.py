"""What a file may hold is bounded while it is read, so that a small file costs little."""

from __future__ import annotations

import time
import tracemalloc

import pytest

from modvisor.supervisor.config.mod_file import ModFile, mod_file_keys
from modvisor.supervisor.config.yaml_bounds import MOD_FILE, NETWORK_FILE
from modvisor.supervisor.config.yaml_source import MAX_PROBLEMS, ConfigError, Source, parse_yaml

BOMBS = {
    "aliases of aliases": "a0: &a0 [x]\n" + "".join(f"a{i}: &a{i} [{f'*a{i - 1},' * 9}]\n" for i in range(1, 30)),
    "aliases in one list": "a: &a [" + "x," * 2_000 + "]\nb: [" + "*a," * 20_000 + "]",
    "an alias of a long text": f"a: &a {'x' * 100_000}\nb: [{'*a,' * 9_000}]",
    "an alias of nothing": "a: &a\nb: [" + "*a," * 20_000 + "]",
    "merges of merges": "a0: &a0 {x: 1}\n"
    + "".join(f"a{i}: &a{i} {{<<: [{f'*a{i - 1},' * 9}]}}\n" for i in range(1, 30)),
    "many values": "[" + "1," * 20_000 + "1]",
    "depth": "[" * 20_000,
    "depth of keys": "? " * 20_000,
}


@pytest.mark.parametrize("bomb", BOMBS.values(), ids=BOMBS)
def test_a_bomb_in_a_mod_yaml_is_refused_soon(bomb: str) -> None:
    began = time.process_time()
    tracemalloc.start()
    try:
        with pytest.raises(ConfigError, match=r"more than \d+ (values|aliases|letters)|nested deeper than 100"):
            mod_file_keys(ModFile("mod.yaml", bomb))
        assert tracemalloc.get_traced_memory()[1] < 40_000_000
    finally:
        tracemalloc.stop()
    assert time.process_time() - began < 5


def test_a_mod_yaml_is_bounded_more_strictly_than_a_network_file() -> None:
    text = "[" + "1," * (MOD_FILE.values + 1) + "]"
    for bounds, count in ((MOD_FILE, 1), (NETWORK_FILE, 0)):
        source = Source()
        parse_yaml(text, source, bounds=bounds)
        assert len(source.problems) == count


def test_mistakes_are_counted_up_to_a_bound() -> None:
    with pytest.raises(ConfigError) as caught:
        mod_file_keys(ModFile("mod.yaml", "".join(f"k{i}: 1\n" for i in range(MAX_PROBLEMS + 100))))
    assert len(caught.value.problems) == MAX_PROBLEMS + 1
    assert "mend these first" in caught.value.problems[-1].message
