"""What an agent may send, receive, use up and know, which its group says. Pure.

A group has one `Rights`, and each agent refers to that of its group. What is asked for every event
is prepared: an agent that may send everything is not `is_gated`, and a name of an event is compared
with patterns once.
"""

from __future__ import annotations

from collections.abc import Iterable

from ....ipc.topic import matches
from ...config import ALL, AgentsConfig, GroupConfig, QuotaConfig
from .invites import is_reserved

_MOST_NAMES = 10_000  # event names that are remembered, of which strangers can invent any number
_NOBODY: frozenset[Rights] = frozenset()


class Patterns:
    """Patterns of event names. The names that were looked up are remembered."""

    def __init__(self, patterns: Iterable[str]) -> None:
        self._patterns = tuple(patterns)
        self._known: dict[str, bool] = {}

    def __contains__(self, name: str) -> bool:
        found = self._known.get(name)
        if found is None:
            if len(self._known) >= _MOST_NAMES:
                self._known.clear()
            found = self._known[name] = any(matches(pattern, name) for pattern in self._patterns)
        return found

    def __str__(self) -> str:
        return ", ".join(self._patterns) or "nothing"

    @property
    def is_everything(self) -> bool:
        return "*" in self._patterns

    def beyond(self, others: Patterns) -> list[str]:
        """Return those of these patterns that match a name which ``others`` do not match."""
        return [pattern for pattern in self._patterns if not any(_covers(other, pattern) for other in others._patterns)]

    def overlap(self, pattern: str) -> bool:
        """Return whether a name can match both ``pattern`` and one of these."""
        return any(_covers(each, pattern) or _covers(pattern, each) for each in self._patterns)


def _covers(wide: str, narrow: str) -> bool:
    """Return whether every name that matches ``narrow`` matches ``wide``."""
    if wide == "*" or wide == narrow:
        return True
    return wide.endswith(".*") and narrow != "*" and narrow.startswith(wide[:-1])


class Rights:
    """What the agents of one group may do, or those that are in no group.

    Attributes:
        permissions: which commands they may use.
        is_gated: whether what they send must be looked at.
        directory: which other agents they may know of.
        may_register: which reserved ids they may register.
        inbox_size, inbox_bytes, subscriptions: how much of each they may have.
    """

    __slots__ = ("directory", "inbox_bytes", "inbox_size", "is_gated", "may_register", "permissions", "quota",
                 "receive", "send", "subscriptions", "whose")  # fmt: skip

    def __init__(self, agents: AgentsConfig, group: GroupConfig | None = None) -> None:
        said = agents.guests if group is None else group
        self.whose = "agents in no group" if group is None else f"agent_group {group.name!r}"
        self.permissions: frozenset[str] = frozenset() if group is None else group.permissions
        self.may_register: tuple[str, ...] = () if group is None else group.may_register
        self.send, self.receive = Patterns(said.send), Patterns(said.receive)
        self.quota: QuotaConfig = said.quota
        self.directory = said.directory or agents.directory
        self.inbox_size = _or(said.quota.inbox_size, agents.inbox_size)
        self.inbox_bytes = _or(said.quota.inbox_bytes, agents.inbox_bytes)
        self.subscriptions = _or(said.quota.subscriptions, agents.subscriptions)
        paced = said.quota.events_per_second is not None or said.quota.bytes_per_second is not None
        self.is_gated = paced or not self.send.is_everything

    @property
    def knows_all(self) -> bool:
        """Whether these agents may know of every agent."""
        return self.directory == ALL or "agents" in self.permissions

    def beyond(self, others: Rights) -> list[str]:
        """Return in words what these agents may do, and ``others`` may not."""
        return [
            *sorted(self.permissions - others.permissions),
            *(f"send {pattern}" for pattern in self.send.beyond(others.send)),
            *(f"receive {pattern}" for pattern in self.receive.beyond(others.receive)),
            *self.registers_beyond(others.may_register),
        ]

    def registers_beyond(self, others: Iterable[str]) -> list[str]:
        """Return in words which ids these agents may register that match none of these patterns.

        A `*` of a pattern is matched by a `*` alone, which then matches all that it stands for.
        """
        return [f"register {pattern}" for pattern in self.may_register if not is_reserved(pattern, others)]


def _or(own: int | None, usual: int) -> int:
    return usual if own is None else own


class Rulebook:
    """The rights of all groups.

    Attributes:
        least_inbox: events and bytes that fit every inbox: an inbox that holds less need not be
            looked at twice.
    """

    def __init__(self, agents: AgentsConfig, groups: dict[str, GroupConfig]) -> None:
        self._without_group = Rights(agents)
        self._of = {name: Rights(agents, group) for name, group in groups.items()}
        every = [self._without_group, *self._of.values()]
        self.least_inbox = min(each.inbox_size for each in every), min(each.inbox_bytes for each in every)
        self._choosy = [each for each in every if not each.receive.is_everything]
        self._deaf: dict[str, frozenset[Rights]] = {}

    def of(self, group: str | None) -> Rights:
        """Return the rights of a group. A group that is no longer in the file gives none."""
        return self._without_group if group is None else self._of.get(group, self._without_group)

    def deaf(self, event_name: str) -> frozenset[Rights]:
        """Return the rights of those whom an event of this name does not reach."""
        if not self._choosy or event_name.startswith("system."):
            return _NOBODY
        found = self._deaf.get(event_name)
        if found is None:
            if len(self._deaf) >= _MOST_NAMES:
                self._deaf.clear()
            found = self._deaf[event_name] = frozenset(each for each in self._choosy if event_name not in each.receive)
        return found
