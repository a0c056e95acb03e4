"""The life of one mod as a table: state and what happened, to the next state. Everything else asks this table."""

from __future__ import annotations

from enum import StrEnum

from ..ipc.errors import ModvisorError


class State(StrEnum):
    """What a mod is doing, as stats show it."""

    STARTING = "starting"  # its first worker imports and initializes it
    READY = "ready"  # serves events
    DRAINING = "draining"  # takes no new events, finishes those in flight
    BACKOFF = "backoff"  # its worker ended; the next one starts after a delay
    RESTARTING = "restarting"  # the next worker imports and initializes it
    FAILED = "failed"  # its first start failed
    QUARANTINED = "quarantined"  # ended too often; stays down until told otherwise
    STOPPED = "stopped"  # ended and not to be restarted, or unloaded


class Trigger(StrEnum):
    """What happened, not what to do about it."""

    START_REQUESTED = "start_requested"
    ACTIVATED = "activated"
    START_FAILED = "start_failed"
    EXITED = "exited"
    BACKOFF_ELAPSED = "backoff_elapsed"
    GAVE_UP = "gave_up"
    NOT_RESTARTED = "not_restarted"
    UNLOAD_REQUESTED = "unload_requested"
    UNLOADED = "unloaded"


class IllegalTransition(ModvisorError):
    """Something happened that cannot happen in this state: a mistake of the supervisor."""


_S, _T = State, Trigger

TABLE: dict[tuple[State, Trigger], State] = {
    (_S.STARTING, _T.ACTIVATED): _S.READY,
    (_S.STARTING, _T.START_FAILED): _S.FAILED,
    (_S.STARTING, _T.UNLOAD_REQUESTED): _S.DRAINING,
    (_S.READY, _T.EXITED): _S.BACKOFF,
    (_S.READY, _T.UNLOAD_REQUESTED): _S.DRAINING,
    (_S.BACKOFF, _T.BACKOFF_ELAPSED): _S.RESTARTING,
    (_S.BACKOFF, _T.GAVE_UP): _S.QUARANTINED,
    (_S.BACKOFF, _T.NOT_RESTARTED): _S.STOPPED,
    (_S.BACKOFF, _T.UNLOAD_REQUESTED): _S.DRAINING,
    (_S.BACKOFF, _T.START_REQUESTED): _S.STARTING,
    # A reload brought a new incarnation while the old one was going down.
    (_S.BACKOFF, _T.ACTIVATED): _S.READY,
    (_S.QUARANTINED, _T.ACTIVATED): _S.READY,
    (_S.STOPPED, _T.ACTIVATED): _S.READY,
    (_S.RESTARTING, _T.START_REQUESTED): _S.STARTING,
    (_S.RESTARTING, _T.ACTIVATED): _S.READY,
    (_S.RESTARTING, _T.START_FAILED): _S.BACKOFF,
    (_S.RESTARTING, _T.UNLOAD_REQUESTED): _S.DRAINING,
    (_S.FAILED, _T.START_REQUESTED): _S.STARTING,
    (_S.FAILED, _T.UNLOAD_REQUESTED): _S.DRAINING,
    (_S.QUARANTINED, _T.START_REQUESTED): _S.STARTING,
    (_S.QUARANTINED, _T.UNLOAD_REQUESTED): _S.DRAINING,
    (_S.STOPPED, _T.START_REQUESTED): _S.STARTING,
    (_S.STOPPED, _T.UNLOAD_REQUESTED): _S.DRAINING,
    (_S.DRAINING, _T.EXITED): _S.DRAINING,
    (_S.DRAINING, _T.UNLOADED): _S.STOPPED,
}


def next_state(state: State, trigger: Trigger) -> State:
    """The state after ``trigger`` in ``state``; raises `IllegalTransition` for a move that is not in the table."""
    try:
        return TABLE[state, trigger]
    except KeyError:
        raise IllegalTransition(f"{trigger} cannot happen to a mod that is {state}") from None
