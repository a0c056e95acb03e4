"""The life of one mod as a table: state and what happened, to the next state and what is done about it.

Everything else asks this table. ``docs/lifecycle.md`` is drawn from it (`diagram`), and a test fails when it is stale.
"""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple

from ...ipc.errors import ModvisorError


class State(StrEnum):
    """What a mod is doing, as stats show it."""

    STARTING = "starting"  # its first worker imports and initializes it
    READY = "ready"  # serves events
    ENDING = "ending"  # its worker is being killed, or has closed its pipe; its exit is awaited
    BACKOFF = "backoff"  # its worker ended; the next one starts after a delay
    RESTARTING = "restarting"  # the next worker imports and initializes it
    FAILED = "failed"  # its first start failed
    QUARANTINED = "quarantined"  # ended too often; stays down until told otherwise
    PROBING = "probing"  # one more worker is tried, after a long while in quarantine
    STOPPED = "stopped"  # ended and not to be restarted, or unloaded
    DRAINING = "draining"  # is being unloaded: takes no new events, finishes those in flight


COMING_BACK = (State.BACKOFF, State.RESTARTING)
"""A mod in one of these is started again without being asked for."""

DOWN = (State.FAILED, State.QUARANTINED, State.STOPPED)
"""A mod in one of these is not there until somebody asks for it (or a probe finds that it serves)."""


class Trigger(StrEnum):
    """What happened, not what to do about it."""

    START_REQUESTED = "start_requested"
    REPLACE_REQUESTED = (
        "replace_requested"  # by a fresh incarnation, which cannot be there before the old one has ended
    )
    ACTIVATED = "activated"  # a worker has imported, initialized and activated the mod
    START_FAILED = "start_failed"
    EXITED = "exited"  # the worker's process ended, says the kernel
    HEARTBEAT_MISSED = "heartbeat_missed"  # the mod's event loop did not answer within the hang timeout
    MEMORY_HIGH = "memory_high"  # above the soft limit
    MEMORY_EXCEEDED = "memory_exceeded"  # above the hard limit
    LIMIT_EXCEEDED = "limit_exceeded"  # above another hard limit: processes, threads, disk
    PROTOCOL_BROKEN = "protocol_broken"  # the worker sent what it must not
    PIPE_CLOSED = "pipe_closed"  # the worker's end of the pipe is gone: most likely it is ending
    BACKOFF_ELAPSED = "backoff_elapsed"
    GAVE_UP = "gave_up"  # the restart policy did
    NOT_RESTARTED = "not_restarted"  # the restart policy does not ask for it
    QUARANTINE_KEPT = "quarantine_kept"  # the journal says that it was quarantined before the supervisor's own restart
    PROBE_DUE = "probe_due"
    UNLOAD_REQUESTED = "unload_requested"
    UNLOADED = "unloaded"


class Action(StrEnum):
    """What the keeper does on a move; the order is that of the table."""

    SERVE = "serve"  # feed events to the new incarnation, those that waited first
    HOLD = "hold"  # let events wait
    REFUSE = "refuse"  # refuse events at once, with the reason
    DUMP = "dump"  # have the worker write the stack of every thread
    KILL = "kill"  # end the worker and everything it started
    KILL_SOON = "kill_soon"  # give it a moment to end by itself, so that its own exit is reported
    REPORT = "report"  # write the crash report
    DECIDE = "decide"  # ask the restart policy
    COUNT_RESTART = "count_restart"
    RECYCLE = "recycle"  # replace the worker by a fresh one, without losing an event
    KEEP_QUARANTINE = "keep_quarantine"  # so that it outlives the supervisor
    RELEASE = "release"  # forget the quarantine


class Move(NamedTuple):
    """Where a trigger leads, and what is done on the way."""

    state: State
    actions: tuple[Action, ...] = ()


class IllegalTransition(ModvisorError):
    """Something happened that cannot happen in this state: a mistake of the supervisor."""


_S, _T, _A = State, Trigger, Action
_CRASHED = Move(_S.BACKOFF, (_A.REPORT, _A.DECIDE))
_ENDED_BY_US = Move(_S.ENDING, (_A.HOLD, _A.KILL))
_UNLOADING = Move(_S.DRAINING, (_A.HOLD,))
_SERVING = Move(_S.READY, (_A.SERVE,))  # also when a reload brought a new incarnation while the old one was going down

