"""The life of one mod as a table: state and trigger, to the next state and the actions on the way.

Everything else asks this table. The decision comes before the move: who reports a trigger has
decided already (an end is `exited`, `exited_too_often` or `exited_for_good`), and no action makes
another move. ``docs/lifecycle.md`` is drawn from the table (`diagram`); a test fails when it is stale.
"""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple

from ...ipc.errors import ModvisorError


class State(StrEnum):
    """What a mod is doing, as stats show it."""

    STARTING = "starting"  # its first worker imports and initializes it
    READY = "ready"  # it serves events
    ENDING = "ending"  # its worker is being killed or closed its pipe; its exit is awaited
    BACKOFF = "backoff"  # its worker ended; the next one starts after a delay
    RESTARTING = "restarting"  # the next worker imports and initializes it
    FAILED = "failed"  # its first start failed
    QUARANTINED = "quarantined"  # it ended too often; it stays down until told otherwise
    PROBING = "probing"  # one more worker is tried after a long time in quarantine
    STOPPED = "stopped"  # it ended and is not restarted, or it was unloaded
    DRAINING = "draining"  # it is being unloaded: it finishes events in flight and takes no new ones


COMING_BACK = (State.BACKOFF, State.RESTARTING)
"""In these states a mod is about to be restarted without a command."""

DOWN = (State.FAILED, State.QUARANTINED, State.STOPPED)
"""In these states a mod stays down until a command (or a probe) starts it."""


class Trigger(StrEnum):
    """What happened, not what to do about it."""

    START_REQUESTED = "start_requested"
    REPLACE_REQUESTED = "replace_requested"  # the old worker must end before the new one starts
    ACTIVATED = "activated"  # a worker has imported, initialized and activated the mod
    START_FAILED = "start_failed"
    EXITED = "exited"  # the worker's process ended, or the next one failed to start: restart the mod
    EXITED_TOO_OFTEN = "exited_too_often"  # the same once too often: the restart policy gave up
    EXITED_FOR_GOOD = "exited_for_good"  # the same, and the restart policy does not bring the mod back
    HEARTBEAT_MISSED = "heartbeat_missed"  # the mod's event loop did not answer within the hang timeout
    MEMORY_HIGH = "memory_high"  # above the soft limit
    MEMORY_EXCEEDED = "memory_exceeded"  # above the hard limit
    LIMIT_EXCEEDED = "limit_exceeded"  # above another hard limit: processes, threads, disk
    PROTOCOL_BROKEN = "protocol_broken"  # the worker sent something that the protocol does not allow
    PIPE_CLOSED = "pipe_closed"  # the worker's end of the pipe is gone: the worker is probably ending
    BACKOFF_ELAPSED = "backoff_elapsed"
    QUARANTINE_KEPT = "quarantine_kept"  # it was in quarantine before the supervisor restarted
    PROBE_DUE = "probe_due"
    UNLOAD_REQUESTED = "unload_requested"
    UNLOADED = "unloaded"


class Action(StrEnum):
    """What the keeper does on a move, in the order that the table gives."""

    SERVE = "serve"  # feed events to the new incarnation, waiting events first
    HOLD = "hold"  # let events wait
    REFUSE = "refuse"  # refuse events at once, with the reason
    DUMP = "dump"  # have the worker write the stack of every thread
    KILL = "kill"  # kill the worker and everything it started
    KILL_SOON = "kill_soon"  # give the worker a moment to end by itself: its own exit says more
    COUNT_RESTART = "count_restart"
    RECYCLE = "recycle"  # replace the worker by a fresh one without losing an event
    KEEP_QUARANTINE = "keep_quarantine"  # write it to the journal: it outlives the supervisor
    RELEASE = "release"  # forget the quarantine


class Move(NamedTuple):
    """The state that a trigger leads to, and the actions on the way."""

    state: State
    actions: tuple[Action, ...] = ()


class IllegalTransition(ModvisorError):
    """A trigger came in a state that does not know it: a bug of the supervisor."""


