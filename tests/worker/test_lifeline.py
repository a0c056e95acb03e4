"""A process dies with the other end of its lifeline, with real processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="Linux")

HOLDS = """
import signal, sys
from modvisor.worker import lifeline
for signum in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
    signal.signal(signum, signal.SIG_IGN)
lifeline.hold(int(sys.argv[1]))
print("held", flush=True)
while True:
    pass
"""


def started(fd: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", HOLDS, str(fd)]
    return subprocess.Popen(command, pass_fds=[fd], stdout=subprocess.PIPE, text=True, start_new_session=True)


def test_a_busy_process_that_ignores_signals_dies_with_the_other_end() -> None:
    read_end, write_end = os.pipe()
    with started(read_end) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        assert process.poll() is None
        os.close(write_end)
        assert process.wait(20) == -signal.SIGKILL
    os.close(read_end)


def test_an_end_that_was_closed_before_counts_as_well() -> None:
    read_end, write_end = os.pipe()
    os.close(write_end)
    with started(read_end) as process:
        assert process.wait(20) == -signal.SIGKILL
        assert process.stdout is not None
        assert process.stdout.read() == ""
    os.close(read_end)
