"""Where agents are at home, and how they move from one node to another.

An agent moves when it connects elsewhere: the new node writes itself into the agent's key (with the
revision that it knows, so that of two nodes one wins), asks the former home for what the agent takes
along, and only then lets the agent take events. A former home that is gone is asked no more: what
waited there is read from the stream (`inboxes.py`), if inboxes are kept.

What an agent takes along goes the way of its homes, one after the other, in the order of the revisions
of its key. If two nodes bring it at once, one of them may be its home for a moment, and pass on what
came from the home before. So each question says which revision made the asking node the home.

Events that come meanwhile are put behind what is on its way.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from ....ipc.errors import Code, ModvisorError
from ...agents import Agent, Leg, Luggage, Parcel, Receipt, SharedAgents
from ..link.errors import ClusterError
from ..link.link import Link
from ..link.wire import Reply
from .deliveries import Deliveries
from .filed import FiledAnswers
from .inboxes import Keeping, KeptInbox, event_of
from .store import BucketStore

logger = logging.getLogger("modvisor.cluster")

PATIENCE = 10.0
"""Seconds in which a move must end. No key of the network file: the agent tries again."""

ANSWER = 2.0  # seconds until a former home is asked again
PAGE = 256 * 1024
"""Bytes of events in one answer of a former home, unless one event is larger."""

_KEPT_FOR = 60.0  # seconds that what an agent took along is kept, for the case that the answer was lost
_TRIES = 5  # against other nodes that write the same agent
_TELL_SEEN = 5.0  # seconds between two words to a home that its agents are alive
_PAUSE = 0.05


class Nodes(Protocol):
    """Which nodes are in the network; see `session.Session`."""

    @property
    def nodes(self) -> Mapping[str, Any]: ...

    @property
    def listeners(self) -> list[Callable[[], None]]: ...


@dataclass(slots=True)
class _Move:
    """A move that is under way.

    Attributes:
        waiting: how many wait for it.
        is_parked: none of them has connected here.
    """

    task: asyncio.Task[None]
    waiting: int = 0
    is_parked: bool = True


class Homes:
    """The homes of agents, as one node sees them; `agents.Elsewhere` for its registry.

    Args:
        keeping: writes the inboxes; None: they are in memory alone.
    """

    def __init__(
        self, link: Link, nodes: Nodes, agents: SharedAgents, store: BucketStore, keeping: Keeping | None
    ) -> None:
        self._link, self._nodes, self._agents, self._store, self._keeping = link, nodes, agents, store, keeping
        self._deliveries = Deliveries(link, agents, self)
        self._pages = FiledAnswers(link, "inbox")
        self._moves: dict[str, _Move] = {}
        self._leaving: dict[tuple[str, str, int], list[Luggage]] = {}  # what an agent took along to a node, in pages
        self._has_read = asyncio.Event()  # what an earlier run kept; before it, nothing is given away
        self._known: set[str] = set()
        self._seen: dict[str, set[str]] = {}  # agents of other nodes that were seen here, by home
        self._telling: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[Any]] = set()

    async def open(self) -> None:
        """Take events and questions of other nodes from now on."""
        node = self._link.node
        self._known = set(self._nodes.nodes)
        self._nodes.listeners.append(self._nodes_changed)
        await self._link.serve(self._link.subject("node", node, "release"), self._asked)
        await self._link.serve(self._link.subject("node", node, "seen"), self._seen_elsewhere)
        await self._link.serve(self._link.subject("all", "kicked"), self._kicked_elsewhere)
        await self._bring_back()
        self._has_read.set()
        await self._deliveries.open()

    async def close(self) -> None:
        """Give up the moves that are under way, and write the inboxes of this node."""
        await self._end()
        if self._keeping is not None:
            await self._keeping.close()

    async def abandon(self) -> None:
        """Give up the moves that are under way, and write nothing more: other nodes may be the homes by now."""
        await self._end()
        if self._keeping is not None:
            await self._keeping.abandon()

    async def _end(self) -> None:
        if self._nodes_changed in self._nodes.listeners:
            self._nodes.listeners.remove(self._nodes_changed)
        if self._telling is not None:
            self._telling.cancel()
        await self._deliveries.close()
        for task in (*self._tasks, *(move.task for move in self._moves.values())):
            task.cancel()

    # -- what the registry asks for

    def carry(self, parcel: Parcel) -> asyncio.Future[Receipt]:
        return self._deliveries.carry(parcel)

    def is_there(self, node: str) -> bool:
        return node == self._link.node or node in self._nodes.nodes

    @property
    def is_first(self) -> bool:
        return self._link.node == min((*self._nodes.nodes, self._link.node))

    def left(self, agent: Agent) -> None:
        self._forget_pages(agent.agent_id)
        sees_to_it = agent.home == self._link.node or (agent.home is None or not self.is_there(agent.home))
        if self._keeping is not None and sees_to_it:
            self._keeping.forget(agent)

    def kicked(self, agent_id: str) -> None:
        self._link.tell(self._link.subject("all", "kicked"), agent_id)

    def seen(self, agent: Agent) -> None:
        if agent.home is None:
            return
        self._seen.setdefault(agent.home, set()).add(agent.agent_id)
        if self._telling is None:
            self._telling = asyncio.get_running_loop().call_later(_TELL_SEEN, self._tell_seen)

    def _tell_seen(self) -> None:
        self._telling = None
        seen, self._seen = self._seen, {}
        for home, ids in seen.items():
            self._link.tell(self._link.subject("node", home, "seen"), sorted(ids))

    def _seen_elsewhere(self, ids: list[str], _: Reply) -> None:
        for agent_id in ids:
            agent = self._agents.get(agent_id)
            if agent is not None and agent.home == self._link.node:
                self._agents.seen(agent)

    def _kicked_elsewhere(self, agent_id: str, _: Reply) -> None:
        self._agents.keep_away(agent_id)

    def _nodes_changed(self) -> None:
        present = set(self._nodes.nodes)
        for node in self._known - present:
            self._agents.lost(node)
        self._known = present

    # -- to this node

    async def bring(self, agent: Agent, *, is_parked: bool = False) -> None:
        """Make this node the home of an agent, and bring here what waits for it.

        Args:
            is_parked: the agent has not connected here. If it is still connected to a node that was only
                cut off, that node has it connect again, instead of telling it that somebody else goes on as it.

        Raises:
            ModvisorError: the servers or the former home do not answer. The agent may try again.
        """
        move = self._moves.get(agent.agent_id)
        if (
            move is None or move.task.done()
        ):  # of one that has ended without becoming the home there is nothing to wait for
            task = asyncio.get_running_loop().create_task(self._move(agent.agent_id))
            task.add_done_callback(lambda _: self._ended(agent.agent_id, task))
            move = self._moves[agent.agent_id] = _Move(task)
        move.waiting += 1
        move.is_parked = move.is_parked and is_parked
        try:
            await asyncio.shield(move.task)  # whoever waits may give up, and others may wait, too
        finally:
            move.waiting -= 1

    def _ended(self, agent_id: str, task: asyncio.Task[None]) -> None:
        if self._moves[agent_id].task is task:
            del self._moves[agent_id]

    async def _move(self, agent_id: str) -> None:
        until, move = asyncio.get_running_loop().time() + PATIENCE, self._moves[agent_id]
        for _ in range(_TRIES):
            agent = self._agents.get(agent_id)
            if agent is None:
                return
            if agent.home != self._link.node and not await self._settle(agent, move.is_parked):
                if not move.waiting:  # the agent has given up here, and gone to the node that was faster
                    return
                if move.is_parked and agent.home is not None and self.is_there(agent.home):  # it is connected there
                    return
                continue
            await self._arrive(agent_id, until)
            if self._agents.get(agent_id) is agent and agent.home == self._link.node:
                return
        text = f"agent {agent_id!r} connects at several nodes at once, and no node could become its home; try again"
        raise ModvisorError(text, code=Code.CONFLICT)

    async def _settle(self, agent: Agent, is_parked: bool) -> bool:
        """Write this node into the agent's key. False: another node was faster."""
        wanted = {**self._agents.record_of(agent), "home": self._link.node, "parked": is_parked}
        _, saved = self._store.together("home", lambda: self._store.record("register", wanted))
        try:
            await saved
        except ModvisorError as error:
            if error.code == Code.CONFLICT:
                await self._store.learned("register", wanted)  # else the next try is refused, too
                return False
            raise
        if self._agents.get(agent.agent_id) is not agent:
            return False
        if isinstance(agent.inbox, KeptInbox):  # a node that was cut off: the home since then has what was written
            agent.inbox.doubt_written()
        self._agents.settle_here(agent, self._store.revision_of(agent.agent_id))
        return True

    async def _arrive(self, agent_id: str, until: float, before: int | None = None) -> None:
        """Bring what is still to come for an agent: what it took along to here, one move after the other.

        Args:
            before: leave the moves that came with this revision of its key or a later one.
        """
        while (leg := self._next_leg(agent_id, before)) is not None:
            async with leg.lock:
                if self._next_leg(agent_id, before) is leg:
                    await self._bring_leg(agent_id, leg, until)

    def _next_leg(self, agent_id: str, before: int | None) -> Leg | None:
        legs, agent = self._agents.arriving.get(agent_id), self._agents.get(agent_id)
        if legs is None or agent is None:
            return None
        leg = legs[0]
        if leg.revision is None:  # it stays the same from now on: the former home keeps by it what it gives
            went_on = agent.home != self._link.node or len(legs) > 1
            known = self._store.revision_of(agent_id)
            leg.revision = (known if before is None else min(before, known)) - 1 if went_on else known
        return leg if before is None or leg.revision < before else None

    async def _bring_leg(self, agent_id: str, leg: Leg, until: float) -> None:
        agent, luggage = self._agents.get(agent_id), None
        assert agent is not None
        assert leg.revision is not None
        if leg.former is not None and leg.former != self._link.node:
            luggage = await self._luggage(agent_id, leg.former, leg.revision, until)
        if isinstance(agent.inbox, KeptInbox):
            agent.inbox.drop_doubted()
        if luggage is None:
            luggage = await self._kept(agent)
        present = self._agents.get(agent_id)  # with a new secret it is another object
        if self._agents.arrived(agent_id, leg) and present is not None:
            self._take_in(present, luggage)

    def _take_in(self, agent: Agent, luggage: Luggage) -> None:
        self._forget_pages(agent.agent_id)
        self._agents.take_in(agent, luggage)
        if isinstance(agent.inbox, KeptInbox):
            agent.inbox.keep_as(luggage["kept"], luggage["taken"])

    async def _luggage(self, agent_id: str, former: str, revision: int, until: float) -> Luggage | None:
        """Ask a former home for what an agent takes along; None: that node is gone, or knows nothing of it."""
        pages: list[Luggage] = []
        subject = self._link.subject("node", former, "release")
        while self.is_there(former):
            try:
                question = [agent_id, self._link.node, revision, len(pages)]
                said = await self._pages.taken(await self._link.ask(subject, question, timeout=ANSWER))
            except (ClusterError, TimeoutError) as error:
                if asyncio.get_running_loop().time() > until:
                    text = f"node {former!r}, where agent {agent_id!r} was at home, does not answer; try again"
                    raise ModvisorError(text, code=Code.TIMEOUT) from error
                await asyncio.sleep(_PAUSE)
                continue
            if said is None:
                return None
            page, count = said
            pages.append(page)
            if len(pages) == count:
                self._link.tell(subject, [agent_id, self._link.node, revision, None])
                return _joined(pages)
        return None

    async def _kept(self, agent: Agent) -> Luggage:
        """Return what the stream holds for an agent whose former home is gone."""
        if self._keeping is None:
            return _nothing()
        return self._from_stream(agent, await self._keeping.read(agent))

    def _from_stream(self, agent: Agent, messages: list[tuple[int, Any]]) -> Luggage:
        luggage, inbox = _nothing(), agent.inbox
        items = inbox.items() if isinstance(inbox, KeptInbox) else []
        known = {self._agents.key_of(event) for event, *_ in items}
        written = set(inbox.numbers.values()) if isinstance(inbox, KeptInbox) else set[int]()
        for number, body in messages:
            key = self._agents.key_of(event_of(body)[0])
            if number in written:
                continue
            if key in known:  # it was written twice, or is here already
                self._spawn(self._drop(number))
                continue
            known.add(key)
            luggage["waiting"].append(body)
            luggage["kept"].append(number)
            luggage["given"].append(list(key))
        return luggage

    async def _drop(self, number: int) -> None:
        assert self._keeping is not None
        try:
            await self._keeping.drop(number)
        except ModvisorError as error:
            logger.info("message %d stays in the stream of inboxes: %s", number, error)

    async def _bring_back(self) -> None:
        """Read what an earlier run of this node kept of the agents that are at home here."""
        if self._keeping is None:
            return
        self._keeping.start()
        here = {self._keeping.subject(each): each for each in self._agents if each.home == self._link.node}
        if not here:
            return
        for subject, messages in (await self._keeping.read_all()).items():
            agent = here.get(subject)
            if agent is not None and self._agents.get(agent.agent_id) is agent and agent.home == self._link.node:
                self._take_in(agent, self._from_stream(agent, messages))

    # -- from this node

    def _asked(self, body: list[Any], reply: Reply) -> None:
        agent_id, home, revision, number = body
        if number is None:
            self._leaving.pop((agent_id, home, revision), None)
        else:
            self._spawn(self._release((agent_id, home, revision), number, reply))

    async def _release(self, key: tuple[str, str, int], number: int, reply: Reply) -> None:
        agent_id, _, revision = key
        try:
            async with asyncio.timeout(ANSWER):
                await self._has_read.wait()
                await self._store.reached(agent_id, revision)
                # Not what is to come later than the asking node has it: that node brings it here itself.
                await self._arrive(agent_id, asyncio.get_running_loop().time() + ANSWER, before=revision)
        except (TimeoutError, ModvisorError):
            return  # the other node asks again
        if number == 0 and key not in self._leaving:  # else it is packed, and the answer was lost
            self._pack(key)
        pages = self._leaving.get(key)
        try:
            await self._pages.give(
                reply, None if pages is None or number >= len(pages) else [pages[number], len(pages)]
            )
        except ModvisorError as error:  # the other node asks again
            logger.warning("what agent %s takes along cannot be sent: %s", agent_id, error)

    def _pack(self, key: tuple[str, str, int]) -> None:
        agent = self._agents.get(key[0])
        if agent is None or not self._holds(agent):
            return
        inbox = agent.inbox
        numbers, taken = inbox.let_go() if isinstance(inbox, KeptInbox) else ([], [])
        luggage = {**self._agents.give_away(agent), "kept": numbers, "taken": taken}
        self._leaving[key] = pages = _pages(luggage)
        loop = asyncio.get_running_loop()
        loop.call_later(_KEPT_FOR, lambda: self._leaving.get(key) is pages and self._leaving.pop(key))

    def _holds(self, agent: Agent) -> bool:
        """Return whether this node holds something that an agent takes along when it moves.

        That it has got events here counts, too, also if it took all of them: the stream may still
        have them, and they may be sent again.
        """
        inbox = agent.inbox
        is_here = agent.home == self._link.node or self._agents.has_got(agent)
        return is_here or bool(inbox) or inbox.has_pushed or bool(agent.subscriptions)

    def _forget_pages(self, agent_id: str) -> None:
        """Forget what an agent took along from here before."""
        for key in [key for key in self._leaving if key[0] == agent_id]:
            del self._leaving[key]

    def _spawn(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _nothing() -> Luggage:
    empty: Luggage = {"epoch": None, "handled": 0, "dropped": 0, "losses": {}}
    return {**empty, "pushed": [], "waiting": [], "subscriptions": [], "given": [], "kept": [], "taken": []}


def _pages(luggage: Luggage) -> list[Luggage]:
    """Part what an agent takes along, so that each page fits in a message. The first has all but most events."""
    pages = [{**luggage, "pushed": [], "waiting": [], "kept": luggage["kept"]}]
    size = 0
    for kind in ("pushed", "waiting"):
        for item in luggage[kind]:
            if size and size + len(item[0]) > PAGE:
                pages.append({"pushed": [], "waiting": []})
                size = 0
            pages[-1][kind].append(item)
            size += len(item[0]) + 100
    return pages


def _joined(pages: list[Luggage]) -> Luggage:
    first, *rest = pages
    for page in rest:
        first["pushed"] += page["pushed"]
        first["waiting"] += page["waiting"]
    return first
