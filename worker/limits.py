"""Resource limits that the kernel enforces on this process, set before any code of the mod runs.

The supervisor limits what all processes of a mod use together, by a cgroup or its watchdog. The
limits here let the ordinary cases end softly: with a `MemoryError` or an `OSError` in the handler
that asked for too much.
"""

from __future__ import annotations

import mmap
import resource
from contextlib import suppress
from typing import Any

OOM_STEP = 500
"""Added to a worker's ``oom_score_adj`` (-1000 to 1000). When the machine runs out of memory, the
kernel kills mods first."""

RESERVE = 4 * 1024 * 1024
"""Bytes of address space kept for answering when the mod has used up its memory: several arenas of
Python, of 1 MiB each."""

DEFAULT_STACK = 8 * 1024 * 1024
"""Bytes of a thread's stack where the system sets no limit."""

_LIMITS = {
    # Not RLIMIT_AS: address space that is only reserved (arenas, mapped files) is not used memory.
    "memory": resource.RLIMIT_DATA,
    "cpu_seconds": resource.RLIMIT_CPU,
    "open_files": resource.RLIMIT_NOFILE,
    "disk": resource.RLIMIT_FSIZE,  # Python ignores SIGXFSZ, so a write beyond it fails with EFBIG
}

WARDENS = 1
"""Processes in the worker's user namespace that are not the mod's."""

applied: dict[str, int] = {}
"""The limits of this process as the core asked for them, so that a failure can name the number."""


class Reserve:
    """Address space that is released when memory runs out, so that the failure can be reported.

    It costs no memory.
    """

    def __init__(self, size: int = RESERVE) -> None:
        self._size = size
        self._held: mmap.mmap | None = None

    @property
    def held(self) -> bool:
        return self._held is not None

    def hold(self) -> None:
        """Reserve it (again), if there is room."""
        if self._held is None:
            with suppress(OSError, MemoryError):
                # Private, because RLIMIT_DATA does not count shared mappings.
                self._held = mmap.mmap(-1, self._size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)

    def release(self) -> None:
        if self._held is not None:
            self._held.close()
            self._held = None


reserve = Reserve()


def apply(limits: dict[str, Any]) -> dict[str, str]:
    """Apply the limits of a `load` request; call it while this process has one thread.

    Args:
        limits: ``{"memory", "disk": bytes, "cpu_seconds": s, "open_files", "tasks", "stacks": n}``.
            Keys that are absent or None mean no limit. ``tasks`` counts the mod's processes and
            threads together; the supervisor asks for it if it has no better means, and if the
            worker has a user namespace of its own: elsewhere RLIMIT_NPROC counts all processes of
            the user, and none of root. ``stacks`` is the number of the worker's own threads, see
            `allow_stack`.

    Returns:
        the means of each limit that is enforced: ``{"memory": "RLIMIT_DATA", …}``, with the keys of
        ``limits``. What the system refuses is absent, not an error. A limit above the hard limit of
        the process becomes that hard limit: a worker may lower its limits, not raise them.
    """
    _set(resource.RLIMIT_CORE, 0, 0)  # a crashing mod must not fill the disk
    offer_to_the_oom_killer()
    enforced: dict[str, str] = {}
    if (tasks := limits.get("tasks")) is not None and _set(resource.RLIMIT_NPROC, tasks + WARDENS, tasks + WARDENS):
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
    """Return the hard limit that goes with a soft one."""
    if key == "cpu_seconds":
        return value + 2  # SIGXCPU at the soft limit names the reason; SIGKILL if a mod catches it
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
    """Return the bytes of address space that a thread's stack takes."""
    soft, _ = resource.getrlimit(resource.RLIMIT_STACK)
    return DEFAULT_STACK if soft == resource.RLIM_INFINITY else soft


def allow_stack() -> None:
    """Raise the memory limit by the stack of one more thread of the worker's own.

    A stack takes 8 MiB of address space, of which a handler touches a few pages. 64 stacks must not
    use up 512 MB of the mod's memory. The limit grows with each thread that starts, not ahead, so
    that a mod without threads gets its `MemoryError` at the configured number.
    """
    if "memory" in applied:
        soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
        if soft != resource.RLIM_INFINITY:
            with suppress(OSError, ValueError):
                resource.setrlimit(resource.RLIMIT_DATA, (min(soft + stack_size(), hard), hard))


# -- out of memory


def offer_to_the_oom_killer() -> None:
    """Raise the score by which the kernel chooses whom to kill."""
    with suppress(OSError, ValueError), open("/proc/self/oom_score_adj", "r+") as file:
        own = int(file.read())
        file.seek(0)
        file.write(str(min(1000, own + OOM_STEP)))
