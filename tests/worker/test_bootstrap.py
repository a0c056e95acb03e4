"""What a worker under a mod's own interpreter finds of the network's environment."""

from __future__ import annotations

from pathlib import Path

import pytest

from modvisor.worker import bootstrap

ROOT = Path(bootstrap.__file__).parent.parent


@pytest.mark.parametrize("floor", ["ipc", "mods", "worker"])
def test_it_finds_what_a_worker_needs(floor: str) -> None:
    spec = bootstrap.House.find_spec(f"modvisor.{floor}")
    assert spec is not None
    assert spec.origin == str(ROOT / floor / "__init__.py")
    assert spec.submodule_search_locations == [str(ROOT / floor)]


@pytest.mark.parametrize("name", ["modvisor.supervisor", "modvisor.client", "yaml", "ipc", "modvisor.ipc.pipe"])
def test_it_finds_no_more(name: str) -> None:
    assert bootstrap.House.find_spec(name) is None
    assert bootstrap.Msgpack(str(ROOT)).find_spec(name) is None


def test_the_root_package_holds_nothing_itself() -> None:
    spec = bootstrap.House.find_spec("modvisor")
    assert spec is not None
    assert spec.submodule_search_locations == []
