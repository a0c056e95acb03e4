"""Carries events to the inboxes of agents that are at home at other nodes.

What is for one node goes there in one line: all that waits in it is one message, and the next
message goes when the last one is answered. So a source's events come in their order, also when a
message is sent again, and a busy node sends few messages. The receiver knows the newest events and
their agents (`agents.nodes.given`), so what comes again reaches nobody twice.

A home may have changed meanwhile. Then the event goes on to the home that the agent has now; a home
that is gone is replaced by this node (`Homes.bring`).
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Iterable
from typing import Any, Protocol

from ....ipc.errors import ModvisorError
from ....ipc.event import Event
from ....ipc.messages import pack, unpack
from ...agents import Agent, Parcel, Receipt, SharedAgents
from ..link.errors import ClusterError, TooLarge
from ..link.link import Link
from ..link.passing import Passing
from ..link.wire import Reply

logger = logging.getLogger("modvisor.cluster")

PATIENCE = 30.0
"""Seconds until a delivery is given up whose node does not answer. No key of the network file: a node
that is gone is known as gone after `cluster.lease`, and its agents are at home here then."""

BATCH = 256 * 1024
"""Bytes of one message to a node, unless a single event is larger."""

LARGE = 512 * 1024
"""Bytes from which on an event goes by way of the network's store of files."""

ANSWER = 2.0  # seconds until a message is sent again
_PAUSE = 0.01  # before an agent is looked for again that its home does not have yet or any more
_LONGEST_PAUSE = 0.5


class Homes(Protocol):
    """Where agents are at home; see `homes.Homes`."""

    def is_there(self, node: str) -> bool: ...

    async def bring(self, agent: Agent, *, is_parked: bool = False) -> None: ...


class _Part:
    """The part of a parcel that goes to one node."""

    __slots__ = ("done", "ids", "packed", "parcel")

    def __init__(self, parcel: Parcel, packed: Any, ids: list[str]) -> None:
        self.parcel, self.packed, self.ids = parcel, packed, ids
        self.done: asyncio.Future[Receipt] = asyncio.get_running_loop().create_future()

    @property
    def size(self) -> int:
        return len(self.packed) + sum(map(len, self.ids)) + 200

    def row(self) -> list[Any]:
        parcel = self.parcel
        return [*parcel.key, self.packed, parcel.size, parcel.source, parcel.is_told, self.ids]


class _Line:
    """What waits for one node."""

    def __init__(self) -> None:
        self.parts: deque[_Part] = deque()
        self.task: asyncio.Task[None] | None = None

    def batch(self) -> list[_Part]:
        """Remove the oldest parts, as many as fit in one message, and return them."""
        taken, size = [self.parts.popleft()], 0
        size = taken[0].size
        while self.parts and size + self.parts[0].size <= BATCH:
            taken.append(self.parts.popleft())
            size += taken[-1].size
        return taken


