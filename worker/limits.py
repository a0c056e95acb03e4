"""Resource limits the kernel enforces on this very process, set before any code of the mod runs.

What a mod's processes may use together is the supervisor's to enforce (a cgroup where there is one, else its watchdog); what
is here makes the ordinary cases end softly, with a `MemoryError` or an `OSError` in the handler that asked for too much.
"""

from __future__ import annotations

import mmap
import os
import resource
import sys
from contextlib import suppress
from typing import Any

OOM_STEP = 500
"""Added to a worker's ``oom_score_adj`` (-1000 to 1000): when the machine is out of memory the kernel takes mods first."""

RESERVE = 4 * 1024 * 1024
"""Bytes of address space kept back for answering when the mod has used up its memory: several of Python's arenas of 1 MiB."""

DEFAULT_STACK = 8 * 1024 * 1024
"""Bytes of a thread's stack where the system names no size of its own."""

_LIMITS = {
    # RLIMIT_DATA, not RLIMIT_AS: address space that is only reserved (arenas, mapped files) is not memory used.
    "memory": resource.RLIMIT_DATA,
    "cpu_seconds": resource.RLIMIT_CPU,
    "open_files": resource.RLIMIT_NOFILE,
    "disk": resource.RLIMIT_FSIZE,  # Python ignores SIGXFSZ: what is too much fails with EFBIG
}

_CLONE_NEWUSER = 0x10000000

applied: dict[str, int] = {}
"""The limits of this process as they were asked for, so that a failure can name the number."""


class Reserve:
    """Address space that is given up when there is no more, so that the failure itself can be told. Costs no memory."""

    def __init__(self, size: int = RESERVE) -> None:
        self._size = size
        self._held: mmap.mmap | None = None

    @property
    def held(self) -> bool:
        return self._held is not None

    def hold(self) -> None:
        """Take it (again); where there is no room, it stays given up."""
        if self._held is None:
            with suppress(OSError, MemoryError):
                # Private: shared mappings do not count against RLIMIT_DATA, and giving them up would help nobody.
                self._held = mmap.mmap(-1, self._size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)

    def release(self) -> None:
        if self._held is not None:
            self._held.close()
            self._held = None


reserve = Reserve()


def apply(limits: dict[str, Any]) -> dict[str, str]:
    """Apply the limits of a `load` request; call it while this process has one thread.

    Args:
        limits: ``{"memory", "disk": bytes, "cpu_seconds": s, "open_files", "tasks": n, "stacks": n}``; keys that are absent
            or None are left alone. ``tasks``: processes and threads of the mod together; it is asked for where the
            supervisor has nothing better. ``stacks``: threads of our own that will be allowed for, see `allow_stack`.

    Returns:
        what is enforced by what: ``{"memory": "RLIMIT_DATA", …}``, with the keys of ``limits``. A limit above the hard limit
        of the process becomes that hard limit: a worker may lower its limits, not raise them. What the system refuses is
        absent, never an error.
    """
    _set(resource.RLIMIT_CORE, 0, 0)  # a crashing mod must not fill the disk
    _offer_to_the_oom_killer()
    enforced: dict[str, str] = {}
    if limits.get("tasks") is not None and _limit_tasks(limits["tasks"]):
        enforced["tasks"] = "RLIMIT_NPROC in a user namespace"
    for key, which in _LIMITS.items():
        value = limits.get(key)
        if value is not None and _set(which, value, _hard(key, value, limits)):
            enforced[key] = _NAMES[which]
            applied[key] = value
    if "memory" in enforced:
        reserve.hold()
    return enforced


_NAMES = {getattr(resource, name): name for name in ("RLIMIT_DATA", "RLIMIT_CPU", "RLIMIT_NOFILE", "RLIMIT_FSIZE")}


def _hard(key: str, value: int, limits: dict[str, Any]) -> int:
    """The hard limit that goes with a soft one."""
    if key == "cpu_seconds":
        return value + 2  # SIGXCPU at the soft one says why it ends; SIGKILL here, for a mod that catches that signal
    if key == "memory":
        return value + limits.get("stacks", 0) * stack_size()
    return value


def _set(which: int, soft: int, hard: int) -> bool:
    _, most = resource.getrlimit(which)
    if most != resource.RLIM_INFINITY:
        soft, hard = min(soft, most), min(hard, most)
    try:
        resource.setrlimit(which, (soft, hard))
    except (OSError, ValueError):
        return False
    return True


# -- threads


def stack_size() -> int:
    """Bytes of address space that a thread's stack takes."""
    soft, _ = resource.getrlimit(resource.RLIMIT_STACK)
    return DEFAULT_STACK if soft == resource.RLIM_INFINITY else soft


def allow_stack() -> None:
    """Let the stack of one more thread of ours come on top of ``memory``.

    A stack of 8 MiB is address space, of which a handler touches a few pages: 64 of them must not use up 512 MB of the mod's
    memory. The limit grows with the threads that there are, not with those that there might be, so that a mod without
    any gets its `MemoryError` at the number that was asked for.
    """
    if "memory" in applied:
        soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
        if soft != resource.RLIM_INFINITY:
            with suppress(OSError, ValueError):
                resource.setrlimit(resource.RLIMIT_DATA, (min(soft + stack_size(), hard), hard))


# -- out of memory


def _offer_to_the_oom_killer() -> None:
    with suppress(OSError, ValueError), open("/proc/self/oom_score_adj", "r+") as file:
        own = int(file.read())
        file.seek(0)
        file.write(str(min(1000, own + OOM_STEP)))


# -- processes and threads of a user who has others


def _limit_tasks(value: int) -> bool:
    """RLIMIT_NPROC, where it counts this mod alone.

    It counts per user, and not at all for root; in a user namespace of its own it counts what is in there. Some systems
    allow to make such a namespace but not to map the user into it, which would leave the process without an identity: so
    a child tries first.
    """
    if not can_limit_tasks():
        return False
    try:
        _enter_user_namespace()
    except OSError:
        return False
    return _set(resource.RLIMIT_NPROC, value, value)


def can_limit_tasks() -> bool:
    """Whether this process could have a user namespace of its own in which its tasks are counted."""
    return sys.platform == "linux" and os.geteuid() != 0 and _child_succeeds(_enter_user_namespace)


def _enter_user_namespace() -> None:
    """Raises OSError where that is not allowed."""
    uid, gid = os.geteuid(), os.getegid()
    _unshare_user()
    _write("/proc/self/setgroups", "deny")  # else an unprivileged process may not map its group
    _write("/proc/self/uid_map", f"{uid} {uid} 1")
    _write("/proc/self/gid_map", f"{gid} {gid} 1")


def _unshare_user() -> None:
    if sys.version_info >= (3, 12):
        os.unshare(_CLONE_NEWUSER)
        return
    import ctypes  # 3.11 only, and not for root: a worker stays small

    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_CLONE_NEWUSER) != 0:
        raise OSError(ctypes.get_errno(), "unshare(CLONE_NEWUSER)")


def _write(path: str, text: str) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, text.encode())
    finally:
        os.close(fd)


def _child_succeeds(step: Any) -> bool:
    try:
        pid = os.fork()
    except OSError:
        return False
    if pid == 0:
        try:
            step()
            os._exit(0)
        except BaseException:  # noqa: BLE001 - a child that must not come back, whatever happens
            os._exit(1)
    _, status = os.waitpid(pid, 0)
    return status == 0
