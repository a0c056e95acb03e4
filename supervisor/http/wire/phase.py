"""What a connection waits for. Pure."""

from __future__ import annotations

import enum


class Phase(enum.Enum):
    """What a connection waits for."""

    HEAD = "the head of a request"
    BODY = "the body of a request"
    ANSWER = "our answer"
    IDLE = "the next request"
