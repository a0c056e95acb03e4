"""The root of a strict mod: what is listed, and nothing else. In mount namespaces of the tests' own."""

from __future__ import annotations

import errno
import os
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from modvisor.ipc.cell import LISTED, STRICT, Cell
from modvisor.worker.cell import mounts, view
from modvisor.worker.cell.namespaces import NEWIPC, NEWNS, NEWUSER, Space
from tests.worker.cell.children import NOBODY, errno_of, in_child, live_apart

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="Linux")

USERS = [0, NOBODY]


def in_view(cell: Cell, step: Callable[[], Any], user: int, *, hides: bool = False) -> Any:
    """Return what a step returns in the view of a cell, entered as root or as a user without rights."""

    def work() -> Any:
        space = Space(NEWNS | NEWIPC | (NEWUSER if os.geteuid() else 0))
        live_apart(space.flags)
        space.enter()
        if hides:
            mounts.hide(cell)
        view.enter(cell)
        return step()

    return in_child(work, user=user)


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder that every user may enter, with code, storage and what is not the mod's."""
    with TemporaryDirectory(prefix="modvisor-") as folder:
        place = Path(folder)
        place.chmod(0o755)
        for name in ("code", "storage", "secret"):
            (place / name).mkdir()
            (place / name / "file").write_text(name)
        (place / "storage").chmod(0o777)
        (place / "link").symlink_to("code")
        yield place


def cell_for(place: Path, *read: str, **more: Any) -> Cell:
    folders = tuple(os.fsencode(place / each) for each in read or ("code",))
    return Cell(STRICT, files=LISTED, storage=os.fsencode(place / "storage"), read=folders, **more)


@pytest.mark.parametrize("user", USERS)
def test_only_what_is_listed_is_there(place: Path, user: int) -> None:
    def step() -> dict[str, Any]:
        return {
            "code": (place / "code" / "file").read_text(),
            "code written": errno_of(lambda: (place / "code" / "new").write_text("x")),
            "storage": errno_of(lambda: (place / "storage" / "new").write_text("x")),
            "beside": sorted(each.name for each in place.iterdir()),
            "secret": errno_of((place / "secret" / "file").read_text),
            "secret made": errno_of(lambda: (place / "secret").chmod(0o777)),
            "passwd": errno_of(Path("/etc/passwd").read_text),
            "python": Path("/usr").is_dir(),
            "root written": errno_of(lambda: Path("/new").write_text("x")),
            "null": errno_of(lambda: Path(os.devnull).write_text("x")),
            "random": len(os.urandom(4)),
        }

    assert in_view(cell_for(place), step, user) == {
        "code": "code", "code written": errno.EROFS, "storage": 0, "beside": ["code", "storage"], "secret": errno.ENOENT,
        "secret made": errno.ENOENT, "passwd": errno.ENOENT, "python": True, "root written": errno.EROFS, "null": 0,
        "random": 4,
    }  # fmt: skip
    assert (place / "storage" / "new").exists()


@pytest.mark.parametrize("user", USERS)
def test_tmp_is_the_mods_own_and_bounded(place: Path, user: int) -> None:
    before = set(os.listdir("/tmp"))

    def step() -> tuple[list[str], int, int]:
        listed = os.listdir("/tmp")
        small = errno_of(lambda: Path("/tmp/small").write_bytes(b"x" * 100_000))
        return listed, small, errno_of(lambda: Path("/tmp/large").write_bytes(b"x" * 2_000_000))

    listed, small, large = in_view(cell_for(place, tmp=1_000_000), step, user)
    assert len(listed) < 2  # where this test's own folder lies, nothing of others
    assert (small, large) == (0, errno.ENOSPC)
    assert "small" not in set(os.listdir("/tmp")) - before


@pytest.mark.parametrize("user", USERS)
def test_links_lead_where_they_led(place: Path, user: int) -> None:
    read = (place / "link" / "file").read_text
    assert in_view(cell_for(place, "link"), read, user) == "code"
    assert in_view(cell_for(place, "link"), lambda: os.readlink(place / "link"), user) == "code"


def test_a_socket_by_path_is_not_there(place: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(place / "secret" / "socket"))
        listener.listen()

        def step() -> int:
            return errno_of(lambda: socket.socket(socket.AF_UNIX).connect(str(place / "secret" / "socket")))

        assert in_view(cell_for(place), step, 0) == errno.ENOENT


@pytest.mark.parametrize("user", USERS)
def test_what_is_hidden_below_a_listed_folder_stays_hidden(place: Path, user: int) -> None:
    (place / "code" / "state").mkdir()
    (place / "code" / "state" / "token").write_text("token")
    cell = cell_for(place, hidden=(os.fsencode(place / "code" / "state"),))

    def step() -> tuple[str, bool]:
        return (place / "code" / "file").read_text(), (place / "code" / "state" / "token").exists()

    assert in_view(cell, step, user, hides=True) == ("code", False)


def test_the_way_to_a_listed_folder_asks_for_no_rights(place: Path) -> None:
    (place / "code").chmod(0o755)
    place.chmod(0o700)

    def step() -> str:
        os.setgroups([])
        os.setgid(NOBODY)
        os.setuid(NOBODY)
        return (place / "code" / "file").read_text()

    if os.geteuid() != 0:
        pytest.skip("needs root")
    assert in_view(cell_for(place), step, 0) == "code"
