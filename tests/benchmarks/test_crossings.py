"""The count of files that an operation crosses."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import pytest

from benchmarks import crossings

pytestmark = pytest.mark.anyio


def test_a_change_is_a_call_in_another_file() -> None:
    walk = crossings.Walk()
    walk.files = ["supervisor/a.py", "supervisor/a.py", "ipc/b.py", "supervisor/a.py", "supervisor/c.py"]
    assert walk.figures() == {"files": 3, "of_supervisor": 2, "changes": 3, "calls": 5, "resumed": 0}
    assert crossings.Walk().figures() == {"files": 0, "of_supervisor": 0, "changes": 0, "calls": 0, "resumed": 0}


async def test_a_coroutine_that_goes_on_is_no_further_call() -> None:
    walk = crossings.Walk()
    started = compile(
        "async def waits():\n    for _ in range(3):\n        await pause()", f"{crossings.HOUSE}/ipc/x.py", "exec"
    )
    names: dict[str, Any] = {"pause": lambda: asyncio.sleep(0)}
    exec(started, names)
    before = sys.getprofile()
    sys.setprofile(walk)
    try:
        await names["waits"]()
    finally:
        sys.setprofile(before)
    assert (walk.files, walk.resumed) == (["ipc/x.py"], 3)


async def test_each_operation_crosses_files_of_the_house_and_no_others() -> None:
    found = await crossings.walks()
    assert tuple(found) == crossings.OPERATIONS
    for name, walk in found.items():
        assert walk.figures()["changes"] >= walk.figures()["files"] - 1 > 0, name
        assert all((crossings.HOUSE / file).is_file() for file in walk.files)
