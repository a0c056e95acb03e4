"""Control groups (v2) for the mods' processes: membership that nothing escapes, one kill for all,
the kernel's limits.

    …/BASE/                         the cgroup that this process was started in
        modvisor-NETWORK-PID/       one per network, locked (flock) by its owner while it lives
            supervisor/             this process, if BASE hands controllers down and so may hold
            ID.N/                   incarnation N of the mod ID
            spare.N/                the spare worker N, also when it has become a mod's

Whatever fails leaves fewer means, and never keeps a mod from loading. `Cgroups.means` and
`Cgroups.reason` say what can be done here, and why not more. `subtree.py` finds BASE.
"""

from __future__ import annotations

import fcntl
import logging
import os
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

from ..config import LimitsConfig
from . import cgroup_files as files
from .subtree import CONTROLLERS, LEAF, OWNED, PREFIX, Hierarchy, find_subtree, others_in

logger = logging.getLogger("modvisor.cgroups")

WEIGHT, SMALL_WEIGHT, SUPERVISOR_WEIGHT = 100, 33, 1000
"""``cpu.weight`` of a mod, of a mod that yields, and of the supervisor beside all its mods."""

_REMOVE_ATTEMPTS = 50
_REMOVE_PAUSE = 0.01  # seconds; a killed process leaves its cgroup a moment after it died


@dataclass(slots=True)
class Cgroup:
    """The cgroup of one incarnation.

    Attributes:
        enforced: the limits that the kernel enforces here, each with the file that holds it:
            ``{"memory": "cgroup memory.max", …}``.
        idles: whether the whole group can be run behind all others.
        weighs: whether the group has a share of the processor that can be changed.
    """

    path: Path
    enforced: dict[str, str] = field(default_factory=dict)
    idles: bool = False
    weighs: bool = False

    def add(self, pid: int) -> bool:
        """Move a process here; its children follow.

        Can take some ms, because the kernel waits for its readers: call it in a thread.
        """
        return files.write(self.path / "cgroup.procs", str(pid))

    def pids(self) -> set[int]:
        """Return the processes in this cgroup, and in cgroups that they made below it."""
        return files.pids_below(self.path)

    def kill(self) -> bool:
        """Send SIGKILL to all processes in it at once. Return False on kernels before 5.14."""
        return files.write(self.path / "cgroup.kill", "1")

    def idle(self, on: bool) -> bool:
        """Run the group behind all others, or with its usual share again."""
        return self.idles and files.write(self.path / "cpu.idle", "1" if on else "0")

    def weigh(self, small: bool) -> bool:
        """Give the group a third of the usual share of the processor, or the usual share again."""
        return self.weighs and files.write(self.path / "cpu.weight", str(SMALL_WEIGHT if small else WEIGHT))

    def cpu_seconds(self) -> float | None:
        """Return the processor time that the group has used; None where the kernel does not say."""
        return _cpu_seconds(self.path)

    def memory(self) -> int | None:
        """Return the bytes charged to the group, cached pages of files included.

        None without the memory controller.
        """
        text = files.read(self.path / "memory.current").strip()
        return int(text) if text.isdecimal() else None

    def oom_kills(self) -> int | None:
        """Return how many processes the kernel killed here for memory; None without the memory
        controller.
        """
        return files.flat_keyed(files.read(self.path / "memory.events")).get("oom_kill")

    def refused_forks(self) -> int | None:
        """Return how many forks ``pids.max`` refused; None without the pids controller."""
        return files.flat_keyed(files.read(self.path / "pids.events")).get("max")

    def remove(self) -> bool:
        """Remove the group, which the kernel allows once its last process is gone.

        Tries for half a second and blocks: call it in a thread.
        """
        for _ in range(_REMOVE_ATTEMPTS):
            if files.remove(self.path):
                return True
            time.sleep(_REMOVE_PAUSE)
        logger.warning("the cgroup %s cannot be removed: it still has processes", self.path)
        return False


