"""Failures of both APIs: the HTTP status of every code, and the one shape of the body. Pure."""

from __future__ import annotations

from typing import Any

from ....ipc.errors import Code

# Every code that is not here is 422: the request was understood and could not be carried out. These
# are the codes of failed starts, the codes that mods make up, and the codes of later versions.
STATUS: dict[str, int] = {
    Code.BAD_INPUT: 400,
    Code.INVALID_EVENT: 400,
    "bad_config": 400,
    Code.UNAUTHENTICATED: 401,
    Code.FORBIDDEN: 403,
    Code.NO_SUCH_MOD: 404,
    Code.NO_SUCH_AGENT: 404,
    Code.NO_SUCH_CHANNEL: 404,
    Code.NO_SUCH_GROUP: 404,
    Code.NOT_FOUND: 404,
    Code.UNKNOWN_EVENT: 404,
    Code.ALREADY_LOADED: 409,
    Code.CONFLICT: 409,
    Code.ID_TAKEN: 409,
    Code.NEEDED: 409,
    Code.TOO_LARGE: 413,
    Code.TOO_MANY: 429,
    Code.INTERNAL: 500,
    Code.UNSERIALIZABLE: 500,
    Code.MOD_CRASHED: 502,
    Code.BUSY: 503,
    Code.INBOX_FULL: 503,
    Code.MOD_AWAY: 503,
    Code.LEASE_LOST: 503,
    Code.MOD_UNLOADED: 503,
    Code.NOT_RUNNING: 503,
    Code.CLUSTER_DOWN: 503,
    Code.CLUSTER_REFUSED: 503,
    Code.OVERLOADED: 503,
    Code.TIMEOUT: 504,
}
OTHER_STATUS = 422
# `POST /admin/v1/reconfigure`: the mistakes are in the network file, not in the request (400).
BROKEN_FILE_STATUS = 422

INTERNAL_ERROR = "internal error; the log of the network says more"
"""The text for a mistake of ours. The traceback goes to the log: it may hold secrets."""


def status_of(code: str | None) -> int:
    """Return the HTTP status of a failure with this code."""
    return STATUS.get(code or Code.INTERNAL, OTHER_STATUS)


def failure_body(code: str | None, message: str, data: Any = None, **details: Any) -> dict[str, Any]:
    """Return the body of a failure.

    The message stands there under two names, because OpenAgents' client looks for either.
    """
    return {
        "success": False,
        "error": None if code is None else str(code),
        "message": message,
        "error_message": message,
        "data": {"error": str(code), **details} if data is None else data,
    }
