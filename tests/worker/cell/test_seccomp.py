"""The filters in the kernel: what real calls of a confined process do."""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from modvisor.ipc.cell import DEFAULT, LISTED, STRICT, Cell
from modvisor.worker.cell import seccomp
from modvisor.worker.cell.last_exec import LastExec
from modvisor.worker.cell.refusal import NotEnforced
from modvisor.worker.cell.syscalls import numbers
from tests.worker.cell.children import call, errno_of, in_child, no_new_privs

pytestmark = pytest.mark.skipif(sys.platform != "linux" or not seccomp.is_possible(), reason="Linux with seccomp")

IN_STRICT = Cell(STRICT, processes=True, files=LISTED, network=(), exec=False, syscalls=True)
IN_DEFAULT = Cell(DEFAULT, processes=True)


def known() -> dict[str, int]:
    return numbers(os.uname().machine)


def test_a_strict_mod_computes_forks_and_talks_to_itself() -> None:
    def work() -> bytes:
        no_new_privs()
        seccomp.restrict(IN_STRICT)
        with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as near:
            far, _ = server.accept()
            child = os.fork()
            if child == 0:
                near.sendall(b"from a child")
                os._exit(0)
            os.waitpid(child, 0)
            return far.recv(100)

    assert in_child(work) == b"from a child"


def test_a_strict_mod_starts_no_program() -> None:
    def work() -> list[int]:
        no_new_privs()
        seccomp.restrict(IN_STRICT)
        copy = os.memfd_create("copy")
        os.write(copy, Path("/bin/true").read_bytes())
        return [
            errno_of(lambda: os.execv("/bin/true", ["true"])),
            errno_of(lambda: os.execve(copy, ["true"], {})),
            errno_of(lambda: subprocess.run(["/bin/true"], check=False)),
        ]

    assert in_child(work) == [errno.EPERM] * 3


def test_what_a_strict_mod_asks_of_the_kernel_is_refused() -> None:
    def work() -> dict[str, int]:
        no_new_privs()
        seccomp.restrict(IN_STRICT)
        return {
            "ptrace": call(101 if os.uname().machine == "x86_64" else 117, 0),
            "unshare": call(known()["unshare"], 0x1000_0000),
            "clone": call(known()["clone"], 0x1000_0011),
            "keyctl": call(known()["keyctl"], 0, -3, 0),
            "vsock": errno_of(lambda: socket.socket(40, socket.SOCK_STREAM)),
            "packet": errno_of(lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW)),
            "new": call(9999),
        }

    assert in_child(work) == {
        "ptrace": errno.EPERM, "unshare": errno.EPERM, "clone": errno.EPERM, "keyctl": errno.EPERM,
        "vsock": errno.EAFNOSUPPORT, "packet": errno.EAFNOSUPPORT, "new": errno.ENOSYS,
    }  # fmt: skip


@pytest.mark.parametrize("cell", [IN_STRICT, IN_DEFAULT], ids=["strict", "default"])
def test_no_file_gets_a_setuid_bit(cell: Cell, tmp_path: Path) -> None:
    file = tmp_path / "file"

    def work() -> list[int]:
        no_new_privs()
        seccomp.restrict(cell)
        file.touch()
        with open(file, "rb") as opened:
            return [
                errno_of(lambda: file.chmod(0o4755)),
                errno_of(lambda: os.fchmod(opened.fileno(), 0o2755)),
                errno_of(lambda: os.close(os.open(tmp_path / "new", os.O_CREAT | os.O_WRONLY, 0o4755))),
                errno_of(lambda: os.mkdir(tmp_path / "folder", 0o2755)),
                errno_of(lambda: file.chmod(0o755)),
            ]

    assert in_child(work) == [errno.EPERM] * 4 + [0]


def test_a_default_mod_starts_programs_and_threads(tmp_path: Path) -> None:
    code = "import threading; t = threading.Thread(target=print, args=['from a thread']); t.start(); t.join()"

    def work() -> tuple[str, str, int]:
        no_new_privs()
        means = seccomp.restrict(IN_DEFAULT)
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path)
        return means, done.stdout, call(known()["io_uring_setup"], 8, 0)

    assert in_child(work) == ("seccomp: none of the dangerous calls", "from a thread\n", errno.ENOSYS)


def test_a_cell_that_is_off_filters_nothing() -> None:
    assert in_child(lambda: seccomp.restrict(Cell())) == ""


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="x86_64 has other calls beside its own")
@pytest.mark.parametrize(
    "code", [b"\xb8\x14\x00\x00\x00\xcd\x80\xc3", b"\xb8\x27\x00\x00\x40\x0f\x05\xc3"], ids=["i386", "x32"]
)
def test_calls_by_another_door_kill_the_process(code: bytes) -> None:
    def work() -> str:
        no_new_privs()
        seccomp.restrict(IN_STRICT)
        memory = mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
        memory.write(code)  # getpid, by int 0x80 or with the number of x32
        address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
        return f"returned {ctypes.CFUNCTYPE(ctypes.c_int)(address)()}"

    assert in_child(work) == -signal.SIGSYS


# -- the one exec of a program


def started(path: Path, *words: str, cell: Cell) -> tuple[int, str]:
    """Return exit code and output of a program that is started in a cell without exec."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.dup2(writing, 1)
            program = LastExec(os.fsencode(path))
            program.be_the_last()
            no_new_privs()
            seccomp.restrict(cell, program.descriptor)
            program.go([os.fsencode(path), *map(os.fsencode, words)], dict(os.environb))
        finally:
            os._exit(99)
    os.close(writing)
    with open(reading) as file:
        said = file.read()
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), said


def test_a_program_starts_in_a_cell_without_exec_and_starts_no_other() -> None:
    code = """
import os, resource, fcntl
most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
for step in (lambda: os.execv("/bin/true", ["true"]),
             lambda: os.execve(os.open("/bin/true", os.O_RDONLY), ["true"], {}),
             lambda: os.dup2(0, most),
             lambda: fcntl.fcntl(0, fcntl.F_DUPFD, most),
             lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (most + 10, most + 10))):
    try:
        step()
        print("done")
    except (OSError, ValueError) as error:
        print(type(error).__name__)
"""
    cell = Cell(STRICT, exec=False, syscalls=True, user=65534)

    def work() -> tuple[int, str]:
        return started(Path(sys.executable), "-c", code, cell=cell)

    said = in_child(work, user=0)
    assert said[0] == 0
    assert said[1].split()[:4] == ["PermissionError", "PermissionError", "OSError", "OSError"]


def test_a_script_cannot_be_the_one_program(tmp_path: Path) -> None:
    script = tmp_path / "worker"
    script.write_text("#!/bin/sh\n")
    with pytest.raises(NotEnforced, match="exec: true"):
        in_child(LastExec(os.fsencode(script)).be_the_last)
