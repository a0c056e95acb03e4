"""Mods that send without end, or never read: everybody else has their turn, and the supervisor's memory stays its own."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from typing import Any

import psutil
import pytest

from modvisor.ipc.errors import Code
from modvisor.ipc.reading import BURST, RATE, TURN
from modvisor.ipc.writing import HIGH_WATER
from modvisor.supervisor import AgentNetwork, Event, EventResponse
from modvisor.supervisor.events.mod_requests import MAX_OPEN
from tests.conftest import until
from tests.processes.test_events import load, send

pytestmark = pytest.mark.anyio

WriteMod = Callable[..., str]

# Sends by the raw pipe, past the SDK's own limit: as many at once as the protocol allows.
FLOOD = """
    async def activate(self):
        import collections
        self.outcomes, self.sent, self.going, self.tasks = collections.Counter(), 0, True, set()

    async def request(self, event):
        pipe = self.context._pipe
        try:
            answer = await pipe.request("send_event", {"event": event, "cause": None})
            outcome = (answer.get("data") or {}).get("error", "ok")
        except Exception as error:
            outcome = str(getattr(error, "code", type(error).__name__))
        self.outcomes[outcome] += 1

    def begin(self, event):
        import asyncio
        if self.context._pipe.in_flight < 5000:
            task = asyncio.get_running_loop().create_task(self.request(event))
            self.tasks.add(task)
            task.add_done_callback(self.tasks.discard)
            self.sent += 1

    async def from_coroutines(self, event):
        import asyncio
        while self.going:
            for _ in range(100):
                self.begin(event)
            await asyncio.sleep(0)

    def from_a_thread(self, event, loop):
        import time
        while self.going:
            for _ in range(100):
                loop.call_soon_threadsafe(self.begin, event)
            time.sleep(0)

    async def notes(self, method):
        import asyncio
        pipe = self.context._pipe
        while self.going:
            for n in range(100):
                pipe.notify(method, {"id": n})
            self.sent += 100
            while pipe.buffered > 50_000 and self.going:
                await asyncio.sleep(0)
            await asyncio.sleep(0)

    @mod_event_handler("flood.start")
    async def start(self, event):
        import asyncio, threading
        what = event.payload.get("event")
        match event.payload["kind"]:
            case "coroutines":
                self.main = asyncio.create_task(self.from_coroutines(what))
            case "thread":
                loop = asyncio.get_running_loop()
                threading.Thread(target=self.from_a_thread, args=(what, loop), daemon=True).start()
            case "notes":
                self.main = asyncio.create_task(self.notes(event.payload["method"]))
        return EventResponse(True)

    @mod_event_handler("flood.stop")
    async def stop(self, event):
        self.going = False
        return EventResponse(True, data={"sent": self.sent, "outcomes": dict(self.outcomes)})

    def shutdown(self):
        self.going = False
"""

ECHO = """
    @mod_event_handler("echo.ping")
    async def ping(self, event):
        return EventResponse(True, data=event.payload["i"])
