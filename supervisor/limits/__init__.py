"""Hold a process tree to what it may use, and say by which means.

May import: `process`, `config`, `ipc`.
Never: knows events or states of a mod; it tells a listener that a limit was exceeded, and kills
nothing by itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..faces import lazily

if TYPE_CHECKING:
    from .cgroups import Cgroup
    from .disk_usage import bytes_below
    from .doctor import FAIL, OK, WARN, Check, HostReport, examine_host, storage_fault
    from .enforcement import Enforcement, LimitsInForce, limits_stats
    from .over_limit import Exceeded
    from .samples import ProcessSample, make_sampler
    from .turns import favour_events
else:  # hidden from type checkers, which would take any name for one of the room
    __getattr__ = lazily(
        __name__,
        cgroups="Cgroup",
        disk_usage="bytes_below",
        doctor="Check FAIL HostReport OK WARN examine_host storage_fault",
        enforcement="Enforcement LimitsInForce limits_stats",
        over_limit="Exceeded",
        samples="ProcessSample make_sampler",
        turns="favour_events",
    )
