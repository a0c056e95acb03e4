"""Examine this host for `modvisor doctor`: what supervision rests on, what enforces each limit,
what could be better.

It only looks: nothing is changed, and no network needs to run. Each check says what was found, why
that matters, and, unless all is well, what to do.
"""

from __future__ import annotations

import os
import platform
import resource
import shutil
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..config import LimitsConfig, ModConfig, NetworkConfig
from ..runtime import INSTALL, REPAIR, UVLOOP, NoUvloop, choose_loop
from .enforcement import LIMITS, enforced_by
from .host import Host, has_memfd, has_pidfd, has_subreaper, look_at_host
from .subtree import CONTROLLERS
from .turns import turn_of

OK, WARN, FAIL = "ok", "warn", "fail"
_WORSE = (OK, WARN, FAIL)

PYTHON = (3, 11)

FILES_PER_MOD = 8
"""Descriptors that the network needs for one mod.

These are pipe, output, stack dumps, the warden's socket and the log. The first four exist twice
while the mod is replaced.
"""

SPARE_MEMORY = 7_000_000
"""Bytes of its own that a spare worker takes with its warden while it waits, see `lifecycle.spares`."""

FEW_FILES = 1024
LITTLE_SPACE = 1_000_000_000  # bytes

_DELEGATE = (
    "run the network as a systemd service with 'Delegate=yes', or by 'systemd-run --scope -p Delegate=yes modvisor run'"
)


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was examined.

    Attributes:
        status: ``ok``; ``warn``: it works with less; ``fail``: a network cannot run, or not as its
            file says.
        remedy: what to do to reach ``ok``; None if there is nothing to do.
    """

    name: str
    status: str
    text: str
    remedy: str | None = None


@dataclass(frozen=True, slots=True)
class HostReport:
    """All checks, in the order in which they are shown."""

    checks: tuple[Check, ...] = ()

    @property
    def status(self) -> str:
        """The worst status of all checks."""
        return max((check.status for check in self.checks), key=_WORSE.index, default=OK)

    def to_dict(self) -> dict[str, Any]:
        return {"status": self.status, "checks": [asdict(check) for check in self.checks]}


def examine_host(config: NetworkConfig | None = None) -> HostReport:
    """Examine this host, and how the limits of ``config`` hold on it.

    Blocks for a tenth of a second.
    """
    host = look_at_host(config is None or config.cgroups)
    checks = [
        _python(),
        _platform(),
        _event_loop(config),
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
        checks.extend(_spares(config))
    return HostReport(tuple(checks))


# -- the host


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
        less = "no pidfd, no cgroups, no SCHED_IDLE, so only the watchdog enforces limits"
        return Check("platform", WARN, f"{text}: {less}", "for production use Linux")
    return Check("platform", FAIL, f"{text} is not supported", "use Linux or macOS")


def _event_loop(config: NetworkConfig | None) -> Check:
    """Check which event loop `modvisor run` gets."""
    name, wanted = "event loop", "auto" if config is None else config.event_loop
    try:
        choice = choose_loop(wanted)
    except NoUvloop as error:
        return Check(name, FAIL, f"'event_loop: {UVLOOP}' of the network cannot be had: {error}")
    if choice.uvloop is not None:
        return Check(name, OK, str(choice))
    if choice.fault is not None:
        return Check(name, WARN, f"{choice}, because uvloop cannot be imported ({choice.fault})", REPAIR)
    if wanted != "auto":
        return Check(name, OK, f"{choice}, as the network file says")
    return Check(name, OK, f"{choice}; uvloop, which takes half of the CPU per event, is not installed", INSTALL)


def _processes() -> Iterator[Check]:
    """Check what the supervision of processes rests on."""
    means = {
        "pidfd": (has_pidfd(), "the network learns of the end of a process at once", "Linux 5.3"),
        "subreaper": (has_subreaper(), "processes that a worker leaves behind are found and ended", "Linux 3.4"),
        "memfd": (has_memfd(), "stack dumps are kept apart from the log", "Linux 3.17"),
        "short turns": (turn_of() is not None, "events do not wait behind what computes", "Linux 6.12"),
    }
    for name, (has, meaning, since) in means.items():
        if has:
            yield Check(name, OK, meaning)
        else:
            yield Check(name, WARN, f"not available; with it, {meaning}", f"use {since} or newer")


def _groups(host: Host) -> Check:
    groups = host.groups
    if groups.base is None:
        remedy = None if "switched off" in str(groups.reason) else _DELEGATE
        text = f"not used: {groups.reason}; rlimits and the watchdog enforce the limits instead"
        return Check("cgroups", WARN, text, remedy)
    missing = [name for name in CONTROLLERS if name not in groups.controllers]
    if missing:
        text = (
            f"{groups.base} can end all processes of a mod at once, but enforces fewer limits without the controllers "
            f"{', '.join(missing)}"
        )
        hybrid = groups.hierarchy is not None and str(groups.hierarchy.mount).endswith("/unified")
        remedy = (
            "cgroup v1 has the controllers on this host: boot it with 'systemd.unified_cgroup_hierarchy=1' (or "
            "'cgroup_no_v1=all' without systemd)"
            if hybrid
            else f"have the parent cgroup hand them down: {_DELEGATE}"
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
    text = "not allowed: the kernel cannot refuse a mod's forks, so the watchdog ends the mod after them"
    return Check(name, WARN, text, remedy)


def _scheduling(host: Host) -> Check:
    if sys.platform != "linux":
        return Check("scheduling", WARN, "no SCHED_IDLE, so the limit 'cpu' has no effect", "use Linux")
    over = "a mod over its 'cpu' runs behind all others"
    if "cpu" in host.group_means:
        return Check("scheduling", OK, f"{over}, by its cgroup (cpu.idle), until it uses less")
    if host.can_return:
        return Check("scheduling", OK, f"{over} (SCHED_IDLE) until it uses less")
    return Check(
        "scheduling", WARN,
        f"{over} (SCHED_IDLE) until its next process: this user may not take that back",
        "give the network CAP_SYS_NICE (systemd: AmbientCapabilities=CAP_SYS_NICE) or RLIMIT_NICE (LimitNICE=0)",
    )  # fmt: skip


def _open_files(config: NetworkConfig | None) -> Check:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    mods = len(config.mods) if config is not None else 0
    enough = soft // FILES_PER_MOD
    text = f"{soft} descriptors for the network (at most {_limit_text(hard)}): enough for {enough} mods without agents"
    if soft < max(FEW_FILES, 2 * FILES_PER_MOD * mods):
        remedy = "raise the limit: systemd 'LimitNOFILE=65536', or 'ulimit -n 65536' before the start"
        return Check("open files", WARN, text, remedy)
    return Check("open files", OK, text)


def storage_fault(folder: Path) -> tuple[str, str] | None:
    """Return why a state directory cannot be used, and what to do; None if it can."""
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    if not existing.is_dir():
        return (
            f"{folder} cannot be made: {existing} is a file",
            f"move {existing} away, or set another 'storage' of the network",
        )
    remedy = f"make {existing} writable, or set another 'storage' of the network"
    if not os.access(existing, os.W_OK | os.X_OK):
        return f"{folder} cannot be written: this user may not write in {existing}", remedy
    if existing != folder:
        try:  # /proc takes no folders, whoever asks
            Path(tempfile.mkdtemp(prefix=".modvisor-", dir=existing)).rmdir()
        except OSError as error:
            return f"{folder} cannot be made: {existing}: {error.strerror}", remedy
    return None


def _storage(config: NetworkConfig | None) -> Check:
    name, folder = "state directory", config.storage if config is not None else Path.cwd() / ".modvisor"
    if (fault := storage_fault(folder)) is not None:
        return Check(name, FAIL, *fault)
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    free = shutil.disk_usage(existing).free
    text = f"{folder}: {_size(free)} free"
    if free < LITTLE_SPACE:
        return Check(name, WARN, text, "free some space: the journal, the mods' files and their logs grow here")
    return Check(name, OK, text)


# -- limits

_GAPS = {
    "memory": "the watchdog looks every 0.05 to 4 s, so it sees a leak only then",
    "disk": "measured every 10 s, and earlier when the mod has written much; deleted files that are still open are missed",
    "processes": "a fork bomb is ended within about 0.1 s, not refused",
    "threads": "a mod with too many is ended; the kernel does not refuse them",
    "cpu_seconds": "counted for each process apart",
    "open_files": "counted for each process apart",
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
    """Check the limits of one mod, and find those that cannot hold as they are written."""
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
    """Yield each problem with its remedy."""
    for key in LIMITS:
        if getattr(limits, key) is not None and by[key] is None:
            yield f"{key} is not enforced on this host", f"use Linux, or leave limits.{key} out"
    if limits.memory is None:
        yield "it may use all of the machine's memory", "set limits.memory"
    elif host.memory is not None and limits.memory > host.memory:
        yield f"memory is more than the machine has ({_size(host.memory)})", "set a smaller limits.memory"
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if limits.open_files is not None and hard != resource.RLIM_INFINITY and limits.open_files > hard:
        yield f"open_files is more than this user may have ({hard})", "raise the hard limit (systemd: LimitNOFILE=)"


def _all_mods(config: NetworkConfig, host: Host) -> Iterator[Check]:
    """Check whether all mods together fit into the machine."""
    memory = sum(mod.limits.memory or 0 for mod in config.mods if mod.enabled)
    if host.memory is not None and memory > host.memory:
        text = (
            f"the mods' memory limits together ({_size(memory)}) are more than the machine has ({_size(host.memory)}), "
            "so the kernel may kill a mod that is within its own limit"
        )
        yield Check("memory of all mods", WARN, text, "make the limits smaller, or run fewer mods here")


def _spares(config: NetworkConfig) -> Iterator[Check]:
    """Say what waiting for mods costs, if the file wants that."""
    if config.spares:
        text = (
            f"{config.spares} wait for a mod, with about {_size(config.spares * SPARE_MEMORY)} of memory together; "
            "'modvisor stats' says how many wait in a running network"
        )
        yield Check("spare workers", OK, text)


def _value(key: str, value: float) -> str:
    return _size(int(value)) if key in ("memory", "memory_soft", "disk") else f"{value:g}"


def _limit_text(value: int) -> str:
    return "no limit" if value == resource.RLIM_INFINITY else str(value)


def _size(value: int) -> str:
    return f"{value / 1e9:.1f} GB" if value >= 1e9 else f"{value / 1e6:.1f} MB"
