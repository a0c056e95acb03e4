"""The counters: each one is described, and none is shared."""

from __future__ import annotations

import re
from dataclasses import fields

import pytest

from modvisor.supervisor.calls.counters import ModCounters, NetworkCounters


@pytest.mark.parametrize("kind", [ModCounters, NetworkCounters])
def test_every_counter_is_described(kind: type) -> None:
    described = set(re.findall(r"^ {8}(\w+): ", kind.__doc__ or "", re.MULTILINE))
    assert described == {field.name for field in fields(kind)}


def test_each_mod_has_a_histogram_of_its_own() -> None:
    one, other = ModCounters(), ModCounters()
    one.latency.add(1.0)
    assert (len(one.latency), len(other.latency)) == (1, 0)
