"""Agents that send to the mods of the network, and move to another node when theirs does not answer."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

from modvisor_client import AgentClient, ModvisorClientError
from modvisor_client.event import new_event_id

from .audit import Sent

PATIENCE = 10.0  # seconds for which an event is waited for
MOVES_AFTER = 3.0  # seconds after which an agent tries another node


@dataclass(frozen=True)
class Target:
    """A mod that agents send to."""

    mod: str
    durable: bool


class Member:
    """One agent. What it sends, and what became of it, stands in ``sent``."""

    def __init__(self, name: str, urls: Sequence[str], targets: Sequence[Target], seed: int) -> None:
        self._name, self._urls, self._targets = name, list(urls), targets
        self._chance = random.Random(seed)
        self._secret: str | None = None
        self._number = 0
        self.sent: list[Sent] = []
        self.moves = 0

    async def work(self, gap: float, until: Callable[[], bool]) -> None:
        """Send an event every ``gap`` seconds on the average, until told otherwise."""
        at = 0
        while not until():
            try:
                async with AgentClient(
                    self._urls[at % len(self._urls)],
                    self._name,
                    secret=self._secret,
                    leave=False,
                    connect_timeout=MOVES_AFTER,
                ) as client:
                    self._secret = client.secret
                    await self._work(client, gap, until)
            except (ModvisorClientError, ExceptionGroup):
                await asyncio.sleep(self._chance.uniform(0.1, 0.5))
            at, self.moves = at + 1, self.moves + 1

    async def _work(self, client: AgentClient, gap: float, until: Callable[[], bool]) -> None:
        """Send until the connection has been gone for a while."""
        asked: set[asyncio.Task[None]] = set()
        gone_since = None
        try:
            while not until():
                await asyncio.sleep(self._chance.expovariate(1 / gap))
                gone_since = None if client.is_connected else gone_since or time.monotonic()
                if gone_since is not None:
                    if time.monotonic() - gone_since > MOVES_AFTER:
                        return
                    continue
                task = asyncio.create_task(self._ask(client))
                asked.add(task)
                task.add_done_callback(asked.discard)
            await asyncio.wait(asked, timeout=PATIENCE) if asked else None
        finally:
            for task in asked:
                task.cancel()
            with suppress(asyncio.CancelledError):
                await asyncio.gather(*asked)

    async def _ask(self, client: AgentClient) -> None:
        target = self._chance.choice(self._targets)
        self._number += 1
        event = Sent(new_event_id(), target.mod, target.durable, time.clock_gettime(time.CLOCK_BOOTTIME))
        self.sent.append(event)
        payload = {"key": f"{self._name}-{self._number % 5}", "number": self._number}
        try:
            response = await client.send(
                f"{target.mod}.write", payload, to=f"mod:{target.mod}", timeout=PATIENCE, event_id=event.event_id
            )
            event.outcome = "answered" if response.success else response.error or "failed"
        except ModvisorClientError as error:
            event.outcome = error.code
        except asyncio.CancelledError:
            return  # nobody told it
        event.seconds = time.clock_gettime(time.CLOCK_BOOTTIME) - event.at
