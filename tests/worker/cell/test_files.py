"""The mounts of a cell, which the warden makes for the worker, in mount namespaces of the tests' own."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from modvisor.ipc.cell import DEFAULT, HIDDEN, LISTED, STRICT, Cell
from modvisor.worker.cell.apply import confine
from modvisor.worker.cell.files import Files
from modvisor.worker.cell.namespaces import NEWIPC, NEWNS, NEWUSER, Space
from modvisor.worker.cell.refusal import NotEnforced
from tests.worker.cell.children import NOBODY, in_child, live_apart

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="Linux")


def in_space(step: Callable[[Space], Any], user: int = 0) -> Any:
    """Return what a step returns in a mount namespace of its own."""

    def work() -> Any:
        space = Space(NEWNS | NEWIPC | (NEWUSER if os.geteuid() else 0))
        live_apart(space.flags)
        space.enter()
        return step(space)

    return in_child(work, user=user)


@pytest.fixture
def cell() -> Iterator[Cell]:
    """Hides a folder with a secret and the mod's own folder, which every user may enter: tmp_path is for its owner alone."""
    with TemporaryDirectory(prefix="modvisor-") as folder:
        place = Path(folder)
        place.chmod(0o755)
        storage = place / "state" / "own"
        storage.mkdir(parents=True)
        (place / "state" / "secret").write_text("x")
        yield Cell(DEFAULT, files=HIDDEN, hidden=(os.fsencode(place / "state"),), storage=os.fsencode(storage))


def seen(cell: Cell) -> list[str]:
    return sorted(os.listdir(os.fsdecode(cell.hidden[0])))


@pytest.mark.parametrize("user", [0, NOBODY])
def test_a_worker_goes_on_when_its_warden_has_made_the_mounts(cell: Cell, user: int) -> None:
    def step(space: Space) -> Any:
        files = Files(cell, space)

        def worker() -> Any:
            files.leave_telling()
            before = seen(cell)
            os.write(ready[1], b"x")
            return before, confine(cell, files)["files"], seen(cell)

        ready = os.pipe()
        if not (warden := os.fork()):
            os.close(ready[1])  # so that the end of the worker ends this wait, too
            os.read(ready[0], 1)  # by then the worker waits, or is about to
            files.make()
            os._exit(0)
        answer = worker()
        os.waitpid(warden, 0)
        return answer

    assert in_space(step, user) == (["own", "secret"], "mount namespace", [".hidden", "own"])


def test_a_worker_whose_warden_dies_over_the_mounts_does_not_go_on(cell: Cell) -> None:
    def step(space: Space) -> Any:
        files = Files(cell, space)
        if not (warden := os.fork()):
            os._exit(0)
        files.leave_telling()
        os.waitpid(warden, 0)
        assert not cell.required
        with pytest.raises(NotEnforced, match="the warden has died"):
            confine(cell, files)
        return "refused"

    assert in_space(step) == "refused"


@pytest.mark.parametrize("profile", [DEFAULT, STRICT])
def test_a_spare_hides_files_when_it_gets_a_mod(cell: Cell, profile: str) -> None:
    mine = Cell(profile, files=LISTED if profile == STRICT else HIDDEN, hidden=cell.hidden, storage=cell.storage)

    def step(space: Space) -> Any:
        files = Files(Cell(DEFAULT, files=HIDDEN, hidden=cell.hidden), space, is_ahead=True)
        files.make()
        before = seen(mine)
        confine(mine, files)
        return before, seen(mine)

    assert in_space(step) == (["own", "secret"], ["own"] if profile == STRICT else [".hidden", "own"])
