"""Resource limits the kernel enforces on this very process, set before any code of the mod runs."""

from __future__ import annotations

import resource
from typing import Any

_LIMITS = {
    # RLIMIT_DATA, not RLIMIT_AS: address space that is only reserved (thread stacks, arenas) is not memory used.
    "memory": resource.RLIMIT_DATA,
    "cpu_seconds": resource.RLIMIT_CPU,
    "open_files": resource.RLIMIT_NOFILE,
}


def apply(limits: dict[str, Any]) -> None:
    """Apply ``{"memory": bytes, "cpu_seconds": s, "open_files": n}``; keys that are absent or None are left alone.

    A limit above the hard limit of the process becomes that hard limit: a worker may lower its limits, not raise them.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a crashing mod must not fill the disk
    for key, which in _LIMITS.items():
        value = limits.get(key)
        if value is None:
            continue
        _, hard = resource.getrlimit(which)
        soft = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(which, (soft, hard if key == "cpu_seconds" else soft))
