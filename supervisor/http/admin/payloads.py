"""Who may read what events carry (`read_payloads`), what others see instead, and the record of each reading."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from starlette.requests import Request

from ..access.gate import operator_of
from ..access.lately import Lately

if TYPE_CHECKING:
    from ...operations import Operations

HIDDEN = ("payload", "metadata", "text_representation")
"""The keys of an event that hold what it carries. Of an answer it is `data`, and `message`, which a mod may write."""

EVENTS, LETTERS = "events", "dead letters"


class Readers:
    """Decides who reads payloads, and records it: once for each operator and kind of reading in an hour."""

    def __init__(self, network: Operations) -> None:
        self._network = network
        self._noted = Lately()

    def reads(self, request: Request, kind: str, on: str | None = None) -> bool:
        """Return whether whoever sends a request reads payloads now, and record it.

        Args:
            kind: what they are read of.
            on: the one that is read, which is recorded each time.
        """
        operator = operator_of(request)
        if operator is None:  # the program that runs the network
            return True
        if not operator.payloads:
            return False
        if on is not None or self._noted.is_first((operator.who, operator.address, kind)):
            self._network.audit_note("payloads.read", on=on, detail={"of": kind})
        return True


def may_read(request: Request) -> bool:
    """Return whether whoever sends a request may read payloads, without a record of it."""
    operator = operator_of(request)
    return operator is None or operator.payloads


def without_payload(event: Mapping[str, Any], size: int | None) -> dict[str, Any]:
    """Return an event without what it carries, with its size instead."""
    shown = {key: value for key, value in event.items() if key not in HIDDEN}
    return shown if size is None else {**shown, "size": size}


def without_data(response: Mapping[str, Any], error: str | None) -> dict[str, Any]:
    """Return an answer without what a mod has written into it; ``error`` is the code of a failure."""
    shown = {key: value for key, value in response.items() if key not in ("data", "message", "text_representation")}
    return {**shown, "error": error}
