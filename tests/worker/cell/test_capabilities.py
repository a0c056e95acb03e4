"""What a process may do beyond its user's rights: nothing, wherever it began."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from modvisor.worker.cell.capabilities import drop_all, leave_bounding_set
from modvisor.worker.cell.namespaces import NEWUSER, map_user
from tests.worker.cell.children import NOBODY, in_child, live_apart

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="Linux")


def held() -> dict[str, int]:
    """Return the sets of capabilities of this process."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return {
        name: int(value, 16) for name, _, value in (line.partition(":") for line in lines) if name.startswith("Cap")
    }


@pytest.mark.skipif(os.geteuid() != 0, reason="root")
def test_what_a_guardian_of_root_has_left_is_left_for_its_workers_and_it_keeps_what_it_does() -> None:
    def guardian() -> list[dict[str, int]]:
        leave_bounding_set()
        return [held(), in_child(lambda: (drop_all(), held())[1])]

    guardians, workers = in_child(guardian)
    assert guardians["CapBnd"] == 0
    assert guardians["CapEff"] != 0
    assert set(workers.values()) == {0}


@pytest.mark.parametrize("is_left", [True, False])
def test_nothing_is_left_in_a_user_namespace_which_begins_with_everything(is_left: bool) -> None:
    def worker() -> list[dict[str, int]]:
        ids = os.geteuid(), os.getegid()
        try:
            live_apart(NEWUSER)
        except OSError:
            pytest.skip("no user namespaces here")
        map_user(*ids)
        before = held()
        drop_all()
        return [before, held()]

    def guardian() -> list[dict[str, int]]:
        if is_left:
            leave_bounding_set()
        return in_child(worker, user=NOBODY)

    before, after = in_child(guardian)
    assert before["CapBnd"] != 0
    assert set(after.values()) == {0}
