"""Find out where this process may make cgroups, without changing anything.

A network uses cgroups only in a subtree that belongs to it: writable, and without processes of
anybody else. `find_subtree` says where that is, or why there is none.

See cgroup-v2.rst of the kernel: "Delegation", "No Internal Process Constraint", "Controllers".
"""

from __future__ import annotations

import os
import re
import sys
from dataclasses import dataclass
from pathlib import Path

from . import cgroup_files as files

CONTROLLERS = ("memory", "pids", "cpu")
PREFIX = "modvisor-"
LEAF = "supervisor"
"""The cgroup of the supervisor itself. The name of an incarnation's cgroup ends in a number."""

OWNED = re.compile(rf"{PREFIX}.+-\d+")


@dataclass(frozen=True, slots=True)
class Hierarchy:
    """Where this process is in the tree of cgroups.

    Attributes:
        mount: where cgroup v2 is mounted.
        own: the folder of the cgroup that this process is in.
    """

    mount: Path
    own: Path


@dataclass(frozen=True, slots=True)
class Subtree:
    """What cgroups offer here.

    Attributes:
        hierarchy: None without cgroup v2.
        base: the folder in which a network may make its cgroups. None means nowhere, for
            ``reason``.
        controllers: those of `CONTROLLERS` that could act there.
    """

    hierarchy: Hierarchy | None
    base: Path | None
    controllers: tuple[str, ...]
    reason: str | None


def find_subtree(allowed: bool = True, hierarchy: Hierarchy | None = None) -> Subtree:
    """Return the subtree that a network of this process may use.

    Args:
        allowed: the ``cgroups`` key of the network file.
        hierarchy: used instead of the one that ``/proc`` shows.
    """
    if not allowed:
        return Subtree(None, None, (), "switched off by 'cgroups: false' of the network")
    if sys.platform != "linux":
        return Subtree(None, None, (), "only Linux has cgroups")
    hierarchy = hierarchy or find_hierarchy(files.read("/proc/self/mountinfo"), files.read("/proc/self/cgroup"))
    if hierarchy is None:
        return Subtree(None, None, (), "no cgroup v2 is mounted here")
    base = _above_ours(hierarchy.own)
    offered = files.read(base / "cgroup.controllers").split()
    reason = _why_not_ours(hierarchy, base)
    return Subtree(hierarchy, None if reason else base, tuple(n for n in CONTROLLERS if n in offered), reason)


def find_hierarchy(mountinfo: str, membership: str) -> Hierarchy | None:
    """Return where this process is, or None if it is in no cgroup that is mounted.

    Args:
        mountinfo: the text of ``/proc/self/mountinfo``.
        membership: the text of ``/proc/self/cgroup``.
    """
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
            return Hierarchy(Path(mount), Path(os.path.normpath(os.path.join(mount, below))))
    return None


def others_in(base: Path) -> str:
    """Return the processes in ``base`` that are neither ours nor started by us, in words; "" if
    none are.
    """
    others = sorted(files.pids(base) - files.descendants(os.getpid()))
    return f"pid {', '.join(map(str, others[:3]))}{', …' if len(others) > 3 else ''}" if others else ""


def _why_not_ours(hierarchy: Hierarchy, base: Path) -> str | None:
    kind = files.read(base / "cgroup.type").strip()
    if kind not in ("", "domain"):  # the root has no such file
        return f"{base} is of type '{kind}'"
    if not (os.access(base, os.W_OK) and os.access(base / "cgroup.procs", os.W_OK)):
        return f"{base} is not delegated to this user"
    if base == hierarchy.mount and os.geteuid() == 0:
        return None
    if others := others_in(base):
        return f"{base} holds other processes too ({others})"
    return None


def _above_ours(own: Path) -> Path:
    """Return ``own``, or the cgroup above it if another network of this process moved us to its
    leaf.
    """
    if own.name == LEAF and OWNED.fullmatch(own.parent.name) and own.parent.name.endswith(f"-{os.getpid()}"):
        return own.parent.parent
    return own


def _unescape(text: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), text)
