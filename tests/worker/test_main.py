"""A person who starts one of the supervisor's programs gets its usage."""

from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    "words", [["modvisor.worker"], ["modvisor.worker", "3", "4", "x"], ["modvisor.worker.guardian", "3"]]
)
def test_wrong_arguments_are_answered_with_the_usage(words: list[str]) -> None:
    done = subprocess.run([sys.executable, "-m", *words], capture_output=True, text=True, timeout=30)
    assert done.returncode == 1
    assert done.stderr.startswith(f"usage: python -m {words[0]} FD ")
    assert "started by modvisor" in done.stderr
