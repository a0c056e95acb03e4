"""Was it the kernel's out-of-memory killer? A SIGKILL alone does not say who sent it."""

from __future__ import annotations

from .cgroups import Cgroup

VMSTAT = "/proc/vmstat"


class OomCheck:
    """Made when an incarnation starts; asked when it ended with a SIGKILL that was not ours.

    Where the incarnation has a cgroup with the memory controller, the kernel counts its victims there. Elsewhere there is
    only the count of the whole machine, and a victim of another program at just that time is taken for ours.
    """

    def __init__(self, cgroup: Cgroup | None = None) -> None:
        self._cgroup = cgroup
        self._at_start = self._count()

    def verdict(self) -> str | None:
        """What speaks for it, in words for the crash report; None if nothing does, or nobody can tell."""
        now = self._count()
        if self._at_start is None or now is None or now <= self._at_start:
            return None
        if self._of_cgroup() is not None:
            return "killed by the kernel: its cgroup was out of memory"
        return (
            "killed, most likely by the kernel's out-of-memory killer, which took a process of this machine meanwhile"
        )

    def _count(self) -> int | None:
        own = self._of_cgroup()
        return machine_oom_kills() if own is None else own

    def _of_cgroup(self) -> int | None:
        return self._cgroup.oom_kills() if self._cgroup is not None else None


def machine_oom_kills(path: str = VMSTAT) -> int | None:
    """Processes the kernel has killed for memory since it started; None where it does not count them."""
    try:
        with open(path, encoding="ascii") as file:
            return next((int(line.split()[1]) for line in file if line.startswith("oom_kill ")), None)
    except OSError:
        return None
