"""Control groups (v2) for the mods' processes: membership that nothing escapes, one kill for all, and the kernel's limits.

    …/OURS/                         the cgroup this process was started in
        modvisor-NETWORK-PID/       one per network, locked (flock) by its owner while it lives
            supervisor/             this process, where OURS may not hold processes any more (it hands controllers down)
            ID.N/                   incarnation N of the mod ID

It is used only where the subtree is ours: writable, and with nobody else's processes in it. Whatever fails, fails to a smaller
set of means, never to a mod that does not load; `Cgroups.means` and `Cgroups.reason` say what there is, and why not more.

See cgroup-v2.rst of the kernel: "Delegation", "No Internal Process Constraint", "Controllers".
"""

from __future__ import annotations

import fcntl
import logging
import os
import re
import sys
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

from ..config import LimitsConfig

logger = logging.getLogger("modvisor.cgroups")

CONTROLLERS = ("memory", "pids", "cpu")
PREFIX = "modvisor-"
LEAF = "supervisor"  # an incarnation's name ends in a number

_OWNED = re.compile(rf"{PREFIX}.+-\d+")
_REMOVE_ATTEMPTS = 50
_REMOVE_PAUSE = 0.01  # seconds; a killed process leaves its cgroup a moment after it died


@dataclass(frozen=True, slots=True)
class Place:
    """Where this process is in the hierarchy.

    Attributes:
        mount: where cgroup v2 is mounted.
        own: the folder of the cgroup this process is in.
    """

    mount: Path
    own: Path


def find_place(mountinfo: str, membership: str) -> Place | None:
    """From ``/proc/self/mountinfo`` and ``/proc/self/cgroup``; None if we are in nothing that is mounted."""
    path = next((line[3:] for line in membership.splitlines() if line.startswith("0::")), None)
    if path is None or path.startswith("/.."):  # outside of our cgroup namespace
        return None
    for line in mountinfo.splitlines():
        left, _, right = line.partition(" - ")
        fields = left.split(" ")
        if right.split(" ", 1)[0] != "cgroup2":
            continue
        root, mount = _unescape(fields[3]), _unescape(fields[4])
        below = os.path.relpath(path, root)
        if below.split("/", 1)[0] != "..":
            return Place(Path(mount), Path(os.path.normpath(os.path.join(mount, below))))
    return None


def _unescape(text: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), text)


@dataclass(slots=True)
class Cgroup:
    """The cgroup of one incarnation.

    Attributes:
        enforced: limits the kernel enforces here, by the file that says so: ``{"memory": "cgroup memory.max", …}``.
    """

    path: Path
    enforced: dict[str, str] = field(default_factory=dict)
    idles: bool = False  # whether the whole group can be made to use only what others leave over

    def add(self, pid: int) -> bool:
        """Put a process here; its children follow. Can take some ms (the kernel waits for its readers): call it in a thread."""
        return _write(self.path / "cgroup.procs", str(pid))

    def pids(self) -> set[int]:
        """The processes in it, and in groups that they made below it."""
        found: set[int] = set()
        for folder in _folders(self.path):
            found.update(int(pid) for pid in _read(folder / "cgroup.procs").split())
        return found

    def kill(self) -> bool:
        """SIGKILL to all that are in it, at once; False where the kernel (before 5.14) cannot."""
        return _write(self.path / "cgroup.kill", "1")

    def idle(self, on: bool) -> bool:
        """Give the group what all others leave over, or its share again."""
        return self.idles and _write(self.path / "cpu.idle", "1" if on else "0")

    def memory(self) -> int | None:
        """Bytes charged to it, the cached pages of its files among them; None without the memory controller."""
        text = _read(self.path / "memory.current").strip()
        return int(text) if text.isdecimal() else None

    def oom_kills(self) -> int | None:
        """How often the kernel killed a process here for memory; None without the memory controller."""
        return _flat(_read(self.path / "memory.events")).get("oom_kill")

    def refused_forks(self) -> int | None:
        """How often ``pids.max`` refused a process or thread; None without the pids controller."""
        return _flat(_read(self.path / "pids.events")).get("max")

    def remove(self) -> bool:
        """Remove it, which works when its last process is gone: tried for half a second. Blocks: call it in a thread."""
        for _ in range(_REMOVE_ATTEMPTS):
            if _remove(self.path):
                return True
            time.sleep(_REMOVE_PAUSE)
        logger.warning("the cgroup %s cannot be removed: it still has processes", self.path)
        return False


