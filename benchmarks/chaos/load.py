"""Send events to every mod at a steady rate, and record how each event ends."""

from __future__ import annotations

import asyncio
import heapq
import random
import time
from array import array
from collections import defaultdict
from typing import Any

from modvisor.supervisor import AgentNetwork, Event, EventResponse
from modvisor.supervisor.events.gateway import LATE_ANSWER

from .ledger import Ledger
from .players import MAD, MODS
from .schedule import Act

AGENTS = 8
PATIENCE = (0.5, 3.0)  # seconds that the sender of an event to a mad mod waits
TAKES = 0.05  # seconds, at most, of handling such an event, so that some are in flight when the mod ends
TIMER = 0.001  # seconds by which a timer of the loop may be late
RETRIED = 100  # one in so many answered events is sent again


class Load:
    """Sends events and keeps the account.

    Attributes:
        latencies: by phase, seconds from when an event of a steady mod was due until its answer.
            Delays of the sender count too: it shares the loop with the network.
        wrong: in words, answers that do not belong to their events, and failures of steady mods.
        retried: events sent again after their answer.
    """

    def __init__(self, network: AgentNetwork, ledger: Ledger, seed: int, rate: float) -> None:
        self.latencies: defaultdict[str, array[float]] = defaultdict(lambda: array("d"))
        self.wrong: list[str] = []
        self.retried = 0
        self.phase = "warm-up"
        self._network = network
        self._ledger = ledger
        self._rate = rate
        self._chance = random.Random(f"modvisor load {seed}")
        self._secrets: list[str] = []
        self._sending: set[asyncio.Task[None]] = set()
        self._polling: list[asyncio.Task[None]] = []

    async def open(self) -> None:
        """Register the agents and begin to read their inboxes."""
        for number in range(AGENTS):
            response = await self._network.register_agent(_agent(number))
            self._secrets.append(response.data["secret"])
            self._polling.append(asyncio.create_task(self._poll(_agent(number))))

    async def close(self) -> None:
        for task in self._polling:
            task.cancel()
        await asyncio.wait(self._polling)

    async def run(self, phase: str, seconds: float) -> None:
        """Send events to every mod for so many seconds, evenly spread."""
        self.phase = phase
        begin, gap = time.monotonic(), 1 / self._rate
        due = [(begin + gap * index / len(MODS), mod_id) for index, mod_id in enumerate(MODS)]
        heapq.heapify(due)
        while due[0][0] < begin + seconds:
            at, mod_id = due[0]
            if at > time.monotonic():
                await asyncio.sleep(at - time.monotonic())
            self._send_work(mod_id, at)
            heapq.heapreplace(due, (at + gap, mod_id))

    async def settled(self, timeout: float) -> None:
        """Wait until every event was answered, late ones too, for `timeout` seconds at most."""
        end = time.monotonic() + timeout
        while (self._sending or self._ledger.unsettled) and time.monotonic() < end:  # noqa: ASYNC110
            await asyncio.sleep(0.05)

    # -- sending

    def _send_work(self, mod_id: str, due: float) -> None:
        mad = mod_id in MAD
        payload = {"takes": self._chance.uniform(0, TAKES) if mad else 0}
        self._send(mod_id, "work", payload, self._chance.uniform(*PATIENCE) if mad else None, due)

    def send_act(self, act: Act, number: int, name: str, once: bool) -> None:
        """Tell a mod to misbehave."""
        patience = self._chance.uniform(*PATIENCE)
        payload = {"act": name, "number": number, "how": act.how, "once": once, "seed": act.seed, "patience": patience}
        self._send(act.mod_id, "act", payload, patience, time.monotonic())

    def _send(self, mod_id: str, what: str, payload: dict[str, Any], timeout: float | None, due: float) -> None:
        agent = self._chance.randrange(AGENTS)
        number = self._ledger.open(mod_id, agent)
        event = Event(
            f"{mod_id}.{what}", f"agent:{_agent(agent)}", f"mod:{mod_id}" if number % 2 else None,
            payload={"n": number, **payload}, event_id=f"e{number}", timeout=timeout,
        )  # fmt: skip
        task = asyncio.create_task(self._see(event, number, mod_id, due))
        self._sending.add(task)
        task.add_done_callback(self._sending.discard)

    async def _see(self, event: Event, number: int, mod_id: str, due: float) -> None:
        phase, now = self.phase, time.monotonic()
        begun = now if now - due <= TIMER else due + TIMER
        response = await self._process(event)
        self._ledger.settle(number, response)
        if response.success and response.data != number:
            self.wrong.append(f"event {number} for {mod_id} was answered with {response.data!r}")
        if mod_id in MAD:
            return
        self.latencies[phase].append(time.monotonic() - begun)
        if not response.success:
            self.wrong.append(f"event {number} for {mod_id}, which is steady, failed: {response.message}")
        elif number % RETRIED == 0:
            await self._retry(event, response)

    async def _retry(self, event: Event, first: EventResponse) -> None:
        self.retried += 1
        again = await self._process(event)
        if again != first:
            self.wrong.append(f"event {event.event_id}, sent again after its answer {first}, was answered {again}")

    async def _process(self, event: Event) -> EventResponse:
        """Send an event: every second agent is outside the network and proves who it is."""
        agent = int(str(event.source_agent).removeprefix("a"))
        if agent % 2:
            return await self._network.process_event(event)
        event.secret = self._secrets[agent]
        return await self._network.process_external_event(event)

    # -- answers that come late

    async def _poll(self, agent: str) -> None:
        while True:
            for event in await self._network.poll_events(agent, wait=1.0):
                payload = event.payload
                if event.event_name != LATE_ANSWER:
                    self.wrong.append(f"agent {agent} was given {event}")
                    continue
                response = EventResponse(payload["success"], payload.get("message"), payload.get("data"))
                self._ledger.settle(int(payload["event_id"].removeprefix("e")), response)


def _agent(number: int) -> str:
    return f"a{number}"
