"""A worker that cannot be told a change is ended; one that has ended is told nothing. Pipes are fakes."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from modvisor.ipc.errors import FrameTooLarge, PipeClosed
from modvisor.supervisor.events import mirror_requests
from modvisor.supervisor.events.mirror_requests import MirrorRequests
from modvisor.supervisor.process import Cause
from tests.agents.registries import Registry

pytestmark = pytest.mark.anyio


class Pipe:
    def __init__(self) -> None:
        self.closed: Exception | None = None
        self.buffered = 0
        self.told: list[tuple[str, Any]] = []
        self.fault: Exception | None = None
        self.grows = 0

    def notify(self, method: str, params: Any) -> None:
        if self.fault is not None:
            raise self.fault
        self.told.append((method, params))
        self.buffered += self.grows

    async def writable(self) -> None:
        if self.fault is not None:
            raise self.fault


class Worker:
    def __init__(self) -> None:
        self.mod_id = "forum"
        self.pipe: Any = Pipe()
        self.manifest: Any = SimpleNamespace()
        self.ended: tuple[str, Cause] | None = None
        self.is_killed = False

    def end(self, reason: str, cause: Cause) -> None:
        self.ended = reason, cause

    def kill_now(self) -> None:
        self.is_killed = True


@pytest.fixture
def agents() -> Registry:
    return Registry()


@pytest.fixture
async def requests(agents: Registry) -> MirrorRequests:
    return MirrorRequests(agents)


async def ask(requests: MirrorRequests, worker: Worker) -> None:
    await requests.mirror(None, worker, {})  # type: ignore[arg-type]


async def test_a_worker_that_ended_before_its_turn_gets_no_mirror(agents: Registry, requests: MirrorRequests) -> None:
    worker = Worker()
    worker.pipe.closed = PipeClosed("it ended")
    await ask(requests, worker)
    assert (len(agents.mirrors), worker.pipe.told) == (0, [])


async def test_a_worker_that_has_ended_is_told_nothing_more(agents: Registry, requests: MirrorRequests) -> None:
    worker = Worker()
    await ask(requests, worker)
    requests.forget(worker)  # type: ignore[arg-type]
    requests.forget(worker)  # type: ignore[arg-type]
    agents.register("alice", {}, trusted=True)
    assert (len(agents.mirrors), len(worker.pipe.told)) == (0, 1)


async def test_a_mirror_that_cannot_be_sent_is_not_kept_up(agents: Registry, requests: MirrorRequests) -> None:
    worker = Worker()
    worker.pipe.fault = FrameTooLarge("too large")
    with pytest.raises(FrameTooLarge):
        await ask(requests, worker)
    assert len(agents.mirrors) == 0
    worker.pipe.fault = None
    await ask(requests, worker)
    assert len(agents.mirrors) == 1, "it may ask again"


async def test_a_worker_that_cannot_be_told_a_change_is_ended(agents: Registry, requests: MirrorRequests) -> None:
    worker, other = Worker(), Worker()
    await ask(requests, worker)
    await ask(requests, other)
    worker.pipe.fault = FrameTooLarge("too large")
    agents.register("alice", {}, trusted=True)
    assert worker.ended == ("a change of agents or channels cannot be sent to it: too large", Cause.PROTOCOL_VIOLATION)
    assert (worker.is_killed, other.ended, len(agents.mirrors)) == (True, None, 1)
    assert other.pipe.told[-1] == ("changes", {"changes": [["agent", "alice", {}, None]]})


async def test_only_what_a_worker_leaves_unread_counts(
    agents: Registry, requests: MirrorRequests, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mirror_requests, "MAX_UNREAD", 450)
    worker = Worker()
    await ask(requests, worker)
    worker.pipe.grows = 100
    for number in range(21):  # it reads all now and then
        worker.pipe.buffered = 0 if number % 4 == 0 else 2 * mirror_requests.HIGH_WATER
        agents.register(f"a{number}", {}, trusted=True)
    worker.pipe.buffered = 2 * mirror_requests.HIGH_WATER  # a large event is on its way
    for number in range(21, 25):
        assert worker.ended is None
        agents.register(f"a{number}", {}, trusted=True)
    assert worker.ended is not None
    assert worker.ended[0].startswith("it does not read its pipe: 500 bytes of changes")