_S, _T, _A = State, Trigger, Action
_ENDED_BY_US = Move(_S.ENDING, (_A.HOLD, _A.KILL))
_UNLOADING = Move(_S.DRAINING, (_A.HOLD,))
_SERVING = Move(_S.READY, (_A.SERVE,))  # a reload may bring a new incarnation while the old one ends
_BACKING_OFF = Move(_S.BACKOFF)
_GIVEN_UP = Move(_S.QUARANTINED, (_A.REFUSE, _A.KEEP_QUARANTINE))
_STOPPED = Move(_S.STOPPED, (_A.REFUSE,))

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
    (_S.READY, _T.EXITED): _BACKING_OFF,
    (_S.READY, _T.EXITED_TOO_OFTEN): _GIVEN_UP,
    (_S.READY, _T.EXITED_FOR_GOOD): _STOPPED,
    (_S.READY, _T.UNLOAD_REQUESTED): _UNLOADING,
    # The worker is being ended: what else goes wrong with it changes nothing.
    (_S.ENDING, _T.HEARTBEAT_MISSED): Move(_S.ENDING),
    (_S.ENDING, _T.MEMORY_HIGH): Move(_S.ENDING),
    (_S.ENDING, _T.MEMORY_EXCEEDED): Move(_S.ENDING, (_A.KILL,)),  # no time for last words
    (_S.ENDING, _T.LIMIT_EXCEEDED): Move(_S.ENDING, (_A.KILL,)),
    (_S.ENDING, _T.PROTOCOL_BROKEN): Move(_S.ENDING),
    (_S.ENDING, _T.PIPE_CLOSED): Move(_S.ENDING),
    (_S.ENDING, _T.EXITED): _BACKING_OFF,
    (_S.ENDING, _T.EXITED_TOO_OFTEN): _GIVEN_UP,
    (_S.ENDING, _T.EXITED_FOR_GOOD): _STOPPED,
    (_S.ENDING, _T.ACTIVATED): _SERVING,
    (_S.ENDING, _T.UNLOAD_REQUESTED): _UNLOADING,
    (_S.BACKOFF, _T.BACKOFF_ELAPSED): Move(_S.RESTARTING),
    (_S.BACKOFF, _T.ACTIVATED): _SERVING,
    (_S.BACKOFF, _T.UNLOAD_REQUESTED): _UNLOADING,
    (_S.RESTARTING, _T.ACTIVATED): Move(_S.READY, (_A.COUNT_RESTART, _A.SERVE)),
    (_S.RESTARTING, _T.EXITED): _BACKING_OFF,
    (_S.RESTARTING, _T.EXITED_TOO_OFTEN): _GIVEN_UP,
    (_S.RESTARTING, _T.EXITED_FOR_GOOD): _STOPPED,
    (_S.RESTARTING, _T.UNLOAD_REQUESTED): _UNLOADING,
    (_S.FAILED, _T.START_REQUESTED): Move(_S.STARTING),
    (_S.FAILED, _T.UNLOAD_REQUESTED): _UNLOADING,
    (_S.QUARANTINED, _T.PROBE_DUE): Move(_S.PROBING),
    (_S.QUARANTINED, _T.START_REQUESTED): Move(_S.STARTING, (_A.RELEASE,)),
    (_S.QUARANTINED, _T.ACTIVATED): Move(_S.READY, (_A.RELEASE, _A.SERVE)),
    (_S.QUARANTINED, _T.UNLOAD_REQUESTED): _UNLOADING,
    (_S.PROBING, _T.ACTIVATED): Move(_S.READY, (_A.COUNT_RESTART, _A.RELEASE, _A.SERVE)),
    (_S.PROBING, _T.START_FAILED): Move(_S.QUARANTINED, (_A.REFUSE,)),
    (_S.PROBING, _T.START_REQUESTED): Move(_S.STARTING, (_A.RELEASE,)),
    (_S.PROBING, _T.UNLOAD_REQUESTED): _UNLOADING,
    (_S.STOPPED, _T.START_REQUESTED): Move(_S.STARTING),
    (_S.STOPPED, _T.ACTIVATED): _SERVING,
    (_S.STOPPED, _T.UNLOAD_REQUESTED): _UNLOADING,
    (_S.DRAINING, _T.UNLOADED): Move(_S.STOPPED),
}


def next_move(state: State, trigger: Trigger) -> Move:
    """Return the move that the table has; raises `IllegalTransition` if it has none."""
    try:
        return TABLE[state, trigger]
    except KeyError:
        raise IllegalTransition(f"{trigger} cannot happen to a mod that is {state}") from None


def diagram() -> str:
    """Return the table as a Mermaid state diagram."""
    lines = ["stateDiagram-v2", f"    [*] --> {State.STARTING}"]
    for (state, trigger), move in TABLE.items():
        done = f": {trigger}" + (f" / {', '.join(move.actions)}" if move.actions else "")
        lines.append(f"    {state} --> {move.state}{done}")
    lines.append(f"    {State.STOPPED} --> [*]")
    return "\n".join(lines)
