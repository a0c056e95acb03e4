"""Process trees, with real processes."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from modvisor.worker.guardian import tree

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")

# A process with a child that has a session of its own, and a grandchild below it.
FAMILY = """
import os, signal, sys, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        print(os.getppid(), os.getpid(), flush=True)
        signal.pause()
    signal.pause()
signal.pause()
"""


@pytest.fixture
def family() -> Iterator[tuple[subprocess.Popen[str], int, int]]:
    command = [sys.executable, "-c", FAMILY]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True) as process:
        assert process.stdout is not None
        child, grandchild = map(int, process.stdout.readline().split())
        yield process, child, grandchild
        for pid in (process.pid, child):
            if tree.start_time(pid):
                os.killpg(pid, signal.SIGKILL)


@pytest.mark.parametrize("thorough", [False, True])
def test_all_descendants_are_found(family: tuple[subprocess.Popen[str], int, int], thorough: bool) -> None:
    process, child, grandchild = family
    assert tree.below(process.pid, thorough=thorough) == [child, grandchild]
    assert tree.children(process.pid) == [child]
    assert tree.below(grandchild, thorough=thorough) == []


def test_a_tree_is_killed_across_sessions(family: tuple[subprocess.Popen[str], int, int]) -> None:
    process, child, grandchild = family
    watched = [os.pidfd_open(pid) for pid in (child, grandchild)]
    tree.kill(lambda: [process.pid, *tree.below(process.pid)])
    assert process.wait(20) == -signal.SIGKILL
    for pidfd in watched:
        poll = select.poll()
        poll.register(pidfd, select.POLLIN)
        assert poll.poll(20_000), "it has ended"
        os.close(pidfd)


def test_a_process_is_known_by_the_time_it_began() -> None:
    assert tree.start_time(os.getpid()) > 0
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    assert tree.start_time(process.pid) == 0
    assert tree.below(process.pid) == []


def test_nothing_found_is_nothing_killed() -> None:
    tree.kill(list)