class Cgroups:
    """The subtree of one network. Made by `open`, which always succeeds; given up by `close`.

    Attributes:
        means: what it can do here, each with the file or rule that does it: membership, kill, memory, pids, cpu.
        reason: why it cannot do more; None if nothing is missing.
    """

    def __init__(self) -> None:
        self.means: dict[str, str] = {}
        self.reason: str | None = None
        self.path: Path | None = None
        self._base: Path | None = None  # OURS
        self._lock: int | None = None
        self._controllers: frozenset[str] = frozenset()

    @classmethod
    def open(cls, network_id: str, allowed: bool = True, place: Place | None = None) -> Cgroups:
        """Claim a subtree for a network, and clear away what dead networks left in it.

        Args:
            allowed: the ``cgroups`` key of the network file.
            place: instead of where this process is.
        """
        self = cls()
        where = examine(allowed, place)
        if where.base is None:
            self.reason = where.reason
            return self
        try:
            self._claim(where.base, network_id)
        except OSError as error:
            self.reason = f"no cgroup can be made below {where.base}: {error.strerror}"
            self.close()
            return self
        self.reason = self._enable_controllers(where.base)
        self._say_means()
        return self

    @property
    def used(self) -> bool:
        return self.path is not None

    def create(self, name: str, limits: LimitsConfig) -> Cgroup | None:
        """A cgroup for one incarnation, with its limits written; None where there are none, or the kernel refuses."""
        if self.path is None:
            return None
        path = self.path / name
        try:
            with suppress(FileExistsError):
                path.mkdir()
        except OSError as error:
            logger.warning("no cgroup for %s: %s", name, error)
            return None
        cgroup = Cgroup(path)
        self._write_limits(cgroup, limits)
        return cgroup

    def close(self) -> None:
        """Remove the subtree and go back where we were. May be called again."""
        if self.path is not None and self._base is not None:
            for folder in reversed(_folders(self.path)[1:]):
                if folder.name != LEAF:
                    Cgroup(folder).remove()
            self._leave(self._base)
            _remove(self.path)
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None
        self.path, self.means = None, {}

    # -- claiming

    def _claim(self, base: Path, network_id: str) -> None:
        _clear_dead(base)
        for number in count(1):  # another network of this very process may have the same id
            path = base / f"{PREFIX}{network_id}{f'.{number}' if number > 1 else ''}-{os.getpid()}"
            with suppress(FileExistsError):  # a former one left it
                path.mkdir()
            try:
                self._lock = _lock(path)
            except BlockingIOError:
                continue
            self._base, self.path = base, path
            return

    def _enable_controllers(self, base: Path) -> str | None:
        """Have the controllers that there are act on the mods' cgroups; why not all of them, if not."""
        assert self.path is not None
        there = set(_read(base / "cgroup.controllers").split()) & set(CONTROLLERS)
        problem = None
        if there - set(_read(base / "cgroup.subtree_control").split()):
            problem = self._make_room(base) or _hand_down(base, there)
        if problem is None:
            problem = _hand_down(self.path, there & set(_read(self.path / "cgroup.controllers").split()))
        self._controllers = frozenset(_read(self.path / "cgroup.subtree_control").split())
        if problem is not None:
            return problem
        if missing := [name for name in CONTROLLERS if name not in self._controllers]:
            return f"the controllers {', '.join(missing)} are not handed down to {base}"
        return None

    def _make_room(self, base: Path) -> str | None:
        """A cgroup that hands controllers down may hold no process itself (but for the root of all): move to a leaf."""
        assert self.path is not None
        if _is_root(base):
            return None
        if others := _others(base):  # the root of a container, with whatever else runs in it
            return f"{base} cannot hand down controllers while it holds other processes too ({others})"
        leaf = self.path / LEAF
        try:
            leaf.mkdir(exist_ok=True)
        except OSError as error:
            return f"{leaf} cannot be made: {error.strerror}"
        return None if _move_all(base, leaf) else f"the processes in {base} cannot be moved to {leaf}"

    def _leave(self, base: Path) -> None:
        """Out of our leaf: to another network of this process, or back to where we were started."""
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
        _remove(leaf)

    # -- limits

    def _write_limits(self, cgroup: Cgroup, limits: LimitsConfig) -> None:
        if "memory" in self._controllers:
            self._limit(cgroup, "memory", "memory.max", limits.memory)
            self._limit(cgroup, "memory_soft", "memory.high", limits.memory_soft)
            if limits.memory is not None:
                _write(cgroup.path / "memory.swap.max", "0")  # else a leak would fill the machine's swap first
                _write(cgroup.path / "memory.oom.group", "1")  # half a mod is of no use
        if "pids" in self._controllers:
            # It counts threads, of which every process has one: the sum of both that the mod may have is `threads`.
            self._limit(cgroup, "threads", "pids.max", limits.threads)
        if "cpu" in self._controllers and limits.cpu is not None:
            # Not cpu.max: what is over the share may use what others leave. The watchdog sets it when the share is exceeded.
            cgroup.idles = (cgroup.path / "cpu.idle").exists()
            if cgroup.idles:
                cgroup.enforced["cpu"] = "cgroup cpu.idle"

    def _limit(self, cgroup: Cgroup, key: str, file: str, value: int | None) -> None:
        if value is not None and _write(cgroup.path / file, str(value)):
            cgroup.enforced[key] = f"cgroup {file}"

    def _say_means(self) -> None:
        assert self.path is not None
        self.means["membership"] = str(self.path)
        if (self.path / "cgroup.kill").exists():
            self.means["kill"] = "cgroup.kill"
        files = {"memory": "memory.max", "pids": "pids.max", "cpu": "cpu.idle"}
        self.means.update({name: file for name, file in files.items() if name in self._controllers})


