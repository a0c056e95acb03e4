"""What workers ask of the network: checked, bounded, and done in the mod's own name. Pipes and gateway are fakes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import anyio
import pytest

from modvisor.ipc import messages
from modvisor.ipc.errors import Code, FrameTooLarge
from modvisor.ipc.event import Event, EventResponse
from modvisor.ipc.messages import Request
from modvisor.supervisor.agents import AgentRegistry
from modvisor.supervisor.calls import ModCounters, Origin
from modvisor.supervisor.config import ModConfig
from modvisor.supervisor.config.network.network import AgentsConfig
from modvisor.supervisor.events import mod_requests
from modvisor.supervisor.events.mod_requests import MAX_OPEN, MAX_OPEN_WEIGHT, REFUSAL, ModRequests

pytestmark = pytest.mark.anyio


class FakePipe:
    def __init__(self) -> None:
        self.owed = 0
        self.owed_weight = 0
        self.buffered = 0
        self.charged: list[float] = []
        self.refused: list[tuple[int, str, str]] = []
        self.answers: dict[int, Any] = {}
        self.refusal: Exception | None = None

    def charge(self, cost: float) -> None:
        self.charged.append(cost)

    def refuse(self, request_id: int, code: str, message: str) -> None:
        self.refused.append((request_id, code, message))

    def respond(self, request_id: int, answer: Any) -> None:
        if self.refusal is not None:
            raise self.refusal
        self.answers[request_id] = answer


class Worker:
    """A worker, its keeper, and the network that it speaks to."""

    def __init__(self, tasks: Any, **config: Any) -> None:
        self.pipe = FakePipe()
        self.mod = ModConfig("./work", "work", **config)
        in_flight = SimpleNamespace(origin=lambda cause: Origin(str(cause), 0, None) if cause else None)
        self.incarnation: Any = SimpleNamespace(
            mod_id="work", pipe=self.pipe, config=self.mod, in_flight=in_flight, is_resting=False
        )
        self.keeper: Any = SimpleNamespace(counters=ModCounters(), take_checkpoint=self._take_checkpoint)
        self.sent: list[tuple[Event, ModConfig, Origin | None]] = []
        self.checkpoints: list[tuple[Any, str]] = []
        self.answer: Any = EventResponse(True, "yes")
        self.agents = AgentRegistry(AgentsConfig(), {}, lambda _kind, _data: None)
        self.requests = ModRequests(tasks, self.agents, self, self._other_version)  # type: ignore[arg-type]
        self._ids = 0

    def __hash__(self) -> int:
        return id(self)

    @staticmethod
    def _other_version(_mod: ModConfig, destination: str) -> str:
        return {"mod:store": "mod:store@2"}.get(destination, destination)

    async def from_mod(self, event: Event, mod: ModConfig, cause: Origin | None) -> EventResponse:
        self.sent.append((event, mod, cause))
        if self.answer is None:
            await asyncio.Event().wait()
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    async def _take_checkpoint(self, _incarnation: Any, state: Any, version: str) -> None:
        self.checkpoints.append((state, version))

    async def ask(self, method: str, **params: Any) -> int:
        self._ids += 1
        self.requests.take(self.keeper, self.incarnation, Request(self._ids, method, params))
        for _ in range(5):
            await asyncio.sleep(0)
        return self._ids

    async def send(self, **event: Any) -> int:
        return await self.ask(messages.SEND_EVENT, event={"event_name": "test.ask", **event})


class Handle:
    """Hashable by identity, as incarnations are."""


@pytest.fixture
async def tasks() -> AsyncIterator[Any]:
    async with anyio.create_task_group() as tasks:
        yield tasks
        tasks.cancel_scope.cancel()


@pytest.fixture
async def worker(tasks: Any) -> Worker:
    return hashable(Worker(tasks))


def hashable(worker: Worker) -> Worker:
    incarnation = Handle()
    incarnation.__dict__.update(vars(worker.incarnation))
    worker.incarnation = incarnation
    return worker


async def test_an_event_is_sent_in_the_mods_own_name(worker: Worker) -> None:
    forged = {"via": "mod:other", "secret": "s", "source_agent_group": "admins", "attempt": 7}
    request = await worker.send(**forged)
    assert worker.pipe.answers[request]["success"]
    [(event, mod, cause)] = worker.sent
    assert (event.source_id, event.via, event.secret) == ("mod:work", "mod:work", None)
    assert (event.source_agent_group, event.attempt) == (None, 1)
    assert (mod, cause, worker.keeper.counters.events_out) == (worker.mod, None, 1)


async def test_the_cause_of_an_event_is_looked_up_at_the_incarnation(worker: Worker) -> None:
    await worker.ask(messages.SEND_EVENT, event={"event_name": "test.ask"}, cause=3)
    assert worker.sent[0][2] == Origin("3", 0, None)


async def test_a_mod_speaks_for_others_only_if_its_config_says_so(tasks: Any, worker: Worker) -> None:
    request = await worker.send(source_id="agent:alice")
    [(refused, code, text)] = worker.pipe.refused
    assert (refused, code, worker.sent) == (request, Code.FORBIDDEN, [])
    assert "may only speak as mod:work; grant it more with 'speak_for'" in text
    for allowed, source, ok in (
        ("agent:alice", "agent:alice", True),
        ("agent:*", "agent:bob", True),
        ("agent:*", "mod:other", False),
        ("*", "mod:other", True),
        ("*", "system:system", False),
    ):
        speaker = hashable(Worker(tasks, speak_for=frozenset({allowed})))
        await speaker.send(source_id=source)
        assert [event.source_id for event, _, _ in speaker.sent] == ([source] if ok else []), (allowed, source)


async def test_a_mod_reaches_the_version_that_its_requirement_means(worker: Worker) -> None:
    await worker.send(destination_id="mod:store")
    await worker.send(destination_id="agent:store")
    assert [event.destination_id for event, _, _ in worker.sent] == ["mod:store@2", "agent:store"]


async def test_agents_channels_members_and_groups_can_be_asked_for(worker: Worker) -> None:
    worker.agents.register("alice", {"name": "Alice"})
    worker.agents.join("general", "alice")
    asked = [await worker.ask(messages.QUERY, what=what) for what in ("agents", "channels", "groups")]
    asked.append(await worker.ask(messages.QUERY, what="members", channel="general"))
    asked.append(await worker.ask(messages.QUERY, what="members", channel="empty"))
    agents, channels, groups, members, nobody = (worker.pipe.answers[request] for request in asked)
    assert agents == [{"agent_id": "alice", "metadata": {"name": "Alice"}, "group": None}]
    assert (channels, members, nobody) == (worker.agents.channels(), ["alice"], [])
    assert groups == worker.agents.members_of_groups()


@pytest.mark.parametrize(
    ("method", "params", "code"),
    [
        ("reboot", {}, Code.PROTOCOL_ERROR),
        (messages.SEND_EVENT, {}, Code.INVALID_EVENT),
        (messages.SEND_EVENT, {"event": {"event_name": "No Name"}}, Code.INVALID_EVENT),
        (messages.QUERY, {"what": "secrets"}, Code.INVALID_EVENT),
        (messages.QUERY, {"what": "members", "channel": 5}, Code.INVALID_EVENT),
        (messages.CHECKPOINT, {"state": 1}, Code.INVALID_EVENT),
        (messages.CHECKPOINT, {"version": "1"}, Code.INVALID_EVENT),
    ],
)
async def test_a_request_that_makes_no_sense_is_refused(
    worker: Worker, method: str, params: dict[str, Any], code: str
) -> None:
    request = await worker.ask(method, **params)
    assert [refused[:2] for refused in worker.pipe.refused] == [(request, code)]
    assert (worker.pipe.answers, worker.requests._open) == ({}, {})


async def test_a_checkpoint_is_kept_with_its_version(worker: Worker) -> None:
    request = await worker.ask(messages.CHECKPOINT, state={"n": 1}, version="1" * 100)
    assert (worker.checkpoints, worker.pipe.answers) == ([({"n": 1}, "1" * 64)], {request: None})


async def test_a_worker_with_too_many_open_requests_is_refused_and_charged(worker: Worker) -> None:
    worker.pipe.owed = MAX_OPEN + 1
    many = await worker.send()
    worker.pipe.owed, worker.pipe.owed_weight = 2, MAX_OPEN_WEIGHT + 1
    heavy = await worker.send()
    assert worker.pipe.refused == [
        (many, Code.BUSY, f"mod work has {MAX_OPEN} open requests already"),
        (heavy, Code.BUSY, f"the open requests of mod work take up {MAX_OPEN_WEIGHT} bytes already"),
    ]
    assert (worker.pipe.charged, worker.sent) == ([REFUSAL, REFUSAL], [])
    worker.pipe.owed = 1
    await worker.send()
    assert len(worker.sent) == 1, "a single request may be of any weight"


async def test_a_request_that_the_worker_gives_up_is_cancelled(worker: Worker) -> None:
    worker.answer = None  # none comes
    first, second, third = [await worker.send() for _ in range(3)]
    worker.requests.cancel(worker.incarnation, second)
    await until_refused(worker, 1)
    assert [refused[:2] for refused in worker.pipe.refused] == [(second, Code.TIMEOUT)]
    worker.requests.cancel(worker.incarnation)
    await until_refused(worker, 3)
    assert {refused[0] for refused in worker.pipe.refused} == {first, second, third}
    assert worker.requests._open == {}
    worker.requests.cancel(worker.incarnation, first)  # nothing is left to cancel


async def until_refused(worker: Worker, count: int) -> None:
    while len(worker.pipe.refused) < count:
        await asyncio.sleep(0)


async def test_an_answer_that_cannot_be_sent_is_an_error(worker: Worker) -> None:
    worker.pipe.refusal = FrameTooLarge("17 MB")
    request = await worker.send()
    [(refused, code, text)] = worker.pipe.refused
    assert (refused, code) == (request, Code.TOO_LARGE)
    assert text == "the answer cannot be sent: 17 MB"


async def test_a_mistake_of_ours_is_answered_and_logged(worker: Worker, caplog: pytest.LogCaptureFixture) -> None:
    worker.answer = ZeroDivisionError("our mistake")
    await worker.send()
    [(_, code, text)] = worker.pipe.refused
    assert (code, "our mistake" in text, "our mistake" in caplog.text) == (Code.INTERNAL, False, True)
    assert mod_requests.logger.name in {record.name for record in caplog.records}
