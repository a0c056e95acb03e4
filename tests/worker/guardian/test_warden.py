"""Parts of a warden; whole wardens are in tests/processes."""

from __future__ import annotations

import errno
import subprocess
import sys

import pytest

from modvisor.ipc.launching import NotStarted
from modvisor.worker.guardian.warden import not_started


def test_a_worker_that_was_not_started_says_why() -> None:
    error = FileNotFoundError(errno.ENOENT, "No such file or directory", b"/opt/python")
    assert not_started(error) == NotStarted(errno.ENOENT, "No such file or directory: /opt/python")
    assert not_started(PermissionError(errno.EPERM, "no")) == NotStarted(errno.EPERM, "no")
    assert not_started(OSError("odd")) == NotStarted(0, "None")


DEATHS = """
import os, select
from modvisor.worker.guardian.warden import Deaths
Deaths.listen()
deaths = Deaths()
poll = select.poll()
poll.register(deaths.fd, select.POLLIN)
print(poll.poll(0))
if os.fork() == 0:
    os._exit(0)
deaths.wait(20)
print(len(poll.poll(0)))
deaths.forget()
print(poll.poll(0), os.wait()[1])
deaths.forget()
deaths.close()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="Linux")
def test_the_death_of_a_child_can_be_polled_for() -> None:
    done = subprocess.run([sys.executable, "-c", DEATHS], capture_output=True, text=True, timeout=30, check=True)
    assert done.stdout.split("\n")[:3] == ["[]", "1", "[] 0"]