@dataclass(frozen=True, slots=True)
class Examined:
    """What can be had here.

    Attributes:
        place: None without cgroup v2.
        base: below which a network may make its cgroups; None: nowhere, for ``reason``.
        controllers: those of ours that could act there.
    """

    place: Place | None
    base: Path | None
    controllers: tuple[str, ...]
    reason: str | None


def examine(allowed: bool = True, place: Place | None = None) -> Examined:
    """Find out whether a subtree is ours, without changing anything."""
    if not allowed:
        return Examined(None, None, (), "switched off by 'cgroups: false' of the network")
    if sys.platform != "linux":
        return Examined(None, None, (), "only Linux has cgroups")
    place = place or find_place(_read("/proc/self/mountinfo"), _read("/proc/self/cgroup"))
    if place is None:
        return Examined(None, None, (), "no cgroup v2 is mounted here")
    base = _above_ours(place.own)
    there = tuple(name for name in CONTROLLERS if name in _read(base / "cgroup.controllers").split())
    reason = _why_not_ours(place, base)
    return Examined(place, None if reason else base, there, reason)


def _why_not_ours(place: Place, base: Path) -> str | None:
    kind = _read(base / "cgroup.type").strip()
    if kind not in ("", "domain"):  # the root has no such file
        return f"{base} is of type '{kind}'"
    if not (os.access(base, os.W_OK) and os.access(base / "cgroup.procs", os.W_OK)):
        return f"{base} is not delegated to this user"
    if base == place.mount and os.geteuid() == 0:
        return None
    if others := _others(base):
        return f"{base} holds other processes too ({others})"
    return None


