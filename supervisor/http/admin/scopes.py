"""What of a request needs a wider scope than its route."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.requests import Request

from ....ipc.errors import Code, ModvisorError
from ...agents import Scope
from ..access.gate import operator_of

if TYPE_CHECKING:
    from ...operations import Operations


def check_scope(network: Operations, request: Request, needed: Scope, what: str) -> None:
    """Refuse a request whose sender lacks a scope. Raises `ModvisorError` (forbidden)."""
    operator = operator_of(request)
    if operator is None or operator.scope >= needed:
        return
    text = f"{operator.who} has a token with the scope '{operator.scope.word}', and {what} needs '{needed.word}'"
    network.note_refusal(Code.FORBIDDEN, operator.address or operator.who, f"refused {request.url.path}: {text}")
    raise ModvisorError(text, code=Code.FORBIDDEN)
