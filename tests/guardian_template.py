"""``guardian_template.py FD [MODULE…] NAME``: fork guardians as asked on the socket FD. See `tests.guardians`, which starts it.

Imports what a guardian does, and these modules, and no more: each guardian is as large as this process.
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import signal
import socket
import sys
from typing import Any

from modvisor.worker.guardian import __main__ as guardian
from modvisor.worker.guardian import clone
from modvisor.worker.guardian.forked import Forked, leave, run

CLONE_PARENT = 0x8000


def serve(sock: socket.socket) -> tuple[dict[str, Any], list[int]] | None:
    """Fork as asked. Returns the order and its descriptors in each fork, None at the end of the template."""
    while True:
        data, fds = guardian._receive(sock)
        if not data:
            return None
        pid = fork_sibling()
        if pid == 0:
            sock.close()
            return json.loads(data), fds
        sock.send(str(pid).encode())
        for fd in fds:
            os.close(fd)


def fork_sibling() -> int:
    """As `os.fork`, but the new process is a child of our own parent. See `modvisor.worker.guardian.clone`."""
    place = clone._tid_address()
    robust = clone._ROBUST_LIST.get(os.uname().machine)
    assert place is not None
    assert robust is not None
    head, size = ctypes.c_void_p(), ctypes.c_size_t()
    clone.libc.syscall(robust[1], 0, ctypes.byref(head), ctypes.byref(size))
    arguments = clone._Arguments(
        flags=CLONE_PARENT | clone._CLONE_CHILD_SETTID | clone._CLONE_CHILD_CLEARTID, child_tid=place
    )
    reference, length = ctypes.byref(arguments), ctypes.c_size_t(ctypes.sizeof(arguments))
    clone._python.PyOS_BeforeFork()
    pid = clone.libc.syscall(clone._CLONE3, reference, length)
    if pid == 0:
        clone._python.PyOS_AfterFork_Child()
        clone.libc.syscall(robust[0], head, size)
        return 0
    clone._python.PyOS_AfterFork_Parent()
    if pid < 0:
        raise OSError("clone3 failed")
    return pid


def be_guardian(order: dict[str, Any], control: int, stderr: int) -> None:
    """What ``python -m modvisor.worker.guardian`` does."""
    os.setsid()
    null = os.open(os.devnull, os.O_RDWR)
    for fd, standard in ((null, 0), (null, 1), (stderr, 2)):
        os.dup2(fd, standard)
    os.close(null)
    os.close(stderr)
    os.environ.clear()
    os.environ.update(order["environment"])
    try:
        guardian.main(socket.socket(fileno=control), order["supervisor"], order["modules"])
    except Forked as fresh:
        forked = fresh
    else:
        leave(0)
    run(forked)


def main() -> None:
    for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(signum, signal.SIG_IGN)  # those of a terminal: the tests end us
    guardian.prepare()
    guardian.import_all(sys.argv[2:-1])
    gc.collect()
    gc.freeze()  # each guardian collects before it serves, and would copy every page that it shares with us
    os.set_inheritable(int(sys.argv[1]), False)
    work = serve(socket.socket(fileno=int(sys.argv[1])))
    if work is not None:
        order, (control, stderr) = work
        be_guardian(order, control, stderr)


if __name__ == "__main__":
    main()