def _others(base: Path) -> str:
    """Processes in ``base`` that are neither us nor of our making, in words; "" if there are none."""
    others = sorted(_pids(base) - _descendants(os.getpid()))
    return f"pid {', '.join(map(str, others[:3]))}{', …' if len(others) > 3 else ''}" if others else ""


def _above_ours(own: Path) -> Path:
    """``own``, or where it was before another network of this process moved us to its leaf."""
    if own.name == LEAF and _OWNED.fullmatch(own.parent.name) and own.parent.name.endswith(f"-{os.getpid()}"):
        return own.parent.parent
    return own


def _is_root(base: Path) -> bool:
    return not (base / "cgroup.type").exists()


def _hand_down(path: Path, controllers: Iterable[str]) -> str | None:
    refused = [
        name for name in CONTROLLERS if name in controllers and not _write(path / "cgroup.subtree_control", f"+{name}")
    ]
    return f"{path} refuses to hand down {', '.join(refused)}" if refused else None


def _take_back(path: Path) -> None:
    for name in _read(path / "cgroup.subtree_control").split():
        if name in CONTROLLERS:
            _write(path / "cgroup.subtree_control", f"-{name}")


def _move_all(source: Path, target: Path) -> bool:
    """Every process of ``source``, those that are forked meanwhile too."""
    for _ in range(10):
        pids = _pids(source)
        if not pids:
            return True
        for pid in pids:
            _write(target / "cgroup.procs", str(pid))
    return not _pids(source)


def _clear_dead(base: Path) -> None:
    """Kill and remove what networks left that died: their lock is free."""
    for path in base.glob(f"{PREFIX}*"):
        if not _OWNED.fullmatch(path.name):
            continue
        try:
            lock = _lock(path)
        except OSError:
            continue  # alive, or gone
        try:
            for folder in _folders(path)[1:]:  # what is in its own leaf is not a mod's, and ends by itself
                if folder.name != LEAF and Cgroup(folder).pids():
                    logger.warning("the cgroup %s of a network that died still had processes; they are killed", folder)
                    Cgroup(folder).kill()
                    Cgroup(folder).remove()
            _remove(path)
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


# -- files


def _folders(path: Path) -> list[Path]:
    """``path`` and all below it, those above first."""
    found = [path]
    for folder in found:
        with suppress(OSError), os.scandir(folder) as entries:
            found.extend(Path(entry.path) for entry in entries if entry.is_dir(follow_symlinks=False))
    return found


def _remove(path: Path) -> bool:
    """The cgroup and those below it; False while one of them has processes."""
    for folder in reversed(_folders(path)):
        try:
            folder.rmdir()
        except FileNotFoundError:
            continue
        except OSError:
            return False
    return True


def _pids(path: Path) -> set[int]:
    return {int(pid) for pid in _read(path / "cgroup.procs").split()}


def _descendants(pid: int) -> set[int]:
    """``pid`` and what it has started, by the lists of children the kernel keeps."""
    found, waiting = {pid}, [pid]
    while waiting:
        tasks = f"/proc/{waiting.pop()}/task"
        with suppress(OSError):
            for task in os.listdir(tasks):
                children = {int(child) for child in _read(f"{tasks}/{task}/children").split()} - found
                found |= children
                waiting.extend(children)
    return found


def _flat(text: str) -> dict[str, int]:
    """A flat keyed file: ``KEY VALUE`` lines."""
    pairs = (line.split() for line in text.splitlines())
    return {pair[0]: int(pair[1]) for pair in pairs if len(pair) == 2 and pair[1].isdecimal()}


def _read(path: Path | str) -> str:
    """ "" if it is not there or hidden from us."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""


def _write(path: Path, text: str) -> bool:
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(fd, text.encode())
        finally:
            os.close(fd)
    except OSError as error:
        logger.debug("%s: %r was refused: %s", path, text, error)
        return False
    return True
