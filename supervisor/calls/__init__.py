"""One event to one mod: who waits for a slot, what is in flight, what is asked again.

May import: `journal`, `config`, `ipc`.
Never: starts or ends a process, and never chooses which mods an event goes to.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..faces import lazily

if TYPE_CHECKING:
    from .admission import Unanswered, Unbegun
    from .caller import Answer, Caller, Ledger
    from .copies import CopyQueue
    from .counters import ModCounters, NetworkCounters, added_up
    from .crew import Crew
    from .durable import DurableEvents, Late
    from .durable_log import CheckpointStore, DurableLog, LetterStore
    from .histogram import LatencyHistogram
    from .in_flight import InFlight, Origin
    from .journey import MAX_HOPS, Journey, events_of
    from .traced import TracedCaller
    from .traces import Traces, forget_last_run, left_by_last_run
else:  # hidden from type checkers, which would take any name for one of the room
    __getattr__ = lazily(
        __name__,
        admission="Unanswered Unbegun",
        caller="Answer Caller Ledger",
        copies="CopyQueue",
        counters="ModCounters NetworkCounters added_up",
        crew="Crew",
        durable="DurableEvents Late",
        durable_log="CheckpointStore DurableLog LetterStore",
        histogram="LatencyHistogram",
        in_flight="InFlight Origin",
        journey="Journey MAX_HOPS events_of",
        traced="TracedCaller",
        traces="Traces forget_last_run left_by_last_run",
    )
