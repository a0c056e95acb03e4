"""Hold a process tree to what it may use, and say by which means.

May import: `process`, `config`, `ipc`.
Never: knows events or states of a mod; it tells a listener that a limit was exceeded, and kills nothing by itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..faces import lazily

if TYPE_CHECKING:
    from .doctor import FAIL, Report, examine
    from .enforcement import Armed, Enforcement, limits_stats
    from .samples import ProcessSample, make_sampler
    from .watchdog import Exceeded
else:  # hidden from type checkers, which would take any name for one of the room
    __getattr__ = lazily(
        __name__,
        doctor="FAIL Report examine",
        enforcement="Armed Enforcement limits_stats",
        samples="ProcessSample make_sampler",
        watchdog="Exceeded",
    )
