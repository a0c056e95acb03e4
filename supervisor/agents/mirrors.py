"""Copies of the agents, groups and channels of a network, which workers hold and the network keeps true.

A mod of another framework reads them in the middle of its code and cannot wait for an answer. So its
worker holds a copy, a *mirror*: first all that there is (`Mirror.pages`), then every change.

A change is told at the moment of the change, before anything that happens later. While the copy is
being sent, others have their turn between two pages, so agents and channels change meanwhile. What
is not sent yet is told by its page alone, with its value at that time; what is sent already is told
as a change. So nothing is queued, and no change can come before the value that it is about.

A change is a list that begins with what happened:

    ["agent", agent_id, metadata, group]    registered, or returned with other values
    ["gone", agent_id]                      after a "leave" for each of its channels
    ["join", channel, agent_id]             a channel begins with its first member
    ["leave", channel, agent_id]            and ends with its last
    ["close", channel]                      with all of its members
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

from ...ipc.messages import weight
from .agent import Agent

PAGE = 500
"""Agents or memberships on one page, and changes in one message."""

PAGE_WEIGHT = 1024 * 1024
"""Bytes of metadata above which a page ends early."""

REGISTERED, GONE, JOIN, LEAVE, CLOSE = "agent", "gone", "join", "leave", "close"

Change = list[Any]
Page = dict[str, Any]


class Original(Protocol):
    """What a mirror is a copy of."""

    def __iter__(self) -> Iterator[Agent]: ...
    def get(self, agent_id: str, /) -> Agent | None: ...
    def channels(self) -> list[str]: ...
    def channel_members(self, channel: str, /) -> list[str] | None: ...


class Mirrors:
    """All mirrors of a network."""

    def __init__(self) -> None:
        self._mirrors: dict[Mirror, None] = {}
        self._gathered: list[Change] | None = None

    def __len__(self) -> int:
        return len(self._mirrors)

    def add(self, mirror: Mirror) -> None:
        """Tell the mirror every change from now on, as far as it has the value before.

        Add it where it is made: it may miss no change in between.
        """
        self._mirrors[mirror] = None

    def remove(self, mirror: Mirror) -> None:
        """Tell the mirror nothing more."""
        self._mirrors.pop(mirror, None)

    def note(self, *change: Any) -> None:
        """Tell all mirrors a change that has just been made."""
        if not self._mirrors:
            return
        if self._gathered is not None:
            self._gathered.append(list(change))
        else:
            self._tell([list(change)])

    @contextmanager
    def together(self) -> Iterator[None]:
        """Tell the changes that are noted inside when they are all made.

        A pipe may break while it is written to. What follows from that must not happen in the middle
        of a change.
        """
        if self._gathered is not None:
            yield
            return
        gathered = self._gathered = []
        try:
            yield
        finally:
            self._gathered = None
            for begin in range(0, len(gathered), PAGE):
                self._tell(gathered[begin : begin + PAGE])

    def _tell(self, changes: list[Change]) -> None:
        for mirror in tuple(self._mirrors):
            mirror.tell(changes)


class Mirror:
    """One copy, as far as it has been sent.

    Args:
        send: takes changes, at the moment at which they happen. It must not raise.
    """

    def __init__(self, original: Original, send: Callable[[list[Change]], None]) -> None:
        self._original = original
        self._send = send
        self._ids, self._names = [agent.agent_id for agent in original], original.channels()
        self._agents_to_come, self._channels_to_come = set(self._ids), set(self._names)

    def tell(self, changes: list[Change]) -> None:
        """Send those changes whose values before have been sent."""
        if self._agents_to_come or self._channels_to_come:
            changes = [change for change in changes if not self._is_to_come(change)]
        if changes:
            self._send(changes)

    def _is_to_come(self, change: Change) -> bool:
        to_come = self._agents_to_come if change[0] in (REGISTERED, GONE) else self._channels_to_come
        return change[1] in to_come

    def pages(self) -> Iterator[list[Page]]:
        """Yield the whole copy, in steps.

        Send the pages of a step at once, and all of them once. Between two steps, agents and channels
        may change. Only the last page has ``last``.
        """
        pages = _Pages()
        for agent_id in self._ids:
            self._agents_to_come.discard(agent_id)
            if (agent := self._original.get(agent_id)) is not None:
                pages.put_agent(agent)
                if pages.full:
                    yield pages.taken()
        for name in self._names:
            self._channels_to_come.discard(name)
            pages.put_channel(name, self._original.channel_members(name) or ())
            if pages.full:
                yield pages.taken()
        self._ids, self._names = [], []
        yield pages.taken(last=True)


class _Pages:
    """Fills pages one after the other."""

    def __init__(self) -> None:
        self.full: list[Page] = []
        self._turn()

    def _turn(self) -> None:
        self._page: Page = {"agents": [], "channels": {}, "groups": {}, "last": False}
        self._count = self._weight = 0

    def _end_page(self) -> None:
        self.full.append(self._page)
        self._turn()

    def put_agent(self, agent: Agent) -> None:
        heavy = weight(agent.metadata)
        if self._weight and self._weight + heavy > PAGE_WEIGHT:
            self._end_page()
        entry = {"agent_id": agent.agent_id, "metadata": agent.metadata, "group": agent.group}
        self._page["agents"].append(entry)
        if agent.group is not None:
            self._page["groups"].setdefault(agent.group, []).append(agent.agent_id)
        self._weight += heavy
        self._counted()

    def put_channel(self, name: str, members: Iterable[str]) -> None:
        for agent_id in members:
            self._page["channels"].setdefault(name, []).append(agent_id)
            self._counted()

    def _counted(self) -> None:
        self._count += 1
        if self._count == PAGE:
            self._end_page()

    def taken(self, *, last: bool = False) -> list[Page]:
        """Return all values so far, also those of a page that is not full. They count as sent from now on."""
        self._page["last"] = last
        if last or self._count:
            self._end_page()
        full, self.full = self.full, []
        return full
