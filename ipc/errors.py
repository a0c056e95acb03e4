"""Every failure of the house: a type for our code, a code for programs, a message for people.

Codes travel in ``EventResponse.data["error"]``. Scripts compare codes; people read messages.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any


def shown(value: Any, most: int = 80) -> str:
    """Return ``value`` as a message shows it: in at most ``most`` characters, and quickly."""
    if isinstance(value, (dict, list, tuple)):  # repr() could take seconds, or fail at deep nesting
        return f"{type(value).__name__} of {len(value)}"
    text = repr(value[:most] if isinstance(value, (str, bytes)) else value)
    return text if len(text) <= most else text[: most - 3] + "..."


class Code(StrEnum):
    """The stable names of all ways in which a request to the network can fail."""

    # what was asked
    BAD_INPUT = "bad_input"
    INVALID_EVENT = "invalid_event"
    UNKNOWN_EVENT = "unknown_event"
    BAD_CONFIG = "bad_config"
    UNSERIALIZABLE = "unserializable"
    TOO_LARGE = "too_large"
    LOOP = "loop"
    # who asked
    UNAUTHENTICATED = "unauthenticated"
    FORBIDDEN = "forbidden"
    ID_TAKEN = "id_taken"
    TOO_MANY = "too_many"
    # who was addressed
    NO_SUCH_MOD = "no_such_mod"
    NO_SUCH_AGENT = "no_such_agent"
    NO_SUCH_CHANNEL = "no_such_channel"
    NO_SUCH_GROUP = "no_such_group"
    NOT_IN_AUDIENCE = "not_in_audience"
    NOT_FOUND = "not_found"
    CONFLICT = "conflict"
    INBOX_FULL = "inbox_full"
    # how the mod fared
    HANDLER_ERROR = "handler_error"
    TIMEOUT = "timeout"
    OVERLOADED = "overloaded"
    MOD_CRASHED = "mod_crashed"
    MOD_UNLOADED = "mod_unloaded"
    MOD_AWAY = "mod_away"
    LEASE_LOST = "lease_lost"
    LIMIT_HIT = "limit_hit"
    DEAD_LETTERED = "dead_lettered"
    PENDING = "pending"
    STORAGE_FULL = "storage_full"
    NOT_RUNNING = "not_running"
    # many machines
    CLUSTER_DOWN = "cluster_down"
    CLUSTER_REFUSED = "cluster_refused"
    # loading
    IMPORT_FAILED = "import_failed"
    NO_MOD_CLASS = "no_mod_class"
    AMBIGUOUS_MOD_CLASS = "ambiguous_mod_class"
    INVALID_MOD = "invalid_mod"
    INITIALIZE_FAILED = "initialize_failed"
    START_TIMEOUT = "start_timeout"
    NOT_READY = "not_ready"
    START_FAILED = "start_failed"
    ALREADY_LOADED = "already_loaded"
    STATE_REFUSED = "state_refused"
    WRONG_VERSION = "wrong_version"
    BAD_PYTHON = "bad_python"
    BAD_COMMAND = "bad_command"
    NOT_CONFINED = "not_confined"
    UNMET_REQUIREMENT = "unmet_requirement"
    DEPENDENCY_FAILED = "dependency_failed"
    NEEDED = "needed"
    # the pipe
    PROTOCOL_ERROR = "protocol_error"
    PROTOCOL_MISMATCH = "protocol_mismatch"
    BUSY = "busy"
    INTERNAL = "internal_error"


class ModvisorError(Exception):
    """The base of every error of the house.

    Attributes:
        code: what travels.
        details: what a program may read.
    """

    code: str = Code.INTERNAL

    def __init__(self, message: str, /, *, code: str | None = None, **details: Any) -> None:
        super().__init__(message)
        if code is not None:
            self.code = code
        self.details = details


class InvalidEvent(ModvisorError, ValueError):
    """An event, response, name or id that does not follow the grammar."""

    code = Code.INVALID_EVENT


class Unserializable(ModvisorError, ValueError):
    """A value that msgpack cannot carry. The message names its place in the data and its type."""

    code = Code.UNSERIALIZABLE


class Refused(ModvisorError):
    """Raised by a handler to answer with a failure that is the sender's fault, not the mod's.

    It becomes ``EventResponse(success=False, data={"error": code, **details})``, and does not count
    as a handler error.
    """

    code = Code.BAD_INPUT


class ProtocolError(ModvisorError):
    """A break of the pipe's rules."""

    code = Code.PROTOCOL_ERROR


class LocalProtocolError(ProtocolError):
    """A misuse of the connection: a mistake on our side."""


class RemoteProtocolError(ProtocolError):
    """A message that the peer must not send. The connection cannot be trusted any more."""


class FrameTooLarge(LocalProtocolError):
    """A message over the frame cap. None of it was written, so the pipe stays usable."""

    code = Code.TOO_LARGE


class PipeBusy(LocalProtocolError):
    """Too many requests wait for the peer. Nothing was written."""

    code = Code.BUSY


class PipeClosed(ModvisorError):
    """The pipe was closed on our side."""

    code = Code.NOT_RUNNING


class PipeBroken(ModvisorError):
    """The peer went away or broke the protocol. Requests in flight have no response."""

    code = Code.MOD_CRASHED


class RequestFailed(ModvisorError):
    """The peer answered a request with an error; this carries its code, message and details."""
