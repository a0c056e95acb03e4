"""The count of files that an operation crosses."""

from __future__ import annotations

import pytest

from benchmarks import crossings

pytestmark = pytest.mark.anyio


def test_a_change_is_a_call_in_another_file() -> None:
    walk = crossings.Walk()
    walk.files = ["supervisor/a.py", "supervisor/a.py", "ipc/b.py", "supervisor/a.py", "supervisor/c.py"]
    assert walk.figures() == {"files": 3, "of_supervisor": 2, "changes": 3, "calls": 5}
    assert crossings.Walk().figures() == {"files": 0, "of_supervisor": 0, "changes": 0, "calls": 0}


async def test_each_operation_crosses_files_of_the_house_and_no_others() -> None:
    found = await crossings.walks()
    assert tuple(found) == crossings.OPERATIONS
    for name, walk in found.items():
        assert walk.figures()["changes"] >= walk.figures()["files"] - 1 > 0, name
        assert all((crossings.HOUSE / file).is_file() for file in walk.files)