"""


class Watch:
    """What the supervisor does in each turn of its loop: events of a mod that it takes."""

    def __init__(self, network: AgentNetwork, mod_id: str) -> None:
        self._counters = network._running().mods.find(mod_id).counters
        self._loop = asyncio.get_running_loop()
        self._before = self._counters.events_out
        self.most = 0
        self._handle = self._loop.call_soon(self._tick)

    @property
    def taken(self) -> int:
        return self._counters.events_out

    def _tick(self) -> None:
        now = self._counters.events_out
        self.most = max(self.most, now - self._before)
        self._before = now
        self._handle = self._loop.call_soon(self._tick)

    def stop(self) -> None:
        self._handle.cancel()


class Neighbour:
    """Asks another mod, one event after the other."""

    def __init__(self, network: AgentNetwork) -> None:
        self.answers = 0
        self._network = network
        self._task = asyncio.create_task(self._ask())

    async def _ask(self) -> None:
        while True:
            response = await send(self._network, "echo.ping", "mod:echo", i=self.answers)
            assert response.data == self.answers, response
            self.answers += 1

    async def stop(self) -> None:
        self._task.cancel()
        await asyncio.wait([self._task])
        if not self._task.cancelled():
            self._task.result()


@pytest.fixture
async def neighbour(network: AgentNetwork, write_mod: WriteMod) -> AsyncIterator[Neighbour]:
    await load(network, write_mod, "echo", ECHO)
    made = Neighbour(network)
    await until(lambda: made.answers > 10)
    yield made
    await made.stop()


def memory() -> int:
    return psutil.Process().memory_info().rss


@pytest.mark.parametrize("kind", ["coroutines", pytest.param("thread", marks=pytest.mark.slow)])
async def test_a_mod_that_emits_in_a_tight_loop(
    kind: str, network: AgentNetwork, write_mod: WriteMod, neighbour: Neighbour
) -> None:
    await load(network, write_mod, "flood", FLOOD)
    before = memory()
    await send(
        network, "flood.start", "mod:flood", kind=kind, event={"event_name": "nobody.listens", "payload": {"i": 1}}
    )
    watch = Watch(network, "flood")
    for _ in range(4):  # both make progress, again and again
        taken, answers = watch.taken, neighbour.answers
        await until(lambda t=taken, a=answers: watch.taken > t + 1000 and neighbour.answers > a + 5, 20)
    watch.stop()
    assert watch.most <= 2 * TURN
    outcomes = (await send(network, "flood.stop", "mod:flood")).data["outcomes"]
    assert set(outcomes) <= {"unknown_event", "busy"}
    assert memory() - before < 100_000_000
    assert network.get_network_stats()["mods"]["flood"]["restarts"] == 0


@pytest.mark.slow
async def test_more_requests_than_one_worker_may_have(
    network: AgentNetwork, write_mod: WriteMod, neighbour: Neighbour
) -> None:
    """The surplus is refused, nothing else suffers, and pings are answered among it."""
    await load(network, write_mod, "flood", FLOOD, limits={"hang_timeout": 5})
    await load(network, write_mod, "slow", """
        async def initialize(self):
            import asyncio
            self.gate = asyncio.Event()

        @mod_event_handler("slow.wait")
        async def wait(self, event):
            await self.gate.wait()
            return EventResponse(True)

        @mod_event_handler("slow.open")
        async def open(self, event):
            self.gate.set()
            return EventResponse(True)
    """, limits={"concurrency": 2000})  # fmt: skip
    before = memory()
    await send(network, "flood.start", "mod:flood", kind="coroutines", event={"event_name": "slow.wait"})
    watch = Watch(network, "flood")
    flood, slow = (network._running().mods.find(name) for name in ("flood", "slow"))
    pipe = flood.incarnation.pipe
    await until(lambda: watch.taken >= MAX_OPEN, 20)
    for _ in range(3):
        assert await flood.incarnation.answers(20), "a ping passes the surplus"
        answers = neighbour.answers
        await until(lambda a=answers: neighbour.answers > a + 5, 20)
        assert pipe.owed <= MAX_OPEN + 1
        assert slow.caller.in_flight_count <= MAX_OPEN
    watch.stop()
    assert watch.most <= 2 * TURN
    outcomes = (await send(network, "flood.stop", "mod:flood")).data["outcomes"]
    assert set(outcomes) == {"busy"}
    await send(network, "slow.open", "mod:slow")
    await until(lambda: pipe.owed == 0, 20)
    assert memory() - before < 100_000_000
    assert network.get_network_stats()["mods"]["flood"]["restarts"] == 0


@pytest.mark.slow
async def test_a_handler_that_waits_for_more_of_its_own_events_than_it_may_send(
    network: AgentNetwork, write_mod: WriteMod
) -> None:
    """Its answers come over the pipe that its surplus fills: neither waits for the other."""
    await load(network, write_mod, "own", """
        @mod_event_handler("own.inner")
        async def inner(self, event):
            await asyncio.sleep(0)
            return EventResponse(True, data=event.payload["blob"])

        @mod_event_handler("own.outer")
        async def outer(self, event):
            import collections
            from modvisor.worker.context import current_cause
            pipe, outcomes = self.context._pipe, collections.Counter()

            async def one():
                payload = {"blob": b"x" * event.payload["size"]}
                event_ = {"event_name": "own.inner", "destination_id": "mod:own", "source_id": "agent:x", "payload": payload}
                try:
                    answer = await pipe.request("send_event", {"event": event_, "cause": current_cause.get()})
                    outcomes["ok" if answer["success"] else answer["data"]["error"]] += 1
                except Exception as error:
                    outcomes[error.code] += 1

            await asyncio.gather(*(one() for _ in range(event.payload["count"])))
            return EventResponse(True, data=dict(outcomes))
    """, speak_for=["agent:x"])  # fmt: skip
    for count, size in ((3000, 10), (300, 1_000_000)):
        response = await network.process_event(
            Event("own.outer", "agent:alice", "mod:own", payload={"count": count, "size": size}, timeout=50)
        )
        assert response.success, response
        outcomes = Counter(response.data)
        assert outcomes.total() == count
        assert set(outcomes) <= {"ok", "busy"}
        assert outcomes["ok"] >= min(50, count)


@pytest.mark.parametrize("method", ["cancel", pytest.param("no_such_notification", marks=pytest.mark.slow)])
async def test_a_flood_of_notifications(
    method: str, network: AgentNetwork, write_mod: WriteMod, neighbour: Neighbour
) -> None:
    await load(network, write_mod, "flood", FLOOD)
    loop = asyncio.get_running_loop()
    pipe = network._running().mods.find("flood").incarnation.pipe
    before, began = memory(), loop.time()
    await send(network, "flood.start", "mod:flood", kind="notes", method=method)
    await until(lambda: pipe._allowance._left < 100.0, 20)
    for _ in range(3):
        answers = neighbour.answers
        await until(lambda a=answers: neighbour.answers > a + 5, 20)
    sent = (await send(network, "flood.stop", "mod:flood")).data["sent"]
    in_the_pipe = 1_000_000 / len(b"\0\0\0\0\x93\x02\xa6cancel\x81\xa2id\x05")
    assert sent <= BURST + RATE * (loop.time() - began) + in_the_pipe, "it was slowed down"
    assert memory() - before < 50_000_000
    assert network.get_network_stats()["mods"]["flood"]["restarts"] == 0


@pytest.mark.slow
async def test_requests_and_their_cancellation_without_end(
    network: AgentNetwork, write_mod: WriteMod, neighbour: Neighbour
) -> None:
    await load(network, write_mod, "slow", """
        @mod_event_handler("slow.wait")
        async def wait(self, event):
            await asyncio.sleep(3600)
    """, limits={"concurrency": 8, "queue": 2000})  # fmt: skip
    await load(network, write_mod, "fickle", """
        @mod_event_handler("fickle.go")
        async def go(self, event):
            pipe = self.context._pipe
            for _ in range(event.payload["rounds"]):
                calls = [
                    asyncio.create_task(pipe.request("send_event", {"event": {"event_name": "slow.wait"}, "cause": None}))
                    for _ in range(500)
                ]
                await asyncio.sleep(0)
                for call in calls:
                    call.cancel()
                await asyncio.gather(*calls, return_exceptions=True)
                while pipe.in_flight > 2000:
                    await asyncio.sleep(0.001)
            while pipe.in_flight:
                await asyncio.sleep(0.001)
            return EventResponse(True)
    """)  # fmt: skip
    before, answers = memory(), neighbour.answers
    going = asyncio.create_task(
        network.process_event(Event("fickle.go", "agent:alice", "mod:fickle", payload={"rounds": 20}, timeout=50))
    )
    await until(lambda: neighbour.answers > answers + 20, 30)
    assert (await going).success
    mods = network._running().mods
    assert mods.find("fickle").incarnation.pipe.owed == 0
    await until(lambda: mods.find("slow").caller.in_flight_count == mods.find("slow").caller.depth == 0)
    assert memory() - before < 100_000_000


@pytest.mark.slow
async def test_a_worker_that_stops_reading_its_pipe(
    network: AgentNetwork, write_mod: WriteMod, neighbour: Neighbour
) -> None:
    await load(network, write_mod, "deaf", """
        @mod_event_handler("deaf.stop_reading")
        async def stop(self, event):
            loop = asyncio.get_running_loop()
            loop.call_later(0.05, loop.remove_reader, self.context._pipe._sock.fileno())
            return EventResponse(True)

        @mod_event_handler("deaf.take")
        async def take(self, event):
            return EventResponse(True, data=len(event.payload["blob"]))

        @mod_event_handler("deaf.watch", observe=True)
        async def watch(self, event):
            pass
    """, limits={"hang_timeout": 2, "concurrency": 16, "queue": 20, "queue_bytes": "20MB"})  # fmt: skip
    keeper = network._running().mods.find("deaf")
    pid = keeper.incarnation.pid
    pipe = keeper.incarnation.pipe
    blob = b"x" * 1_000_000
    assert (await send(network, "deaf.take", "mod:deaf", blob=blob)).data == 1_000_000
    await send(network, "deaf.stop_reading", "mod:deaf")
    before, most = memory(), 0

    async def give(n: int) -> EventResponse:
        payload = {"blob": blob}  # one blob for all: what grows is what the supervisor makes of it
        return await network.process_event(Event("deaf.take", f"agent:a{n}", "mod:deaf", payload=payload))

    events = [asyncio.create_task(give(n)) for n in range(60)]
    while pipe.closed is None:
        most = max(most, pipe.buffered)
        network._running().gateway.notify_mods(Event("deaf.watch", "system:system", payload={"blob": blob}))
        assert keeper.copies.bytes <= 20_000_000
        await asyncio.sleep(0.01)
    responses = await asyncio.gather(*events)
    assert most <= HIGH_WATER + 2_500_000
    assert memory() - before < 60_000_000
    errors = Counter(response.error for response in responses)
    waited = 19  # 20 of them are a little more than 20 MB
    assert errors == {None: 16 + waited, Code.OVERLOADED: 60 - 16 - waited}, "the next process answered the former"
    assert (report := keeper.crashes.last) is not None
    assert report.pid == pid
    await until(lambda: network.get_loaded_mods()["deaf"]["state"] == "ready")
    assert (await send(network, "deaf.take", "mod:deaf", blob=blob)).data == 1_000_000
    assert neighbour.answers > 20


@pytest.mark.slow
async def test_a_worker_that_does_not_read_its_answers(
    network: AgentNetwork, write_mod: WriteMod, neighbour: Neighbour
) -> None:
    """Ten thousand questions whose answers it never reads: they wait for it, and not in memory."""
    for n in range(200):
        await network.register_agent(f"agent{n}", metadata={"text": "x" * 200})
    await load(network, write_mod, "deaf", """
        @mod_event_handler("deaf.go")
        async def go(self, event):
            pipe = self.context._pipe
            asyncio.get_running_loop().remove_reader(pipe._sock.fileno())
            for _ in range(9000):
                pipe.begin("query", {"what": "agents"})
            return EventResponse(True)
    """, limits={"hang_timeout": 2})  # fmt: skip
    keeper = network._running().mods.find("deaf")
    pipe, most, before = keeper.incarnation.pipe, 0, memory()
    going = asyncio.create_task(send(network, "deaf.go", "mod:deaf"))
    while pipe.closed is None:
        most = max(most, pipe.buffered)
        assert pipe.owed <= MAX_OPEN + 1
        await asyncio.sleep(0.01)
    assert HIGH_WATER < most < HIGH_WATER + 3_000_000
    assert memory() - before < 100_000_000
    assert (await going).success
    await until(lambda: keeper.crashes.last is not None)


@pytest.mark.slow
async def test_a_mod_that_sends_large_events_without_waiting(
    network: AgentNetwork, write_mod: WriteMod, neighbour: Neighbour
) -> None:
    """A thousand may be under way, but not a thousand large ones."""
    await load(network, write_mod, "slow", """
        @mod_event_handler("slow.wait")
        async def wait(self, event):
            await asyncio.sleep(3600)
    """, limits={"concurrency": 1, "queue": 2000})  # fmt: skip
    await load(network, write_mod, "big", """
        @mod_event_handler("big.go")
        async def go(self, event):
            import collections
            pipe, outcomes = self.context._pipe, collections.Counter()

            async def one():
                data = {"event_name": "slow.wait", "timeout": 3, "payload": {"blob": b"x" * 1_000_000}}
                try:
                    answer = await pipe.request("send_event", {"event": data, "cause": None})
                    outcomes[answer["data"]["error"]] += 1
                except Exception as error:
                    outcomes[error.code] += 1

            await asyncio.gather(*(one() for _ in range(300)))
            return EventResponse(True, data=dict(outcomes))
    """)  # fmt: skip
    before = memory()
    pipe = network._running().mods.find("big").incarnation.pipe
    going = asyncio.create_task(
        network.process_event(Event("big.go", "agent:alice", "mod:big", payload={}, timeout=50))
    )
    most_memory = most = 0
    while not going.done():
        most, most_memory = max(most, pipe.owed_weight), max(most_memory, memory() - before)
        await asyncio.sleep(0.005)
    outcomes: dict[str, Any] = (await going).data
    assert outcomes["timeout"] >= 60
    assert outcomes["busy"] > 0
    assert sum(outcomes.values()) == 300
    assert 60_000_000 < most < 70_000_000
    assert most_memory < 250_000_000


BOMB = """
    @mod_event_handler("bomb.go")
    async def go(self, event):
        # Past the SDK's own check, as a worker in another language could: 20 MB of numbers, or of lists.
        import struct
        item = bytes.fromhex(event.payload["item"])
        count = 20_000_000 // len(item)
        values = b"\\xdd" + struct.pack(">I", count) + item * count
        body = b"\\x94\\x00\\xce\\x7f\\xff\\xff\\xff\\xaasend_event\\x81\\xa1x" + values
        pipe = self.context._pipe
        pipe._write(struct.pack(">I", len(body)) + body)
        await asyncio.Event().wait()
"""


@pytest.mark.parametrize("item", ["01", pytest.param("dc000a" + "00" * 10, marks=pytest.mark.slow)])
async def test_a_bomb_of_small_values_ends_its_mod_while_others_are_served(
    item: str, network: AgentNetwork, write_mod: WriteMod, neighbour: Neighbour
) -> None:
    await load(network, write_mod, "bomb", BOMB, restart={"max_restarts": 0}, max_attempts=1)
    before, answers = memory(), neighbour.answers
    failed = await send(network, "bomb.go", "mod:bomb", item=item)
    assert failed.data["error"] in ("mod_crashed", "dead_lettered"), failed
    assert "take up more than" in network.get_crashes("bomb")[0]["detail"]
    assert neighbour.answers > answers
    assert memory() - before < 400_000_000
