"""Turns on the processor and the supervisor's share, as the kernel tells of them."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from modvisor.ipc.launching import SUPERVISOR_NICE
from modvisor.supervisor.limits.turns import TURN, turn_of

SCRIPT = """
import os, subprocess, sys, threading
from modvisor.supervisor.limits import turns
turns.favour_events()
found = [turns.turn_of()]
thread = threading.Thread(target=lambda: found.append(turns.turn_of()))
thread.start()
thread.join()
child = "from modvisor.supervisor.limits import turns; print(turns.turn_of())"
found.append(int(subprocess.run([sys.executable, "-c", child], capture_output=True, text=True).stdout))
autogroup = open("/proc/self/autogroup").read().split() if os.path.exists("/proc/self/autogroup") else []
# The file is empty for a process of the first session: nobody has called setsid above it.
print(*found, os.getpriority(os.PRIO_PROCESS, 0), autogroup[-1] if autogroup else "none")
"""


@pytest.mark.skipif(turn_of() is None, reason="this kernel knows no turns of a process")
@pytest.mark.parametrize("own_session", [True, False])
def test_threads_and_children_inherit_short_turns(own_session: bool) -> None:
    command = [sys.executable, "-c", SCRIPT]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=30, check=True, start_new_session=own_session
    )
    *found, nice, session = done.stdout.split()
    assert found == [str(TURN)] * 3
    if os.geteuid() == 0 and os.getpriority(os.PRIO_PROCESS, 0) == 0:
        assert nice == str(SUPERVISOR_NICE)
        assert session in (str(SUPERVISOR_NICE) if own_session else "0", "none"), "a shell's session keeps its share"
