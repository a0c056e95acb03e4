"""Routes: the mods that an event goes to, in order.

Pure: it knows patterns and the load order (`load_order` makes it: the order of the network file, then
the order in which mods were loaded), and no processes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from ....ipc.address import MOD
from ....ipc.topic import TopicTable
from ...config import Split

T = TypeVar("T")

CACHE_SIZE = 4096  # a bound, because event names come from outside


@dataclass(frozen=True, slots=True)
class Route(Generic[T]):
    """The mods that get an event: ``asked`` in load order, ``observers`` get copies."""

    asked: tuple[T, ...]
    observers: tuple[T, ...]


@dataclass(frozen=True, slots=True)
class Entry(Generic[T]):
    """A mod as the router sees it.

    Attributes:
        target: what the caller gets back.
        split: how the sources are split among its family; None if it serves every source.
        path: what it is called besides its id; None: nothing.
        addresses: the sources of the events that it sends.
    """

    mod_id: str
    patterns: tuple[str, ...]
    observes: tuple[str, ...]
    target: T
    split: Split | None = None
    path: str | None = None
    addresses: tuple[str, ...] = field(init=False)

    def __post_init__(self) -> None:
        names = (self.mod_id,) if self.path is None else (self.mod_id, self.path)
        object.__setattr__(self, "addresses", tuple(f"{MOD}:{name}" for name in names))


class Router(Generic[T]):
    """The mods in load order, and a cache of routes by event name.

    Attributes:
        known: by destination and event name, the one mod that is known to handle such events from
            every source.
        usual: the same as `known`; empty if there are observers, who get copies of all these events.
    """

    def __init__(self) -> None:
        self._asked: TopicTable[int] = TopicTable()
        self._observers: TopicTable[int] = TopicTable()
        self._entries: list[Entry[T]] = []
        self._renewed: Callable[[], Iterable[Entry[T]]] | None = None  # until the tables fit its entries
        self.has_observers = False
        self._cache: dict[str, Route[Entry[T]]] = {}
        self.known: dict[tuple[str | None, str], T] = {}
        self.usual = self.known

    def replace(self, entries: Callable[[], Iterable[Entry[T]]], has_observers: bool) -> None:
        """Route among other entries from now on.

        Args:
            entries: returns them in load order. Called at the next event, because a start and an
                unload replace the entries several times.
            has_observers: whether one of them observes.
        """
        self._renewed = entries
        self._entries = []  # a mod that was unloaded is not held until the next event
        self.has_observers = has_observers
        self._cache, self.known = {}, {}
        self.usual = {} if self.has_observers else self.known

    def arranged(self) -> list[Entry[T]]:
        """Return the entries in load order. Put their patterns into tables, if that was not done yet."""
        if (renewed := self._renewed) is not None:
            self._renewed = None
            self._arrange(list(renewed()))
        return self._entries

    def _arrange(self, entries: list[Entry[T]]) -> None:
        self._entries = entries
        self._asked, self._observers = TopicTable(), TopicTable()
        for index, entry in enumerate(self._entries):
            for pattern in entry.patterns:
                self._asked.add(pattern, index)
            for pattern in entry.observes:
                self._observers.add(pattern, index)

    def route(self, event_name: str) -> Route[Entry[T]]:
        """Return the mods that an event of this name goes to. The caller leaves out its source."""
        route = self._cache.get(event_name)
        if route is None:
            self.arranged()
            if len(self._cache) >= CACHE_SIZE:
                self._cache.clear()
            route = self._cache[event_name] = Route(
                self._in_load_order(self._asked, event_name), self._in_load_order(self._observers, event_name)
            )
        return route

    def know(self, destination_id: str | None, event_name: str, target: T) -> None:
        """Keep ``target`` in `known` until the entries are replaced."""
        if len(self.known) >= CACHE_SIZE:
            self.known.clear()
        self.known[destination_id, event_name] = target

    def _in_load_order(self, table: TopicTable[int], event_name: str) -> tuple[Entry[T], ...]:
        return tuple(self._entries[index] for index in sorted(set(table.match(event_name))))
