"""What this host can do: asked of the system itself, without changing anything."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass, field

from .subtree import Subtree, find_subtree

CAP_SYS_NICE = 23
_PR_GET_CHILD_SUBREAPER = 37

# Tried in a process of its own, as a worker would: in this process it could not be undone.
_TRY_NAMESPACE = (
    "import sys; from modvisor.worker.guardian.trial import PROFILES, try_cell; "
    "sys.exit('user' not in try_cell(PROFILES[0]))"
)


@dataclass(frozen=True, slots=True)
class Host:
    """What decides which limits hold on a host.

    Attributes:
        groups: where a network may make cgroups.
        namespaces: whether a worker can have a user namespace of its own.
        can_return: whether a process can leave SCHED_IDLE again.
        memory: bytes of the machine; None if the system does not say.
        group_means: the limits that cgroups enforce, each with the file that holds it.
        rlimits: the limits that a worker sets for itself, each with the name of the rlimit.
    """

    groups: Subtree
    is_root: bool
    namespaces: bool
    can_return: bool
    memory: int | None
    group_means: dict[str, str] = field(default_factory=dict)
    rlimits: dict[str, str] = field(default_factory=dict)


def look_at_host(groups_allowed: bool) -> Host:
    """Find out what this host can do. Blocks for a tenth of a second."""
    groups, is_root = find_subtree(groups_allowed), os.geteuid() == 0
    namespaces = sys.platform == "linux" and not is_root and _can_have_namespace()
    return Host(
        groups=groups,
        is_root=is_root,
        namespaces=namespaces,
        can_return=has_capability(CAP_SYS_NICE),
        memory=_physical_memory(),
        group_means=group_means(groups),
        rlimits=rlimits(namespaces),
    )


def group_means(groups: Subtree) -> dict[str, str]:
    """Return the limits that cgroups would enforce in ``groups``, each with the file that holds
    it.
    """
    if groups.base is None:
        return {}
    files = {
        "memory": {"memory": "cgroup memory.max", "memory_soft": "cgroup memory.high"},
        "pids": {"threads": "cgroup pids.max"},
        "cpu": {"cpu": "cgroup cpu.idle"},
    }
    return {key: means for name in groups.controllers for key, means in files[name].items()}


def rlimits(namespaces: bool) -> dict[str, str]:
    """Return the limits that a worker can set for itself, each with the name of the rlimit."""
    found = {"cpu_seconds": "RLIMIT_CPU", "open_files": "RLIMIT_NOFILE", "disk": "RLIMIT_FSIZE"}
    if sys.platform == "linux":  # elsewhere it misses memory that is mapped, as nearly all memory is today
        found["memory"] = "RLIMIT_DATA"
    if namespaces:
        found["tasks"] = "RLIMIT_NPROC in a user namespace"
    return found


def has_pidfd() -> bool:
    """Return whether the end of a process can be waited for by descriptor."""
    if not hasattr(os, "pidfd_open"):
        return False
    try:
        os.close(os.pidfd_open(os.getpid()))
    except OSError:
        return False
    return hasattr(signal, "pidfd_send_signal")


def has_subreaper() -> bool:
    """Return whether a process can become the parent of what its children abandon."""
    if sys.platform != "linux":
        return False
    found = ctypes.c_int()
    with suppress(AttributeError):
        return ctypes.CDLL(None).prctl(_PR_GET_CHILD_SUBREAPER, ctypes.byref(found), 0, 0, 0) == 0
    return False


def has_memfd() -> bool:
    """Return whether a file can be made in memory."""
    if not hasattr(os, "memfd_create"):
        return False
    try:
        os.close(os.memfd_create("modvisor", os.MFD_CLOEXEC))
    except OSError:
        return False
    return True


def _can_have_namespace() -> bool:
    try:
        done = subprocess.run(
            [sys.executable, "-P", "-c", _TRY_NAMESPACE], capture_output=True, timeout=10, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


def has_capability(number: int) -> bool:
    """Return whether this process has a capability in effect."""
    with suppress(OSError), open("/proc/self/status", encoding="ascii", errors="replace") as file:
        for line in file:
            if line.startswith("CapEff:"):
                return bool(int(line.split()[1], 16) >> number & 1)
    return False


def _physical_memory() -> int | None:
    with suppress(OSError, ValueError):
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return None