class Cgroups:
    """The subtree of one network. `open` makes it and always succeeds; `close` gives it up.

    Attributes:
        means: what can be done here, each with the file or rule that does it: membership, kill,
            memory, pids, cpu.
        reason: why not more can be done; None if nothing is missing.
    """

    def __init__(self) -> None:
        self.means: dict[str, str] = {}
        self.reason: str | None = None
        self.path: Path | None = None
        self._base: Path | None = None
        self._lock: int | None = None
        self._controllers: frozenset[str] = frozenset()

    @classmethod
    def open(cls, network_id: str, allowed: bool = True, hierarchy: Hierarchy | None = None) -> Cgroups:
        """Claim a subtree for a network, and clear away what dead networks left in it.

        Args:
            allowed, hierarchy: see `find_subtree`.
        """
        self = cls()
        found = find_subtree(allowed, hierarchy)
        if found.base is None:
            self.reason = found.reason
            return self
        try:
            self._claim(found.base, network_id)
        except OSError as error:
            self.reason = f"no cgroup can be made below {found.base}: {error.strerror}"
            self.close()
            return self
        self.reason = self._enable_controllers(found.base)
        self._list_means()
        return self

    @property
    def used(self) -> bool:
        return self.path is not None

    def cpu_seconds(self) -> float | None:
        """Return the processor time that all incarnations here have used, and this process where it is among them.

        None where the network has no subtree, or the kernel does not say.
        """
        return None if self.path is None else _cpu_seconds(self.path)

    def create(self, name: str, limits: LimitsConfig | None = None) -> Cgroup | None:
        """Make the cgroup of one incarnation and write its limits, if they are known already.

        It is a new one in any case. One of the same name may be about to be removed, which kills
        the processes in it: a mod that was loaded again counts its incarnations from 1.

        Returns:
            None where the network has no subtree, or the kernel refuses.
        """
        if self.path is None:
            return None
        try:
            path = _new_folder(self.path / name)
        except OSError as error:
            logger.warning("no cgroup for %s: %s", name, error)
            return None
        cgroup = Cgroup(path)
        if limits is not None:
            self.write_limits(cgroup, limits)
        return cgroup

    def close(self) -> None:
        """Remove the subtree and go back to the cgroup that we were started in.

        May be called again.
        """
        if self.path is not None and self._base is not None:
            for folder in reversed(files.folders(self.path)[1:]):
                if folder.name != LEAF:
                    Cgroup(folder).remove()
            self._leave(self._base)
            files.remove(self.path)
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None
        self.path, self.means = None, {}

    # -- claiming

    def _claim(self, base: Path, network_id: str) -> None:
        _clear_dead(base)
        for number in count(1):  # another network of this very process may have the same id
            path = base / f"{PREFIX}{network_id}{f'.{number}' if number > 1 else ''}-{os.getpid()}"
            with suppress(FileExistsError):  # left by an earlier network of this process
                path.mkdir()
            try:
                self._lock = _lock(path)
            except BlockingIOError:
                continue
            self._base, self.path = base, path
            return

    def _enable_controllers(self, base: Path) -> str | None:
        """Have the available controllers act on the mods' cgroups.

        Return why some of them do not.
        """
        assert self.path is not None
        available = set(files.read(base / "cgroup.controllers").split()) & set(CONTROLLERS)
        problem = None
        if available - set(files.read(base / "cgroup.subtree_control").split()):
            problem = self._make_room(base) or _hand_down(base, available)
        if problem is None:
            arrived = set(files.read(self.path / "cgroup.controllers").split())
            problem = _hand_down(self.path, available & arrived)
        self._controllers = frozenset(files.read(self.path / "cgroup.subtree_control").split())
        if "cpu" in self._controllers and (self.path / LEAF).is_dir():
            files.write(self.path / LEAF / "cpu.weight", str(SUPERVISOR_WEIGHT))
        if problem is not None:
            return problem
        if missing := [name for name in CONTROLLERS if name not in self._controllers]:
            return f"the controllers {', '.join(missing)} are not handed down to {base}"
        return None

    def _make_room(self, base: Path) -> str | None:
        """Move the processes of ``base`` to our leaf. Return why that cannot be done.

        A cgroup that hands controllers down may hold no process itself, except the root of all.
        """
        assert self.path is not None
        if not (base / "cgroup.type").exists():  # the root
            return None
        if others := others_in(base):  # the root of a container, with other programs in it
            return f"{base} cannot hand down controllers while it holds other processes too ({others})"
        leaf = self.path / LEAF
        try:
            leaf.mkdir(exist_ok=True)
        except OSError as error:
            return f"{leaf} cannot be made: {error.strerror}"
        return None if _move_all(base, leaf) else f"the processes in {base} cannot be moved to {leaf}"

    def _leave(self, base: Path) -> None:
        """Move out of our leaf: to another network of this process, or back to ``base``."""
        assert self.path is not None
        leaf = self.path / LEAF
        if not leaf.is_dir():
            return
        others = [path for path in base.glob(f"{PREFIX}*-{os.getpid()}") if path != self.path]
        if others:
            refuge = others[0] / LEAF
            with suppress(OSError):
                refuge.mkdir(exist_ok=True)
        else:
            refuge = base
            _take_back(self.path)
            _take_back(base)
        _move_all(leaf, refuge)
        files.remove(leaf)

    # -- limits

    def write_limits(self, cgroup: Cgroup, limits: LimitsConfig) -> None:
        """Limit a cgroup, which may hold processes already."""
        if "memory" in self._controllers:
            self._limit(cgroup, "memory", "memory.max", limits.memory)
            self._limit(cgroup, "memory_soft", "memory.high", limits.memory_soft)
            if limits.memory is not None:
                files.write(cgroup.path / "memory.swap.max", "0")  # else a leak would fill the machine's swap first
                files.write(cgroup.path / "memory.oom.group", "1")  # half a mod is of no use
        if "pids" in self._controllers:
            # pids.max counts threads, and each process has one: `threads` is the limit of both
            # together.
            self._limit(cgroup, "threads", "pids.max", limits.threads)
        if "cpu" in self._controllers:
            cgroup.weighs = (cgroup.path / "cpu.weight").exists()
        if "cpu" in self._controllers and limits.cpu is not None:
            # Not cpu.max: a mod over its share may use what others leave. The watchdog sets
            # cpu.idle then.
            cgroup.idles = (cgroup.path / "cpu.idle").exists()
            if cgroup.idles:
                cgroup.enforced["cpu"] = "cgroup cpu.idle"

    def _limit(self, cgroup: Cgroup, key: str, file: str, value: int | None) -> None:
        if value is not None and files.write(cgroup.path / file, str(value)):
            cgroup.enforced[key] = f"cgroup {file}"

    def _list_means(self) -> None:
        assert self.path is not None
        self.means["membership"] = str(self.path)
        if (self.path / "cgroup.kill").exists():
            self.means["kill"] = "cgroup.kill"
        by_controller = {"memory": "memory.max", "pids": "pids.max", "cpu": "cpu.idle"}
        self.means.update({name: file for name, file in by_controller.items() if name in self._controllers})