class Deliveries:
    """Sends parcels to other nodes, and takes those that come from them."""

    def __init__(self, link: Link, agents: SharedAgents, homes: Homes) -> None:
        self._link, self._agents, self._homes = link, agents, homes
        self._lines: dict[str, _Line] = {}
        self._tasks: set[asyncio.Task[Any]] = set()
        self._passing = Passing(link, "event")  # each part has a file of its own, which goes when it is answered

    async def open(self) -> None:
        """Take what comes from now on."""
        await self._link.serve(self._subject(self._link.node), self._received)

    async def close(self) -> None:
        """Give up what is on its way."""
        for task in list(self._tasks):
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    def _subject(self, node: str) -> str:
        return self._link.subject("node", node, "deliver")

    # -- to others

    def carry(self, parcel: Parcel) -> asyncio.Future[Receipt]:
        """Bring a parcel to the homes of its agents. The result comes when each of them has answered."""
        try:
            packed = pack(parcel.event.to_dict())
        except ModvisorError as error:  # only a program of this process can send such an event
            logger.warning("event %s cannot be sent to another node: %s", parcel.event.event_id, error)
            return self._nothing(Receipt(lost=[each for ids in parcel.to.values() for each in ids]))
        parts = [(home, self._queue(home, _Part(parcel, packed, ids))) for home, ids in parcel.to.items()]
        return self._spawn(self._carry(parcel, packed, parts))

    async def _carry(self, parcel: Parcel, packed: bytes, parts: list[tuple[str, _Part]]) -> Receipt:
        receipt, pause = Receipt(), _PAUSE
        until = asyncio.get_running_loop().time() + PATIENCE
        while parts:
            away: list[str] = []
            for _, part in parts:
                answer = await part.done
                receipt.add(answer)
                away += answer.away
            if not away:
                break
            if asyncio.get_running_loop().time() > until:
                receipt.lost += away
                break
            if pause > _PAUSE:
                await asyncio.sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE)
            parts = await self._again(parcel, packed, away, receipt)
        return receipt

    async def _again(
        self, parcel: Parcel, packed: bytes, ids: Iterable[str], receipt: Receipt
    ) -> list[tuple[str, _Part]]:
        """Deliver to agents that were not where they were looked for. Return what goes to other nodes."""
        to: dict[str, list[str]] = {}
        for agent_id in ids:
            agent = self._agents.get(agent_id)
            if agent is not None and (agent.home is None or not self._homes.is_there(agent.home)):
                await self._bring_here(agent)
            answer = self._agents.receive(parcel, [agent_id])
            receipt.add(answer)
            if answer.away and (agent := self._agents.get(agent_id)) is not None:  # its home may be another one by now
                to.setdefault(agent.home or "", []).append(agent_id)
        return [(home, self._queue(home, _Part(parcel, packed, each))) for home, each in to.items()]

    async def _bring_here(self, agent: Agent) -> None:
        try:
            await self._homes.bring(agent, is_parked=True)
        except ModvisorError as error:
            logger.info("agent %s cannot be at home here yet: %s", agent.agent_id, error)

    def _queue(self, home: str, part: _Part) -> _Part:
        line = self._lines.setdefault(home, _Line())
        line.parts.append(part)
        if line.task is None:
            line.task = self._spawn(self._send(home, line))
        return part

    async def _send(self, home: str, line: _Line) -> None:
        """Send what waits for a node, until nothing does."""
        parts: list[_Part] = []
        try:
            while line.parts:
                parts = line.batch()
                for part, receipt in zip(parts, await self._answers(home, parts), strict=True):
                    if not part.done.done():
                        part.done.set_result(receipt)
                parts = []
        finally:
            line.task = None
            for part in (*parts, *line.parts):  # it was cancelled
                part.done.cancel()
            if self._lines.get(home) is line:
                del self._lines[home]

    async def _answers(self, home: str, parts: list[_Part]) -> list[Receipt]:
        """Send one message until it is answered, as long as its node is in the network."""
        until = asyncio.get_running_loop().time() + PATIENCE
        pause = _PAUSE
        while self._homes.is_there(home):
            try:
                rows = await self._rows(parts)
                said = await self._link.ask(self._subject(home), rows, timeout=ANSWER)
                return [Receipt(*each) for each in said]
            except TooLarge as error:
                logger.warning("an event cannot be sent to node %s: %s", home, error)
                return [Receipt(lost=part.ids) for part in parts]
            except (ClusterError, TimeoutError) as error:
                if asyncio.get_running_loop().time() > until:
                    logger.warning("node %s does not take events: %s", home, error)
                    return [Receipt(lost=part.ids) for part in parts]
            await asyncio.sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE)
        return [Receipt(away=part.ids) for part in parts]

    async def _rows(self, parts: list[_Part]) -> list[Any]:
        for part in parts:
            if isinstance(part.packed, bytes) and len(part.packed) > LARGE:
                name = await self._passing.put(part.packed)
                part.packed = ["file", name]
                part.done.add_done_callback(lambda _, name=name: self._spawn(self._passing.drop(name)))
        return [part.row() for part in parts]

    # -- from others

    def _received(self, rows: list[Any], reply: Reply) -> None:
        if any(isinstance(row[2], list) for row in rows):
            self._spawn(self._fetch_and_receive(rows, reply))
        else:
            reply([self._put(row) for row in rows])

    async def _fetch_and_receive(self, rows: list[Any], reply: Reply) -> None:
        """Take events of which some are in the store of files. Their node waits for the answer with the next ones."""
        for row in rows:
            if isinstance(row[2], list):
                row[2] = await self._passing.get(row[2][1])
        reply([self._put(row) for row in rows])

    def _put(self, row: list[Any]) -> list[Any]:
        owner, event_id, packed, size, source, is_told, ids = row
        event = Event.from_dict(unpack(packed))
        parcel = Parcel((owner, event_id), event, size, source, is_told)
        receipt = self._agents.receive(parcel, ids)
        return [receipt.reached, receipt.full, receipt.gone, receipt.away, receipt.lost]

    # -- within

    def _nothing(self, receipt: Receipt) -> asyncio.Future[Receipt]:
        done: asyncio.Future[Receipt] = asyncio.get_running_loop().create_future()
        done.set_result(receipt)
        return done

    def _spawn(self, work: Any) -> asyncio.Task[Any]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task
