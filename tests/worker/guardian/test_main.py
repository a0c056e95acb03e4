"""Parts of the guardian; whole guardians are in tests/processes."""

from __future__ import annotations

import os
import socket
import sys

import pytest

from modvisor.ipc.launching import Order, encode
from modvisor.worker.guardian.__main__ import _receive, import_all

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="Linux")


def test_a_module_that_cannot_be_imported_is_reported() -> None:
    begun: list[str] = []
    failures = import_all(["json", "no_such_module"], begun.append).failures
    assert begun == ["json", "no_such_module"]
    assert failures == {"no_such_module": "ModuleNotFoundError: No module named 'no_such_module'"}


def test_descriptors_come_with_their_order_and_are_not_inherited() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    read_end, write_end = os.pipe()
    data = encode(Order([], {}, b"/"))
    socket.send_fds(ours, [data], [read_end, write_end])
    received, fds = _receive(theirs)
    assert received == data
    assert [os.fstat(fd).st_ino for fd in fds] == [os.fstat(read_end).st_ino] * 2
    assert not any(os.get_inheritable(fd) for fd in fds)
    ours.close()
    assert _receive(theirs) == (b"", [])
    theirs.close()
    for fd in (read_end, write_end, *fds):
        os.close(fd)
