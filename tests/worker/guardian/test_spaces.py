"""Which namespaces a guardian finds that this system gives, in user namespaces of the tests' own."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from modvisor.ipc.cell import DEFAULT, HIDDEN, Cell
from modvisor.worker.cell.namespaces import NEWNS, NEWPID, NEWUSER, map_user
from modvisor.worker.guardian import spaces
from tests.worker.cell.children import in_child, live_apart

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="Linux")

LIMIT = Path("/proc/sys/user/max_pid_namespaces")


@pytest.mark.parametrize("again", [0.0, 1e6])
def test_what_was_refused_is_asked_for_again_after_a_while(again: float) -> None:
    def step() -> list[bool]:
        ids = os.geteuid(), os.getegid()
        live_apart(NEWUSER)
        map_user(*ids)
        spaces.AGAIN = again
        known, found = spaces.Spaces(hooks=False), []
        for most in ("0", "100", "0"):
            LIMIT.write_text(most)
            space = known.of(Cell(DEFAULT, processes=True, files=HIDDEN))
            found.append(space.has(NEWPID))
            assert space.has(NEWNS)
            assert bool(space.refused) != space.has(NEWPID)
        return found

    assert in_child(step) == ([False, True, True] if again == 0 else [False, False, False])
