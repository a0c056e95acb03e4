"""The way of an agent's events to a connection that they are pushed on.

An agent has one live stream at most; a newer one takes over. The connection is woken when events
may have come, and takes as many as it can send. What it takes stays in the inbox until the agent
says that it has handled it: a later stream pushes the rest again.
"""

from __future__ import annotations

from collections.abc import Callable

from ...ipc.event import Event
from .agent import Agent, Arrival
from .rights.refusal import Refusal


class Stream:
    """What one connection takes out of the inbox of one agent.

    Args:
        find: returns the agent that has an id now.
        wake: called when there may be something to take, or when the stream has ended.
        cursor: of the last event that the agent has handled; None: it does not say.

    Attributes:
        resumed: whether the cursor was one of this inbox: the agent gets what is behind it, and nothing twice.
        kind: of the connection, for people.
        is_moved: it has ended because the agent's inbox is at another node now, to which nobody connected as the agent.
    """

    kind = "ws"

    def __init__(
        self,
        agent: Agent,
        find: Callable[[str], Agent | None],
        wake: Callable[[], None],
        cursor: str | None = None,
    ) -> None:
        self.agent = agent
        self._find = find
        self._pushed = agent.inbox.pushed
        self._wake = wake
        known = None if cursor is None else self._pushed.number_of(cursor)
        self.resumed = known is not None
        self.is_moved = False
        if known is not None:
            agent.inbox.handled(known)
        self._at = self._pushed.handled
        self._begin()

    def _begin(self) -> None:
        agent = self.agent
        if agent.stream is not None:
            agent.stream.give_way()
        agent.stream = self
        agent.arrival = agent.arrival or Arrival()
        agent.arrival.wake = self._wake
        agent.polling += 1  # it does not expire

    def give_way(self, *, is_moved: bool = False) -> None:
        """End, since a newer stream of the agent takes over; see `is_moved` for the other reason."""
        self.is_moved = is_moved
        self.close()
        self._wake()

    @property
    def is_gone(self) -> bool:
        """Whether no agent has the id any more."""
        return self._find(self.agent.agent_id) is None

    @property
    def is_replaced(self) -> bool:
        """Whether the agent is on another connection now, or has another secret."""
        return self.agent.stream is not self or self._find(self.agent.agent_id) is not self.agent

    @property
    def cursor(self) -> str:
        """Where the stream stands: of the event that was taken last."""
        return self._pushed.cursor(self._at)

    def take(self) -> tuple[str, Event] | None:
        """Return the next event, with its cursor; None: there is none. Nobody may change the event."""
        inbox, pushed = self.agent.inbox, self._pushed
        self._at = max(self._at, pushed.handled)  # some may have been dropped
        if self._at == pushed.last and not inbox.push():
            return None
        self._at += 1
        return pushed.cursor(self._at), pushed.numbered(self._at)

    def handled(self, cursor: str) -> None:
        """Take everything up to this cursor out of the inbox.

        Raises:
            Refusal: bad_input: no event was pushed with this cursor.
        """
        number = self._pushed.number_of(cursor)
        if number is None or number > max(self._at, self._pushed.handled):
            raise Refusal(f"cursor: no event was pushed with the cursor {cursor[:40]!r}; the last is {self.cursor!r}")
        self.agent.inbox.handled(number)

    def keep_only(self, newest: int) -> None:
        """Take all but the newest pushed events out of the inbox: they count as handled."""
        self.agent.inbox.handled(min(self._at, self._pushed.last - newest))

    def close(self) -> None:
        """End the stream. It may be called again."""
        agent = self.agent
        if agent.stream is not self:
            return
        agent.stream = None
        agent.polling -= 1
        if agent.arrival is not None:
            agent.arrival.wake = None
