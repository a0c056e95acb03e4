"""The operator's drill: each trouble is solved by what the tool prints (examples/drill.py)."""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path
from types import ModuleType

import pytest

from tests import warm

FILE = Path(__file__).parent.parent / "examples" / "drill.py"


def drill() -> ModuleType:
    spec = importlib.util.spec_from_file_location("drill", FILE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["drill"] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
@pytest.mark.timeout(120)
@pytest.mark.parametrize("night", ["quarantine", "disk", "deploy", "leak", "token", "journal"])
def test_a_night_is_lived_through_by_what_is_printed(night: str) -> None:
    if night == "disk" and os.geteuid() != 0:
        pytest.skip("only root can mount a small disk")
    drill().live_through(night, warm.Popen)


def test_the_nights_are_those_that_are_tested_and_each_has_a_story() -> None:
    nights = drill().NIGHTS
    assert list(nights) == ["quarantine", "disk", "deploy", "leak", "token", "journal"]
    assert all(story.__doc__ for story, _ in nights.values())
