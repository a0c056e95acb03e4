"""A fork into a cgroup is like any other fork, with real processes."""

from __future__ import annotations

import json
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from modvisor.supervisor.limits.subtree import find_subtree

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has cgroups")

# Runs in a process of its own, with a single thread like a warden.
# Of the programs below: what is before the fork, what the parent does, how the child ends.
BEGIN = """
import json, os, sys, threading
from modvisor.worker.guardian.clone import fork_into, fork_without_hooks

hooks = []
os.register_at_fork(before=lambda: hooks.append("before"), after_in_parent=lambda: hooks.append("parent"),
                    after_in_child=lambda: hooks.append("child"))
reading, writing = os.pipe()
"""
PARENT = """
    os.close(writing)
    with open(reading) as told:
        seen = json.load(told)
    ended = os.waitpid(pid, 0)
    print(json.dumps({"same_pid": seen.pop("pid") == pid, "parent": seen.pop("parent") == os.getpid(),
                      "status": os.waitstatus_to_exitcode(ended[1]), "hooks": hooks, "seen": seen}))
"""
END = """
    with open(writing, "w") as told:
        json.dump(seen, told)
    os._exit(3)
"""

LOOKS = (
    BEGIN
    + """
pid = fork_into(os.fsencode(sys.argv[1]))
if pid is None:
    print(json.dumps({"refused": True, "hooks": hooks}))
elif pid:"""
    + PARENT
    + """else:
    lock = threading.Lock()
    thread = threading.Thread(target=lock.acquire)
    thread.start()
    thread.join()
    grandchild = os.fork()
    if not grandchild:
        os._exit(7)
    seen = {"pid": os.getpid(), "parent": os.getppid(), "hooks": hooks, "locked": lock.locked(),
            "thread": threading.get_native_id() == os.getpid(), "alone": threading.active_count(),
            "fork": os.waitstatus_to_exitcode(os.waitpid(grandchild, 0)[1]),
            "cgroup": open("/proc/self/cgroup").read().strip().endswith("/" + os.path.basename(sys.argv[1]))}
"""
    + END
)


def run(folder: Path) -> dict[str, Any]:
    done = subprocess.run([sys.executable, "-c", LOOKS, str(folder)], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


@pytest.fixture
def group() -> Iterator[Path]:
    base = find_subtree().base
    if base is None:
        pytest.skip("no subtree of cgroups is ours")
    folder = base / f"test-{uuid.uuid4().hex}"
    folder.mkdir()
    yield folder
    folder.rmdir()


def test_the_child_begins_in_the_cgroup_and_is_as_any_other(group: Path) -> None:
    found = run(group)
    if found.get("refused"):
        pytest.skip("the kernel or the C library here cannot do it")
    assert found.pop("seen") == {
        "hooks": ["before", "child", "before", "parent"], "locked": True, "thread": True, "alone": 1, "fork": 7, "cgroup": True,
    }  # fmt: skip
    assert found == {"same_pid": True, "parent": True, "status": 3, "hooks": ["before", "parent"]}


@pytest.mark.parametrize("folder", ["/proc", "/nowhere/at/all"])
def test_what_is_no_cgroup_is_refused_and_nothing_is_forked(folder: str) -> None:
    found = run(Path(folder))
    assert found["refused"] is True
    assert found["hooks"] in ([], ["before", "parent"])


WITHOUT_HOOKS = (
    BEGIN
    + """
pid = fork_without_hooks()
if pid:"""
    + PARENT
    + """else:
    mine = list(hooks)
    grandchild = os.fork()
    if not grandchild:
        thread = threading.Thread(target=hooks.append, args=["thread"])
        thread.start()
        thread.join()
        os._exit(7 if hooks == ["before", "child", "thread"] else 1)
    seen = {"pid": os.getpid(), "parent": os.getppid(), "hooks": mine,
            "fork": os.waitstatus_to_exitcode(os.waitpid(grandchild, 0)[1])}
"""
    + END
)


def test_a_fork_without_hooks_runs_none_and_forks_complete_processes() -> None:
    done = subprocess.run([sys.executable, "-c", WITHOUT_HOOKS], capture_output=True, text=True, check=True, timeout=30)
    found = json.loads(done.stdout)
    assert found == {"same_pid": True, "parent": True, "status": 3, "hooks": [], "seen": {"hooks": [], "fork": 7}}


WITHOUT_CLONE3 = """
import ctypes, errno, os
from modvisor.worker.cell import bpf
from modvisor.worker.cell.libc import libc
from modvisor.worker.cell.seccomp import _install

machine = os.uname().machine
code = bpf.program(bpf.MACHINES[machine], {435: (bpf.Refusal(errno.ENOSYS),)}, [(0, bpf.ALLOW)])
libc.prctl(38, 1, 0, 0, 0)  # no_new_privs
_install(code, 0, machine, "")
"""
APART = """
from modvisor.worker.guardian.clone import fork_apart
outside = os.stat("/proc/self/ns/user").st_ino
children = []
for hooks in (True, False):
    pid = fork_apart(0x1000_0000 | 0x2000_0000, hooks=hooks)  # user and PID namespaces
    if not pid:
        os._exit(7 if os.getpid() == 1 and os.stat("/proc/self/ns/user").st_ino != outside else 1)
    children.append(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
print(children)
"""


def test_namespaces_are_had_where_a_filter_allows_clone_alone() -> None:
    """As in a container, or in a service with RestrictNamespaces."""
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_CLONE3 + APART], capture_output=True, text=True, check=True, timeout=30
    )
    assert done.stdout == "[7, 7]\n"