TABLE: dict[tuple[State, Trigger], Move] = {
    (_S.STARTING, _T.ACTIVATED): _SERVING,
    (_S.STARTING, _T.START_FAILED): Move(_S.FAILED, (_A.REFUSE,)),
    (_S.STARTING, _T.QUARANTINE_KEPT): Move(_S.QUARANTINED, (_A.REFUSE,)),
    (_S.STARTING, _T.UNLOAD_REQUESTED): _UNLOADING,
    (_S.READY, _T.ACTIVATED): _SERVING,
    (_S.READY, _T.REPLACE_REQUESTED): Move(_S.STARTING, (_A.HOLD,)),
    (_S.READY, _T.HEARTBEAT_MISSED): Move(_S.ENDING, (_A.HOLD, _A.DUMP, _A.KILL)),
    (_S.READY, _T.MEMORY_HIGH): Move(_S.READY, (_A.RECYCLE,)),
    (_S.READY, _T.MEMORY_EXCEEDED): _ENDED_BY_US,
    (_S.READY, _T.LIMIT_EXCEEDED): _ENDED_BY_US,
    (_S.READY, _T.PROTOCOL_BROKEN): _ENDED_BY_US,
    (_S.READY, _T.PIPE_CLOSED): Move(_S.ENDING, (_A.HOLD, _A.KILL_SOON)),
    (_S.READY, _T.EXITED): _CRASHED,
    (_S.READY, _T.UNLOAD_REQUESTED): _UNLOADING,
    # It is being ended: what else goes wrong with it changes nothing.
    (_S.ENDING, _T.HEARTBEAT_MISSED): Move(_S.ENDING),
    (_S.ENDING, _T.MEMORY_HIGH): Move(_S.ENDING),
    (_S.ENDING, _T.MEMORY_EXCEEDED): Move(_S.ENDING, (_A.KILL,)),  # no time for last words
    (_S.ENDING, _T.LIMIT_EXCEEDED): Move(_S.ENDING, (_A.KILL,)),
    (_S.ENDING, _T.PROTOCOL_BROKEN): Move(_S.ENDING),
    (_S.ENDING, _T.PIPE_CLOSED): Move(_S.ENDING),
    (_S.ENDING, _T.EXITED): _CRASHED,
    (_S.ENDING, _T.ACTIVATED): _SERVING,
    (_S.ENDING, _T.UNLOAD_REQUESTED): _UNLOADING,
    (_S.BACKOFF, _T.BACKOFF_ELAPSED): Move(_S.RESTARTING),
    (_S.BACKOFF, _T.GAVE_UP): Move(_S.QUARANTINED, (_A.REFUSE, _A.KEEP_QUARANTINE)),
    (_S.BACKOFF, _T.NOT_RESTARTED): Move(_S.STOPPED, (_A.REFUSE,)),
    (_S.BACKOFF, _T.ACTIVATED): _SERVING,
    (_S.BACKOFF, _T.UNLOAD_REQUESTED): _UNLOADING,
    (_S.RESTARTING, _T.ACTIVATED): Move(_S.READY, (_A.COUNT_RESTART, _A.SERVE)),
    (_S.RESTARTING, _T.START_FAILED): _CRASHED,
    (_S.RESTARTING, _T.UNLOAD_REQUESTED): _UNLOADING,
    (_S.FAILED, _T.START_REQUESTED): Move(_S.STARTING),
    (_S.FAILED, _T.UNLOAD_REQUESTED): _UNLOADING,
    (_S.QUARANTINED, _T.PROBE_DUE): Move(_S.PROBING),
    (_S.QUARANTINED, _T.START_REQUESTED): Move(_S.STARTING, (_A.RELEASE,)),
    (_S.QUARANTINED, _T.ACTIVATED): Move(_S.READY, (_A.RELEASE, _A.SERVE)),
    (_S.QUARANTINED, _T.UNLOAD_REQUESTED): _UNLOADING,
    (_S.PROBING, _T.ACTIVATED): Move(_S.READY, (_A.COUNT_RESTART, _A.RELEASE, _A.SERVE)),
    (_S.PROBING, _T.START_FAILED): Move(_S.QUARANTINED, (_A.REPORT, _A.REFUSE)),
    (_S.PROBING, _T.START_REQUESTED): Move(_S.STARTING, (_A.RELEASE,)),
    (_S.PROBING, _T.UNLOAD_REQUESTED): _UNLOADING,
    (_S.STOPPED, _T.START_REQUESTED): Move(_S.STARTING),
    (_S.STOPPED, _T.ACTIVATED): _SERVING,
    (_S.STOPPED, _T.UNLOAD_REQUESTED): _UNLOADING,
    (_S.DRAINING, _T.UNLOADED): Move(_S.STOPPED),
}


def next_move(state: State, trigger: Trigger) -> Move:
    """What ``trigger`` leads to in ``state``; raises `IllegalTransition` for a move that is not in the table."""
    try:
        return TABLE[state, trigger]
    except KeyError:
        raise IllegalTransition(f"{trigger} cannot happen to a mod that is {state}") from None


def diagram() -> str:
    """The table as a Mermaid state diagram."""
    lines = ["stateDiagram-v2", f"    [*] --> {State.STARTING}"]
    for (state, trigger), move in TABLE.items():
        done = f": {trigger}" + (f" / {', '.join(move.actions)}" if move.actions else "")
        lines.append(f"    {state} --> {move.state}{done}")
    lines.append(f"    {State.STOPPED} --> [*]")
    return "\n".join(lines)
