"""What this host offers and what it does not: by which means each limit holds here, and what an operator can do for more.

It only looks: nothing is changed, and no network needs to run.
"""

from __future__ import annotations

import ctypes
import os
import platform
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ..config import LimitsConfig, ModConfig, NetworkConfig
from .cgroups import CONTROLLERS, Examined
from .cgroups import examine as examine_cgroups
from .enforcement import LIMITS, enforced_by

OK, WARN, FAIL = "ok", "warn", "fail"
_WORSE = (OK, WARN, FAIL)

PYTHON = (3, 11)
FILES_PER_MOD = 8
"""Descriptors of the network for one mod: pipe, output, stack dumps, the warden's socket, log; the first four twice while it is
replaced."""

FEW_FILES = 1024
LITTLE_SPACE = 1_000_000_000  # bytes

_CAP_SYS_NICE = 23
_PR_GET_CHILD_SUBREAPER = 37
_DELEGATE = (
    "run the network as a systemd service with 'Delegate=yes', or by 'systemd-run --scope -p Delegate=yes modvisor run'"
)

# Tried in a process of its own, as a worker would: in this one it could not be undone.
_TRY_NAMESPACE = "import sys; from modvisor.worker.limits import can_limit_tasks; sys.exit(not can_limit_tasks())"


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at.

    Attributes:
        status: ``ok``; ``warn``: it works with less; ``fail``: a network cannot run, or not as its file says.
        remedy: what to do for ``ok``; None if nothing needs to be done.
    """

    name: str
    status: str
    text: str
    remedy: str | None = None


@dataclass(frozen=True, slots=True)
class HostReport:
    checks: tuple[Check, ...] = ()

    @property
    def status(self) -> str:
        """The worst of all checks."""
        return max((check.status for check in self.checks), key=_WORSE.index, default=OK)

    def to_dict(self) -> dict[str, Any]:
        return {"status": self.status, "checks": [asdict(check) for check in self.checks]}


@dataclass(frozen=True, slots=True)
class Host:
    """What the checks of limits need to know of this host."""

    groups: Examined
    is_root: bool
    namespaces: bool  # a worker can have a user namespace of its own
    can_return: bool  # from SCHED_IDLE
    memory: int | None  # bytes
    group_means: dict[str, str] = field(default_factory=dict)
    rlimits: dict[str, str] = field(default_factory=dict)


def examine_host(config: NetworkConfig | None = None) -> HostReport:
    """Look at this host, and at what the limits of ``config`` come to on it. Blocks for a tenth of a second."""
    host = _host(config is None or config.cgroups)
    checks = [
        _python(),
        _platform(),
        *_processes(),
        _groups(host),
        _namespaces(host),
        _scheduling(host),
        _open_files(config),
        _storage(config),
        *_limits(host),
    ]
    if config is not None:
        checks.extend(_mod(mod, host) for mod in config.mods if mod.enabled)
        checks.extend(_all_mods(config, host))
    return HostReport(tuple(checks))


# -- the host


def _host(groups_allowed: bool) -> Host:
    groups, is_root = examine_cgroups(groups_allowed), os.geteuid() == 0
    namespaces = sys.platform == "linux" and not is_root and _can_have_namespace()
    return Host(
        groups=groups,
        is_root=is_root,
        namespaces=namespaces,
        can_return=_has_capability(_CAP_SYS_NICE),
        memory=_physical_memory(),
        group_means=_group_means(groups),
        rlimits=_rlimits(namespaces),
    )


def _group_means(groups: Examined) -> dict[str, str]:
    if groups.base is None:
        return {}
    files = {
        "memory": {"memory": "cgroup memory.max", "memory_soft": "cgroup memory.high"},
        "pids": {"threads": "cgroup pids.max"},
        "cpu": {"cpu": "cgroup cpu.idle"},
    }
    return {key: means for name in groups.controllers for key, means in files[name].items()}


def _rlimits(namespaces: bool) -> dict[str, str]:
    found = {"cpu_seconds": "RLIMIT_CPU", "open_files": "RLIMIT_NOFILE", "disk": "RLIMIT_FSIZE"}
    if sys.platform == "linux":  # elsewhere it does not count what is mapped, which is how memory is taken today
        found["memory"] = "RLIMIT_DATA"
    if namespaces:
        found["tasks"] = "RLIMIT_NPROC in a user namespace"
    return found


def _python() -> Check:
    text = f"Python {platform.python_version()} ({sys.executable})"
    if sys.version_info < PYTHON:
        return Check("python", FAIL, text, f"use Python {'.'.join(map(str, PYTHON))} or newer")
    return Check("python", OK, text)


def _platform() -> Check:
    text = f"{platform.system()} {platform.release()} on {platform.machine()}"
    if sys.platform == "linux":
        return Check("platform", OK, text)
    if sys.platform == "darwin":
        remedy = "for production use Linux"
        return Check(
            "platform", WARN, f"{text}: no pidfd, no cgroups, no SCHED_IDLE; limits are the watchdog's", remedy
        )
    return Check("platform", FAIL, f"{text} is not supported", "use Linux or macOS")


def _processes() -> Iterator[Check]:
    """What the supervision of processes rests on."""
    means = {
        "pidfd": (_has_pidfd(), "the end of a process is known the moment it ends", "Linux 5.3"),
        "subreaper": (_has_subreaper(), "what a worker leaves behind is found and ended", "Linux 3.4"),
        "memfd": (_has_memfd(), "stack dumps are kept apart from the log", "Linux 3.17"),
    }
    for name, (has, meaning, since) in means.items():
        if has:
            yield Check(name, OK, meaning)
        else:
            yield Check(name, WARN, f"not available, so not: {meaning}", f"use {since} or newer")


def _groups(host: Host) -> Check:
    groups = host.groups
    if groups.base is None:
        remedy = None if "switched off" in str(groups.reason) else _DELEGATE
        return Check("cgroups", WARN, f"not used: {groups.reason}; limits are the rlimits' and the watchdog's", remedy)
    missing = [name for name in CONTROLLERS if name not in groups.controllers]
    if missing:
        text = f"{groups.base}: membership and kill, but without the controllers {', '.join(missing)}"
        hybrid = groups.place is not None and str(groups.place.mount).endswith("/unified")
        remedy = (
            "the controllers are with cgroup v1 on this host: boot it with 'systemd.unified_cgroup_hierarchy=1' (or "
            "'cgroup_no_v1=all' without systemd)"
            if hybrid
            else f"have the parent hand them down: {_DELEGATE}"
        )
        return Check("cgroups", WARN, text, remedy)
    return Check("cgroups", OK, f"{groups.base}: {', '.join(groups.controllers)}")


def _namespaces(host: Host) -> Check:
    name = "user namespaces"
    if host.is_root:
        return Check(name, OK, "not needed: the network runs as root, whose processes no rlimit counts")
    if host.namespaces:
        return Check(name, OK, "each mod's processes and threads are counted apart from other programs of this user")
    if "pids" in host.groups.controllers and host.groups.base is not None:
        return Check(name, OK, "not allowed, and not needed: a cgroup counts the processes")
    remedy = (
        "allow them by sysctl: kernel.unprivileged_userns_clone=1 (Debian), "
        "kernel.apparmor_restrict_unprivileged_userns=0 (Ubuntu)"
    )
    return Check(
        name, WARN, "not allowed: the kernel refuses no fork of a mod; the watchdog ends it afterwards", remedy
    )


def _scheduling(host: Host) -> Check:
    if sys.platform != "linux":
        return Check("scheduling", WARN, "no SCHED_IDLE: the limit 'cpu' has no effect", "use Linux")
    if "cpu" in host.group_means:
        return Check("scheduling", OK, "a mod over its 'cpu' is put behind the others by its cgroup (cpu.idle)")
    if host.can_return:
        return Check("scheduling", OK, "a mod over its 'cpu' is put behind the others (SCHED_IDLE) and comes back")
    return Check(
        "scheduling", WARN,
        "a mod over its 'cpu' is put behind the others (SCHED_IDLE) and stays there until its next process",
        "give the network CAP_SYS_NICE (systemd: AmbientCapabilities=CAP_SYS_NICE) or RLIMIT_NICE (LimitNICE=0)",
    )  # fmt: skip


def _open_files(config: NetworkConfig | None) -> Check:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    mods = len(config.mods) if config is not None else 0
    enough = soft // FILES_PER_MOD
    text = f"{soft} descriptors for the network (at most {_limit_text(hard)}): enough for {enough} mods without agents"
    if soft < max(FEW_FILES, 2 * FILES_PER_MOD * mods):
        return Check(
            "open files", WARN, text, "raise it: systemd 'LimitNOFILE=65536', or 'ulimit -n 65536' before the start"
        )
    return Check("open files", OK, text)


def _storage(config: NetworkConfig | None) -> Check:
    folder = config.storage if config is not None else Path.cwd() / ".modvisor"
    there = next(path for path in (folder, *folder.parents) if path.exists())
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        text = f"{folder} cannot be written by this user ({there} is in the way)"
        return Check("state directory", FAIL, text, f"make {there} writable, or set another 'storage' of the network")
    free = shutil.disk_usage(there).free
    text = f"{folder}: {_size(free)} free"
    if free < LITTLE_SPACE:
        return Check("state directory", WARN, text, "make room: the journal, the mods' files and their logs are there")
    return Check("state directory", OK, text)


# -- limits

_GAPS = {
    "memory": "what is taken between two looks of the watchdog (0.05 to 4 s) is seen only then",
    "disk": "looked at every 10 s or when the mod has written enough; files deleted while they are open are not seen",
    "processes": "a fork bomb is ended within about 0.1 s, not refused",
    "threads": "more of them are ended, not refused",
    "cpu_seconds": "each process counts for itself",
    "open_files": "each process counts for itself",
}


def _limits(host: Host) -> Iterator[Check]:
    by = enforced_by(host.rlimits, host.group_means)
    for key in LIMITS:
        name, means = f"limit {key}", by[key]
        if means is None:
            yield Check(name, WARN, "NOT enforced on this host", "use Linux")
            continue
        gap = None if key in host.group_means or (key == "threads" and host.namespaces) else _GAPS.get(key)
        yield Check(name, OK, means if gap is None else f"{means}; {gap}")


def _mod(mod: ModConfig, host: Host) -> Check:
    """The limits of one mod, and those that cannot hold as they are written."""
    by = enforced_by(host.rlimits, host.group_means)
    given = {key: getattr(mod.limits, key) for key in LIMITS if getattr(mod.limits, key) is not None}
    text = ", ".join(
        f"{key} {_value(key, value)}{'' if by[key] else ' (NOT enforced)'}" for key, value in given.items()
    )
    problems = list(_problems(mod.limits, by, host))
    name = f"mod {mod.mod_id}"
    if problems:
        return Check(name, WARN, f"{text or 'no limits'}; " + "; ".join(what for what, _ in problems), problems[0][1])
    return Check(name, OK, text or "no limits")


def _problems(limits: LimitsConfig, by: dict[str, str | None], host: Host) -> Iterator[tuple[str, str]]:
    """What, and what to do about it."""
    for key in LIMITS:
        if getattr(limits, key) is not None and by[key] is None:
            yield f"{key} is not enforced on this host", "use Linux, or leave it out"
    if limits.memory is None:
        yield "it may use all of the machine's memory", "set limits.memory"
    elif host.memory is not None and limits.memory > host.memory:
        yield f"memory is more than the machine has ({_size(host.memory)})", "set a smaller limits.memory"
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if limits.open_files is not None and hard != resource.RLIM_INFINITY and limits.open_files > hard:
        yield f"open_files is more than this user may have ({hard})", "raise the hard limit (systemd: LimitNOFILE=)"


def _all_mods(config: NetworkConfig, host: Host) -> Iterator[Check]:
    """Whether the mods together fit."""
    memory = sum(mod.limits.memory or 0 for mod in config.mods if mod.enabled)
    if host.memory is not None and memory > host.memory:
        text = (
            f"the mods' memory limits together ({_size(memory)}) are more than the machine has ({_size(host.memory)})"
        )
        remedy = "make them smaller: until then the kernel may end a mod that is within its own"
        yield Check("memory of all mods", WARN, text, remedy)


# -- asking the system


def _has_pidfd() -> bool:
    if not hasattr(os, "pidfd_open"):
        return False
    try:
        os.close(os.pidfd_open(os.getpid()))
    except OSError:
        return False
    return hasattr(signal, "pidfd_send_signal")


def _has_subreaper() -> bool:
    if sys.platform != "linux":
        return False
    found = ctypes.c_int()
    with suppress(AttributeError):
        return ctypes.CDLL(None).prctl(_PR_GET_CHILD_SUBREAPER, ctypes.byref(found), 0, 0, 0) == 0
    return False


def _has_memfd() -> bool:
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


def _has_capability(number: int) -> bool:
    with suppress(OSError), open("/proc/self/status", encoding="ascii", errors="replace") as file:
        for line in file:
            if line.startswith("CapEff:"):
                return bool(int(line.split()[1], 16) >> number & 1)
    return False


def _physical_memory() -> int | None:
    with suppress(OSError, ValueError):
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return None


def _value(key: str, value: float) -> str:
    return _size(int(value)) if key in ("memory", "memory_soft", "disk") else f"{value:g}"


def _limit_text(value: int) -> str:
    return "no limit" if value == resource.RLIM_INFINITY else str(value)


def _size(value: int) -> str:
    return f"{value / 1e9:.1f} GB" if value >= 1e9 else f"{value / 1e6:.1f} MB"
