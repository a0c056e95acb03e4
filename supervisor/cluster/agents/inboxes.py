"""Keeps what waits in the inboxes of this node, so that it outlives the node.

Each event that waits is one message of a stream, below a subject of its agent. It is written soon
after its delivery and removed soon after the agent has taken it (`DELAY`): what an agent takes at
once is never written. A node that is killed loses what was delivered to it in that time, and what
was taken in that time comes again.

Only the home of an agent writes and removes. A new owner of an id has a subject of its own.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any, Protocol

from ....ipc.errors import ModvisorError
from ....ipc.event import Event
from ....ipc.messages import pack, unpack
from ...agents import Agent, Inbox
from ..link.errors import TooLarge
from ..link.names import Names

logger = logging.getLogger("modvisor.cluster")

DELAY = 0.02
"""Seconds that an event waits before it is written. No key of the network file: shorter, and events
are written that their agents take at once; longer, and a node that is killed loses more."""

AT_ONCE = 256  # messages that are on their way together
_AGAIN = 1.0  # seconds until the next try, if the servers did not answer

Message = tuple[Event, int, str]  # an event, its size and its source


class Log(Protocol):
    """Where the messages are; see `inbox_stream.InboxStream`."""

    async def write(self, subject: str, body: Any) -> int:
        """Return the number of the new message."""
        ...

    async def read(self, subject: str) -> list[tuple[str, int, Any]]:
        """Return subject, number and body of all messages below a subject, oldest first."""
        ...

    async def remove(self, subject: str, before: int | None) -> None:
        """Remove the messages of a subject whose numbers are below ``before``; None: all."""
        ...

    async def remove_one(self, number: int) -> None: ...


class KeptInbox(Inbox):
    """An inbox whose events are written to the stream.

    Attributes:
        unwritten: the events that are to be written, by identity, oldest first.
        numbers: of the written ones that still wait, by the identity of the event.
        removed: of the written ones that are out of here, and still in the stream.
        doubted: of the written ones that another home may have taken out of the stream meanwhile.
    """

    __slots__ = ("_changed", "doubted", "numbers", "removed", "unwritten")

    def __init__(self, changed: Callable[[], None]) -> None:
        super().__init__()
        self._changed: Callable[[], None] | None = changed
        self.unwritten: dict[int, Message] = {}
        self.numbers: dict[int, int] = {}
        self.removed: list[int] = []
        self.doubted: set[int] = set()

    def append(self, event: Event, size: int, source: str) -> None:
        super().append(event, size, source)
        self.unwritten[id(event)] = event, size, source
        if self._changed is not None:
            self._changed()

    def popleft(self) -> Event:
        return self._out(super().popleft())

    def _pop_pushed(self, pushed: Any) -> Message:
        item = super()._pop_pushed(pushed)
        self._out(item[0])
        return item

    def _drop(self, index: int, tally: Any) -> Message:
        item = super()._drop(index, tally)
        self._out(item[0])
        return item

    def _out(self, event: Event) -> Event:
        if self.unwritten.pop(id(event), None) is None and (number := self.numbers.pop(id(event), None)) is not None:
            self.removed.append(number)
            if self._changed is not None:
                self._changed()
        return event

    # -- moving

    def let_go(self) -> tuple[list[int | None], list[int]]:
        """Write and remove nothing from now on.

        Returns:
            the numbers of all events in here, oldest first, and those that are still to be removed.
        """
        numbers, removed = [self.numbers.get(id(event)) for event, *_ in self.items()], self.removed
        self.unwritten, self.numbers, self.removed, self.doubted = {}, {}, [], set()
        return numbers, removed

    def doubt_written(self) -> None:
        """Note which events another home may have read from the stream while the agent was not at home here."""
        self.doubted.update(self.numbers.values())

    def drop_doubted(self) -> None:
        """Take the doubted events out, and leave their messages where they are."""
        doubted = self.doubted & set(self.numbers.values())
        self.doubted = set()
        if not doubted:
            return
        kept = [(item, number) for item in self.items() if (number := self.numbers.get(id(item[0]))) not in doubted]
        removed = self.let_go()[1]
        self.take_pushed(len(self.pushed))
        while self:
            self.popleft()
        for item, _ in kept:
            self.append(*item)
        self.keep_as([number for _, number in kept], removed)

    def keep_as(self, numbers: list[int | None], taken: list[int]) -> None:
        """Take over the messages of the oldest events in here, which another home has written.

        Args:
            taken: messages that the other home was still to remove.
        """
        for (event, *_), number in zip(self.items(), numbers, strict=False):
            if number is not None and self.unwritten.pop(id(event), None) is not None:
                self.numbers[id(event)] = number
        if taken:
            self.removed += taken
            if self._changed is not None:
                self._changed()

    def items(self) -> list[Message]:
        """Return all events in here, oldest first."""
        return [*self.pushed.items, *(item for item in self.events if item is not None)]


class Keeping:
    """Writes the inboxes of this node to the stream.

    Args:
        node: the name of this node, which writes what is at home here.
        find: returns the agent of an id.
    """

    def __init__(self, log: Log, names: Names, node: str, find: Callable[[str], Agent | None]) -> None:
        self._log, self._names, self._node, self._find = log, names, node, find
        self._changed: set[str] = set()
        self._gone: set[str] = set()  # subjects of agents that are no more
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._busy = asyncio.Lock()

    def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name="inboxes")

    async def close(self) -> None:
        """Write what is not written yet."""
        await self.abandon()
        try:
            await self.flush()
        except Exception as error:  # noqa: BLE001 - told, and the node ends all the same
            logger.warning("what waits in the inboxes of this node could not be written: %s", error)

    async def abandon(self) -> None:
        """Write nothing more."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    def inbox(self, agent_id: str) -> KeptInbox:
        """Make the inbox of an agent."""

        def changed() -> None:
            self._changed.add(agent_id)
            self._wake.set()

        return KeptInbox(changed)

    def forget(self, agent: Agent) -> None:
        """Remove what is kept of an agent that is gone."""
        self._gone.add(self.subject(agent))
        self._wake.set()

    def subject(self, agent: Agent) -> str:
        return self._names.subject("inbox", agent.agent_id, f"{agent.registered_at * 1e6:.0f}")

    async def read(self, agent: Agent) -> list[tuple[int, Any]]:
        """Return number and body of the messages of an agent, oldest first."""
        await self._busy.acquire()  # what is being written now is read, too
        self._busy.release()
        return [(number, body) for _, number, body in await self._log.read(self.subject(agent))]

    async def read_all(self) -> dict[str, list[tuple[int, Any]]]:
        """Return the messages of all agents, by their subjects."""
        found: dict[str, list[tuple[int, Any]]] = {}
        for subject, number, body in await self._log.read(f"{self._names.subject('inbox')}.>"):
            found.setdefault(subject, []).append((number, body))
        return found

    async def drop(self, number: int) -> None:
        await self._log.remove_one(number)

    # -- writing

    async def _run(self) -> None:
        while True:
            await self._wake.wait()
            await asyncio.sleep(DELAY)
            self._wake.clear()
            try:
                await self.flush()
            except Exception as error:  # noqa: BLE001 - the servers come back, and what waits is still here
                logger.warning("the inboxes of this node cannot be written now: %s", error)
                await asyncio.sleep(_AGAIN)
                self._wake.set()

    async def flush(self) -> None:
        """Write what has changed. Raises what the servers say; what was not written is written later."""
        async with self._busy:
            changed, self._changed = self._changed, set()
            gone, self._gone = self._gone, set()
            try:
                await self._flush(changed, gone)
            except BaseException:  # if it was cancelled, too: the last flush of a node that ends has the rest
                self._changed |= changed
                self._gone |= gone
                raise

    async def _flush(self, changed: set[str], gone: set[str]) -> None:
        found = [agent for each in changed if (agent := self._find(each)) is not None]
        agents = [agent for agent in found if agent.home == self._node]
        writes = [write for agent in agents for write in self._writes(agent)]
        failures: list[BaseException] = []
        for begin in range(0, len(writes), AT_ONCE):
            done = await asyncio.gather(
                *(self._write(*write) for write in writes[begin : begin + AT_ONCE]), return_exceptions=True
            )
            failures += [each for each in done if each is not None]
        for agent in agents:
            failures += await self._tried(self._remove(agent))
        for subject in gone:
            failures += await self._tried(self._log.remove(subject, None))
        if failures:
            raise failures[0]

    @staticmethod
    async def _tried(work: Any) -> list[BaseException]:
        try:
            await work
        except Exception as error:  # noqa: BLE001 - raised when all has been tried
            return [error]
        return []

    def _writes(self, agent: Agent) -> list[tuple[str, KeptInbox, Message]]:
        inbox = agent.inbox
        if not isinstance(inbox, KeptInbox):
            return []
        subject = self.subject(agent)
        return [(subject, inbox, item) for item in inbox.unwritten.values()]

    async def _write(self, subject: str, inbox: KeptInbox, item: Message) -> None:
        event, size, source = item
        if id(event) not in inbox.unwritten:  # taken meanwhile
            return
        try:
            packed = pack(event.to_dict())
        except ModvisorError:  # an event of this process alone
            inbox.unwritten.pop(id(event), None)
            return
        unwritten = inbox.unwritten
        try:
            number = await self._log.write(subject, [packed, size, source])
        except TooLarge as error:  # tried again, it would hold up what others wait for
            inbox.unwritten.pop(id(event), None)
            logger.warning("event %s is kept in memory alone until its agent takes it: %s", event.event_id, error)
            return
        if inbox.unwritten.pop(id(event), None) is not None:
            inbox.numbers[id(event)] = number
        elif inbox.unwritten is unwritten:  # taken meanwhile; what cannot be removed now is removed later
            inbox.removed.append(number)
        else:  # moved away meanwhile
            await self._log.remove_one(number)

    async def _remove(self, agent: Agent) -> None:
        """Remove from the stream what was taken out of an inbox: all before the oldest that waits, then the others."""
        inbox = agent.inbox
        if not isinstance(inbox, KeptInbox) or not inbox.removed:
            return
        removed, inbox.removed = inbox.removed, []
        oldest = min(inbox.numbers.values(), default=max(removed) + 1)
        try:
            if min(removed) < oldest:
                await self._log.remove(self.subject(agent), oldest)
            for number in removed:
                if number > oldest:
                    await self._log.remove_one(number)
        except BaseException:
            inbox.removed += removed
            raise


def event_of(body: Any) -> Message:
    """Return the event of a message, its size and its source."""
    packed, size, source = body
    return Event.from_dict(unpack(packed)), size, source
