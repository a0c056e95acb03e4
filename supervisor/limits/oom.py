"""Tell whether the kernel's out-of-memory killer ended a mod.

A SIGKILL alone does not say who sent it.
"""

from __future__ import annotations

import re

from .cgroups import Cgroup

VMSTAT = "/proc/vmstat"
_OOM_KILLS = re.compile(rb"^oom_kill (\d+)$", re.MULTILINE)


class OomCheck:
    """Counts out-of-memory kills from the start of an incarnation.

    Make it when the incarnation starts. Ask for the `verdict` when the incarnation ended with a
    SIGKILL that the network did not send.

    In a cgroup with the memory controller, the kernel counts the kills of that cgroup. Elsewhere it
    only counts the kills of the whole machine. If it kills another program in the same moment, the
    verdict blames that kill for the end of the mod.
    """

    def __init__(self, cgroup: Cgroup | None = None) -> None:
        self._cgroup = cgroup
        self._at_start = self._count()

    def verdict(self) -> str | None:
        """Return the cause for the crash report, or None if nothing points to the killer."""
        now = self._count()
        if self._at_start is None or now is None or now <= self._at_start:
            return None
        if self._in_cgroup() is not None:
            return "killed by the kernel: its cgroup was out of memory"
        return (
            "killed, most likely by the kernel's out-of-memory killer, which took a process of this machine meanwhile"
        )

    def _count(self) -> int | None:
        own = self._in_cgroup()
        return machine_oom_kills() if own is None else own

    def _in_cgroup(self) -> int | None:
        return self._cgroup.oom_kills() if self._cgroup is not None else None


def machine_oom_kills(path: str = VMSTAT) -> int | None:
    """Return how many processes the kernel has killed for memory since it started; None if it does
    not count.
    """
    try:
        with open(path, "rb", buffering=0) as file:
            found = _OOM_KILLS.search(file.read())
    except OSError:
        return None
    return None if found is None else int(found[1])
