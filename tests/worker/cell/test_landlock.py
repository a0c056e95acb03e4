"""Landlock: what a confined process gets of files and of other processes."""

from __future__ import annotations

import errno
import os
import signal
import socket
import sys
from pathlib import Path

import pytest

from modvisor.ipc.cell import LISTED, STRICT, Cell
from modvisor.worker.cell import capabilities, landlock
from modvisor.worker.cell.refusal import NotEnforced
from tests.worker.cell.children import errno_of, in_child, no_new_privs

pytestmark = pytest.mark.skipif(sys.platform != "linux" or not landlock.abi(), reason="Linux with Landlock")
scoped = pytest.mark.skipif(sys.platform != "linux" or landlock.abi() < landlock.SCOPED_SINCE, reason="Landlock ABI 6")


def cell_for(storage: Path, *read: Path, exec: bool = False) -> Cell:
    return Cell(
        STRICT,
        files=LISTED,
        processes=True,
        storage=os.fsencode(storage),
        read=tuple(map(os.fsencode, read)),
        exec=exec,
    )


@pytest.fixture
def storage(tmp_path: Path) -> Path:
    folder = tmp_path / "storage"
    folder.mkdir()
    return folder


def test_a_mod_reads_what_is_listed_and_writes_its_storage(storage: Path, tmp_path: Path) -> None:
    code, other = tmp_path / "code", tmp_path / "other"
    for each in (code, other):
        each.mkdir()
        (each / "file").write_text("text")

    def work() -> dict[str, int]:
        no_new_privs()
        landlock.restrict(cell_for(storage, code))
        return {
            "storage": errno_of(lambda: (storage / "new").write_text("x")),
            "moved": errno_of(lambda: (storage / "new").rename(storage / "moved")),
            "code": errno_of((code / "file").read_text),
            "code written": errno_of(lambda: (code / "file").write_text("x")),
            "code truncated": errno_of(lambda: os.truncate(code / "file", 0)),
            "other": errno_of((other / "file").read_text),
            "link in": errno_of(lambda: os.link(other / "file", storage / "link")),
            "null": errno_of(lambda: Path(os.devnull).write_text("x")),
            "passwd": errno_of(Path("/etc/passwd").read_text),
            "self": errno_of(Path("/proc/self/status").read_text),
            "device": errno_of(lambda: os.mknod(storage / "null", 0o20600, os.makedev(1, 3))),
            "listing": errno_of(lambda: os.listdir("/")),
        }

    found = in_child(work)
    good = {name for name, number in found.items() if not number}
    assert good == {"storage", "moved", "code", "null", "self"}
    assert found["other"] == found["passwd"] == found["code written"] == errno.EACCES


@pytest.mark.parametrize("exec", [False, True])
def test_programs_start_only_if_the_cell_says_so(storage: Path, exec: bool) -> None:
    def work() -> int:
        no_new_privs()
        landlock.restrict(cell_for(storage, exec=exec))
        child = os.fork()
        if child == 0:
            os._exit(errno_of(lambda: os.execv("/bin/true", ["true"])))
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

    assert in_child(work) == (0 if exec else errno.EACCES)


def test_a_domain_keeps_a_process_out_of_the_memory_of_others() -> None:
    def work() -> tuple[list[int], list[int]]:
        capabilities.drop_all()
        no_new_privs()
        reading, writing = os.pipe()
        other = os.fork()
        if other == 0:
            os.close(writing)
            os.read(reading, 1)  # until the parent ends
            os._exit(0)

        def attempts() -> list[int]:
            names = ("mem", "environ", "fd/0")
            return [errno_of(lambda name=name: open(f"/proc/{other}/{name}", "rb").close()) for name in names]

        before = attempts()
        landlock.scope()
        return before, attempts()

    before, after = in_child(work)
    assert before == [0, 0, 0]
    assert after == [errno.EACCES] * 3


@scoped
def test_a_domain_signals_its_own_processes_alone() -> None:
    def work() -> tuple[int, int]:
        no_new_privs()
        landlock.scope()
        own = os.fork()
        if own == 0:
            signal.pause()
        os.kill(own, signal.SIGKILL)
        return errno_of(lambda: os.kill(os.getppid(), 0)), os.waitpid(own, 0)[1]

    assert in_child(work) == (errno.EPERM, signal.SIGKILL)


@scoped
def test_a_domain_does_not_reach_abstract_sockets_outside() -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"\0modvisor-test-{os.getpid()}")
        listener.listen()
        address = listener.getsockname()

        def work() -> tuple[int, int]:
            no_new_privs()
            before = errno_of(lambda: socket.socket(socket.AF_UNIX).connect(address))
            landlock.scope()
            return before, errno_of(lambda: socket.socket(socket.AF_UNIX).connect(address))

        assert in_child(work) == (0, errno.EPERM)


def test_a_path_that_is_not_there_is_left_out(storage: Path) -> None:
    def work() -> str:
        no_new_privs()
        return landlock.restrict(cell_for(storage, storage / "missing"))

    assert in_child(work) == f"Landlock ABI {landlock.abi()}"


def test_without_landlock_the_reason_is_told(monkeypatch: pytest.MonkeyPatch, storage: Path) -> None:
    monkeypatch.setattr(landlock, "abi", lambda: 0)
    with pytest.raises(NotEnforced, match="no Landlock"):
        landlock.restrict(cell_for(storage))


@pytest.mark.parametrize("version", range(1, landlock.abi() + 1) if sys.platform == "linux" else [])
def test_each_older_version_is_used_as_far_as_it_goes(
    version: int, monkeypatch: pytest.MonkeyPatch, storage: Path
) -> None:
    monkeypatch.setattr(landlock, "abi", lambda: version)

    def work() -> list[int]:
        no_new_privs()
        landlock.restrict(cell_for(storage))
        return [errno_of(Path("/etc/passwd").read_text), errno_of(lambda: os.kill(os.getppid(), 0))]

    assert in_child(work) == [errno.EACCES, errno.EPERM if version >= landlock.SCOPED_SINCE else 0]


def test_other_cells_leave_files_alone() -> None:
    assert in_child(lambda: landlock.restrict(Cell())) == ""
