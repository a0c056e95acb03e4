"""Runs a script on a network and records what everybody sees: the answers, and what each agent receives."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Protocol

from .masking import Mask
from .script import Join, Leave, Send, Step, at, resolved

RECEIVED = ("event_name", "source_id", "destination_id", "payload", "metadata", "visibility", "source_agent_group")
"""The fields of a delivered event that must be alike. Its id is another one if a mod sent it."""


RECEIVED_LIST = "received"
"""In `Send.unordered`: the events that one agent receives come in any order."""


class Network(Protocol):
    """A network as its agents see it.

    Attributes:
        own: matches the messages with which the network itself answers, instead of a mod.
    """

    own: re.Pattern[str]

    async def send(self, event: dict[str, Any]) -> dict[str, Any]:
        """Send an event from outside. Return success, message and data of the answer."""
        ...

    async def poll(self, agent: str) -> list[dict[str, Any]]:
        """Take the events out of an agent's inbox."""
        ...


@dataclass
class Record:
    """What one step gave.

    Attributes:
        success: of the answer; None if the network itself answered, which words that in its own way.
        received: agent -> the events that it received.
    """

    step: str
    success: bool | None
    message: str | None
    data: Any
    received: dict[str, list[dict[str, Any]]]


class Driver:
    """Plays the agents of a script.

    Args:
        between: awaited after each step, with the number of steps that are done.
    """

    def __init__(self, network: Network, folder: str, between: Callable[[int], Awaitable[None]] | None = None) -> None:
        self._network, self._between = network, between
        self._mask = Mask(folder)
        self._secrets: dict[str, str] = {}
        self._kept: dict[str, Any] = {}

    async def run(self, script: list[Step]) -> list[Record]:
        records = []
        for number, step in enumerate(script, 1):
            records.append(await self._step(number, step))
            if self._between is not None:
                await self._between(number)
        return records

    async def _step(self, number: int, step: Step) -> Record:
        name = step.name if isinstance(step, Send) else type(step).__name__
        answer = await self._network.send(self._event(number, step))
        record = Record(f"{number} {step.agent} {name}", answer["success"], answer["message"], answer["data"], {})
        if self._network.own.match(record.message or ""):
            record.success, record.message, record.data = None, "<the network's own>", None
        self._note(step, record, answer)
        record.message = self._mask(record.message)
        unordered = step.unordered if isinstance(step, Send) else ()
        record.data = self._mask(record.data, unordered)
        received = {agent: events for agent in sorted(self._secrets) if (events := await self._received(agent))}
        if RECEIVED_LIST in unordered:
            unordered = tuple(received)
        record.received = self._mask(received, unordered)
        return record

    def _note(self, step: Step, record: Record, answer: dict[str, Any]) -> None:
        """Remember what later steps need of an answer."""
        if isinstance(step, Join):
            assert answer["success"], answer
            self._secrets[step.agent] = answer["data"]["secret"]
            record.data = {"group": answer["data"]["assigned_group"]}
        elif isinstance(step, Leave):
            assert answer["success"], answer
            self._secrets.pop(step.agent)
        else:
            self._keep(step, answer["data"])

    def _event(self, number: int, step: Step) -> dict[str, Any]:
        event: dict[str, Any] = {"event_id": f"step-{number}", "source_id": step.agent}
        if isinstance(step, Join):
            payload = {"agent_id": step.agent, "metadata": dict(step.metadata), "transport_type": "http"}
            payload |= {"password_hash": step.password_hash} if step.password_hash else {}
            return {**event, "event_name": "system.register_agent", "payload": payload}
        event["secret"] = self._secrets[step.agent]
        if isinstance(step, Leave):
            return {**event, "event_name": "system.unregister_agent", "payload": {"agent_id": step.agent}}
        more = {"destination_id": step.to} if step.to else {}
        more |= {"event_id": step.id} if step.id else {}
        return {
            **event, **more,
            "event_name": step.name, "payload": resolved(step.payload, self._kept), "metadata": dict(step.metadata),
        }  # fmt: skip

    def _keep(self, step: Send, data: Any) -> None:
        for name, path in step.keep.items():
            self._kept[name] = at(data, path)

    async def _received(self, agent: str) -> list[dict[str, Any]]:
        return [{field: event.get(field) for field in RECEIVED} for event in await self._network.poll(agent)]


__all__ = ["Driver", "Network", "Record"]