def _cpu_seconds(group: Path) -> float | None:
    used = files.flat_keyed(files.read(group / "cpu.stat")).get("usage_usec")
    return None if used is None else used / 1e6


def _new_folder(path: Path) -> Path:
    """Make the folder, or if there is one, the same with a number."""
    for number in count(1):
        free = path if number == 1 else path.with_name(f"{path.name}.{number}")
        with suppress(FileExistsError):
            free.mkdir()
            return free
    raise AssertionError("there is always a higher number")


def _hand_down(path: Path, controllers: Iterable[str]) -> str | None:
    control = path / "cgroup.subtree_control"
    refused = [name for name in CONTROLLERS if name in controllers and not files.write(control, f"+{name}")]
    return f"{path} refuses to hand down {', '.join(refused)}" if refused else None


def _take_back(path: Path) -> None:
    for name in files.read(path / "cgroup.subtree_control").split():
        if name in CONTROLLERS:
            files.write(path / "cgroup.subtree_control", f"-{name}")


def _move_all(source: Path, target: Path) -> bool:
    """Move every process of ``source``, and those that are forked meanwhile."""
    for _ in range(10):
        pids = files.pids(source)
        if not pids:
            return True
        for pid in pids:
            files.write(target / "cgroup.procs", str(pid))
    return not files.pids(source)


def _clear_dead(base: Path) -> None:
    """Kill and remove what dead networks left. Nobody holds their locks."""
    for path in base.glob(f"{PREFIX}*"):
        if not OWNED.fullmatch(path.name):
            continue
        try:
            lock = _lock(path)
        except OSError:
            continue  # its network lives, or it is gone
        try:
            for folder in files.folders(path)[1:]:  # processes in the leaf are no mods, and end by themselves
                if folder.name != LEAF and Cgroup(folder).pids():
                    logger.warning("the cgroup %s of a network that died still had processes; they are killed", folder)
                    Cgroup(folder).kill()
                    Cgroup(folder).remove()
            files.remove(path)
        finally:
            os.close(lock)


def _lock(path: Path) -> int:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(fd)
        raise
    return fd
