"""How a process ended, in words; and the file that its stack dumps go to."""

from __future__ import annotations

import os
import signal
import sys

import pytest

from modvisor.supervisor.process.process import DUMP_SIZE, DumpFile, Exit, Usage


@pytest.mark.parametrize(
    ("exit", "clean", "words"),
    [
        (Exit(0, None), True, "exit code 0"),
        (Exit(3, None), False, "exit code 3"),
        (Exit(None, signal.SIGSEGV), False, "signal SIGSEGV"),
        (Exit(None, 250), False, "signal 250"),
        (Exit(None, None), False, "an unknown exit status"),
    ],
)
def test_an_exit(exit: Exit, clean: bool, words: str) -> None:
    assert (exit.clean, str(exit)) == (clean, words)


def test_an_exit_from_a_wait_status() -> None:
    usage = Usage(1.5, 1000)
    assert Exit.of(3 << 8, usage) == Exit(3, None, usage)
    assert Exit.of(signal.SIGKILL) == Exit(None, signal.SIGKILL)


def test_a_dump_ends_at_the_first_zero() -> None:
    dump = DumpFile()
    try:
        assert dump.read() == ""
        os.pwrite(dump.fd, b"Thread 0x1:\n\xff\n", 0)
        assert dump.read() == "Thread 0x1:\n\ufffd\n"
        os.pwrite(dump.fd, b"x" * 10_000, 0)
        assert dump.read() == "x" * 10_000
        os.pwrite(dump.fd, b"x" * DUMP_SIZE, 0)
        assert dump.read() == "x" * DUMP_SIZE
    finally:
        dump.close()


@pytest.mark.skipif(sys.platform != "linux", reason="memory of a fixed size")
def test_the_end_of_a_worker_without_a_dump_reads_a_page_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []
    pread = os.pread
    monkeypatch.setattr(os, "pread", lambda fd, size, at: read.append(size) or pread(fd, size, at))
    dump = DumpFile()
    try:
        assert dump.read() == ""
    finally:
        dump.close()
    assert read == [4096]


@pytest.mark.skipif(sys.platform != "linux", reason="memory of a fixed size")
def test_a_mod_can_neither_grow_nor_shrink_the_file_of_its_dumps() -> None:
    dump = DumpFile()
    try:
        for size in (0, 2 * DUMP_SIZE):
            with pytest.raises(PermissionError):
                os.ftruncate(dump.fd, size)
    finally:
        dump.close()
