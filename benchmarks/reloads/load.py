"""Send events of many agents at a steady rate, and record how each event ends."""

from __future__ import annotations

import asyncio
import time
from array import array
from collections import Counter, defaultdict

from modvisor.supervisor import AgentNetwork, Event

LATE = 0.002  # seconds after which an event counts as sent late; a timer of the loop may be late by 1 ms
BURST = 100  # events that a lagging sender sends at once, before the network gets a turn
SLOW_ONES = 10  # one in so many events takes a while, so that some are in flight at each switch
TAKES = 0.001  # seconds
SHOWN = 20


class Load:
    """Sends events and keeps the account.

    An event is due at its time. A sender that lags sends more events at once afterwards, and the
    latency of each counts from when it was due.

    Attributes:
        sent: events of each source so far; they are numbered from 1.
        answered: answered events of each source.
        failed: failed events of each error code.
        wrong: in words, some of the failures, and answers that belong to other events.
        latencies: seconds from when an event was due until its answer, by phase.
        late: how many events were sent late, and the longest delay in seconds.
    """

    def __init__(self, network: AgentNetwork, agents: int, rate: float) -> None:
        self.sources = [f"agent:a{number}" for number in range(agents)]
        self.sent: Counter[str] = Counter()
        self.answered: Counter[str] = Counter()
        self.failed: Counter[str] = Counter()
        self.wrong: list[str] = []
        self.latencies: defaultdict[str, array[float]] = defaultdict(lambda: array("d"))
        self.seconds: dict[str, float] = {}  # of each phase
        self.late, self.worst = 0, 0.0
        self._network = network
        self._rate = rate
        self._sending: set[asyncio.Task[None]] = set()
        self._loop = asyncio.get_running_loop()
        self._over = False

    async def open(self) -> None:
        for source in self.sources:
            registered = await self._network.register_agent(source.removeprefix("agent:"))
            assert registered.success, registered

    async def run(self, phase: str, seconds: float | None = None) -> None:
        """Send until `end` is called, or for so many seconds."""
        self._over = False
        begin, number = time.monotonic(), 0
        while not self._over and (seconds is None or number < seconds * self._rate):
            burst = 0
            while burst < BURST and begin + number / self._rate <= (now := time.monotonic()):
                self._send(phase, begin + number / self._rate, now)
                number, burst = number + 1, burst + 1
            await asyncio.sleep(max(0.0, begin + number / self._rate - time.monotonic()))
        self.seconds[phase] = time.monotonic() - begin

    def end(self) -> None:
        self._over = True

    async def settled(self, timeout: float) -> int:
        """Wait until every event was answered. Return how many were not after `timeout` seconds."""
        if self._sending:
            await asyncio.wait(self._sending, timeout=timeout)
        return len(self._sending)

    def reached(self, phase: str) -> float:
        """Return how many events were sent per second."""
        return len(self.latencies[phase]) / self.seconds[phase]

    def _send(self, phase: str, due: float, now: float) -> None:
        if now - due > LATE:
            self.late, self.worst = self.late + 1, max(self.worst, now - due)
        total = self.sent.total()
        source = self.sources[total % len(self.sources)]
        self.sent[source] += 1
        payload = {"n": self.sent[source], "takes": TAKES if total % SLOW_ONES == 0 else 0}
        task = self._loop.create_task(self._see(Event("count.up", source, payload=payload), phase, due))
        self._sending.add(task)
        task.add_done_callback(self._sending.discard)

    async def _see(self, event: Event, phase: str, due: float) -> None:
        source, number = str(event.source_id), event.payload["n"]
        response = await self._network.process_event(event)
        self.latencies[phase].append(time.monotonic() - due)
        if response.success and response.data == number:
            self.answered[source] += 1
            return
        self.failed[str(response.error) if not response.success else "another event's answer"] += 1
        if len(self.wrong) < SHOWN:
            self.wrong.append(f"event {number} of {source}: {response.message or response.data!r}")
