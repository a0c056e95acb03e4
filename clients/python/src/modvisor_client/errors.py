"""Every failure that a client meets: one class per code, so that programs catch what they mean.

The network names a failure by a code (`data["error"]`). `of_code` makes the error for it. A code
without a class, of a newer network, becomes a `NetworkError` with that code.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class ModvisorClientError(Exception):
    """The base of every error of this package.

    Attributes:
        code: what programs compare.
        data: what the network says besides; for example `retry_after` of `too_many`.
    """

    code: str = "client_error"

    def __init__(self, message: str, /, *, code: str | None = None, data: Mapping[str, Any] | None = None) -> None:
        super().__init__(message)
        if code is not None:
            self.code = code
        self.data: dict[str, Any] = dict(data or {})

    @property
    def message(self) -> str:
        """What went wrong, for people."""
        return str(self)


# -- of the client itself


class Unreachable(ModvisorClientError, ConnectionError):
    """No network answered at the address, or the connection was lost and did not come back in time."""

    code = "unreachable"


class Untrusted(ModvisorClientError):
    """The network's certificate is not valid for its address, or the network refuses this client's."""

    code = "untrusted"


class Closed(ModvisorClientError):
    """The client was closed, or was never opened: use it inside `async with`."""

    code = "closed"


class TakenOver(ModvisorClientError):
    """A newer connection of the same agent has taken over. This client does not reconnect."""

    code = "taken_over"


class BadUse(ModvisorClientError, ValueError):
    """A value that this client cannot use; nothing was sent."""

    code = "bad_use"


class RemoteProtocolError(ModvisorClientError):
    """The other side sent what the protocol does not know: probably no modvisor network, or a newer one."""

    code = "remote_protocol_error"


# -- what the network answers


class NetworkError(ModvisorClientError):
    """The network answered with a failure."""

    code = "internal_error"


class BadInput(NetworkError):
    """A value in the request is wrong; the message names it."""

    code = "bad_input"


class InvalidEvent(NetworkError):
    """The event does not follow the grammar; the message names the field."""

    code = "invalid_event"


class UnknownEvent(NetworkError):
    """The network has no such command."""

    code = "unknown_event"


class BadConfig(NetworkError):
    """A configuration with mistakes; `data["problems"]` lists them."""

    code = "bad_config"


class Unserializable(NetworkError):
    """A value that cannot travel; the message names its place."""

    code = "unserializable"


class TooLarge(NetworkError):
    """The event is larger than the network takes."""

    code = "too_large"


class Loop(NetworkError):
    """A chain of events that caused one another was cut."""

    code = "loop"


class Unauthenticated(NetworkError):
    """The secret or password is wrong, or the agent is not registered."""

    code = "unauthenticated"


class Forbidden(NetworkError):
    """The agent may not do this."""

    code = "forbidden"


class IdTaken(NetworkError):
    """A live agent has the id."""

    code = "id_taken"


class TooMany(NetworkError):
    """Too many requests, agents or wrong passwords; `data["retry_after"]` says how many seconds to wait."""

    code = "too_many"


class NoSuchMod(NetworkError):
    """No such mod is loaded."""

    code = "no_such_mod"


class NoSuchAgent(NetworkError):
    """No such agent is registered."""

    code = "no_such_agent"


class NoSuchChannel(NetworkError):
    """There is no such channel."""

    code = "no_such_channel"


class NoSuchGroup(NetworkError):
    """There is no such group."""

    code = "no_such_group"


class NotInAudience(NetworkError):
    """The mod does not serve this agent."""

    code = "not_in_audience"


class NotFound(NetworkError):
    """What was asked for does not exist."""

    code = "not_found"


class Conflict(NetworkError):
    """The request contradicts the present state, such as a name that is in use."""

    code = "conflict"


class InboxFull(NetworkError):
    """The receiver's inbox is full."""

    code = "inbox_full"


class HandlerError(NetworkError):
    """The handler of a mod or of an agent raised."""

    code = "handler_error"


class Timeout(NetworkError, TimeoutError):
    """The answer did not come before the deadline."""

    code = "timeout"


