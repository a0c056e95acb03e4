"""Why a WebSocket is closed: the code of each reason. Pure."""

from __future__ import annotations

from ....ipc.errors import Code

LEFT = 1000
STOPPING = 1001
NOT_TEXT = 1007
TOO_LARGE = 1009
MOVED = 1012
MALFORMED = 4400
UNAUTHENTICATED = 4401
FORBIDDEN = 4403
TOO_SLOW = 4408
TAKEN_OVER = 4409
TOO_MANY = 4429

_OF_CODES: dict[str, int] = {
    Code.UNAUTHENTICATED: UNAUTHENTICATED,
    Code.TOO_MANY: TOO_MANY,
    Code.OVERLOADED: TOO_MANY,
    Code.BUSY: TOO_MANY,
    Code.BAD_INPUT: MALFORMED,
    Code.INVALID_EVENT: MALFORMED,
    Code.TOO_LARGE: TOO_LARGE,
    Code.NOT_RUNNING: STOPPING,
    Code.TIMEOUT: TOO_SLOW,
}


def close_code(error: str | None) -> int:
    """Return the code with which a connection is closed whose hello failed with this error."""
    return _OF_CODES.get(error or "", FORBIDDEN)