class Overloaded(NetworkError):
    """The mod has too many events waiting."""

    code = "overloaded"


class ModCrashed(NetworkError):
    """The mod's process ended while it handled the event."""

    code = "mod_crashed"


class ModUnloaded(NetworkError):
    """The mod was unloaded while the event waited."""

    code = "mod_unloaded"


class ModAway(NetworkError):
    """The mod does not run at the moment."""

    code = "mod_away"


class LimitHit(NetworkError):
    """The mod ran into one of its limits."""

    code = "limit_hit"


class DeadLettered(NetworkError):
    """The event ended the mod's process too often and was given up."""

    code = "dead_lettered"


class Pending(NetworkError):
    """The event was accepted, and its answer is still due."""

    code = "pending"


class StorageFull(NetworkError):
    """The network's disk is full."""

    code = "storage_full"


class ClusterDown(NetworkError):
    """The servers that join the network's nodes do not answer. It connects again by itself."""

    code = "cluster_down"


class ClusterRefused(NetworkError):
    """The servers that join the network's nodes refuse this node."""

    code = "cluster_refused"


class LeaseLost(NetworkError):
    """The node may not run the mod any more. Another node takes it over."""

    code = "lease_lost"


class NotRunning(NetworkError):
    """The network starts or stops."""

    code = "not_running"


class Busy(NetworkError):
    """Too much is under way; try again."""

    code = "busy"


class LoadError(NetworkError):
    """A mod could not be loaded. Each reason has a class of its own."""

    code = "start_failed"


class ImportFailed(LoadError):
    """The mod's code cannot be imported."""

    code = "import_failed"


class NoModClass(LoadError):
    """The module holds no mod."""

    code = "no_mod_class"


class AmbiguousModClass(LoadError):
    """The module holds several mods."""

    code = "ambiguous_mod_class"


class InvalidMod(LoadError):
    """The mod's class breaks a rule."""

    code = "invalid_mod"


class InitializeFailed(LoadError):
    """The mod's `initialize` failed."""

    code = "initialize_failed"


class StartTimeout(LoadError):
    """The mod did not start in time."""

    code = "start_timeout"


class NotReady(LoadError):
    """The mod is not ready yet."""

    code = "not_ready"


class StartFailed(LoadError):
    """The mod's process could not be started."""

    code = "start_failed"


class AlreadyLoaded(LoadError):
    """The mod is loaded already."""

    code = "already_loaded"


class StateRefused(LoadError):
    """The new version of the mod refused the state of the old one."""

    code = "state_refused"


class WrongVersion(LoadError):
    """The mod has another version than the one that was asked for."""

    code = "wrong_version"


class BadPython(LoadError):
    """The mod's Python cannot be used."""

    code = "bad_python"


class BadCommand(LoadError):
    """The mod's command cannot be started."""

    code = "bad_command"


class UnmetRequirement(LoadError):
    """The mod requires another one that is not there."""

    code = "unmet_requirement"


class DependencyFailed(LoadError):
    """A mod that this one requires could not be loaded."""

    code = "dependency_failed"


class NotConfined(LoadError):
    """The mod cannot be confined as its entry asks."""

    code = "not_confined"


class Needed(LoadError):
    """Other mods need the mod."""

    code = "needed"


class ProtocolError(NetworkError):
    """The network does not understand the client."""

    code = "protocol_error"


class ProtocolMismatch(NetworkError):
    """The network and its mod, or its client, speak different versions of the protocol."""

    code = "protocol_mismatch"


class InternalError(NetworkError):
    """The network failed; its log has the traceback."""

    code = "internal_error"


def _below(base: type[ModvisorClientError]) -> list[type[ModvisorClientError]]:
    return [found for child in base.__subclasses__() for found in (child, *_below(child))]


BY_CODE: dict[str, type[ModvisorClientError]] = {
    kind.code: kind for kind in _below(ModvisorClientError) if kind not in (NetworkError, LoadError)
}
"""The class of each code."""


def of_code(code: str, message: str, data: Mapping[str, Any] | None = None) -> ModvisorClientError:
    """Return the error for a code of the network."""
    return BY_CODE.get(code, NetworkError)(message, code=code, data=data)
