"""What goes up and what goes down: whom the keepers of a network tell, and what they share.

A keeper imports nothing of the network above it. What it needs comes down as data (`Shared`, with the
`Recipe`); what it has to say goes up to one `Listener`.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

from anyio.abc import TaskGroup

from ...ipc.messages import Request
from ..calls import Caller, Crew, Late, Ledger
from ..config import ModConfig
from ..journal import Journal, KeptMod
from ..process import Launcher
from .heartbeats import Heartbeats
from .incarnation import Incarnation
from .starting import Recipe
from .trial import Probation

K = TypeVar("K", contravariant=True)


class Listener(Protocol[K]):
    """Is told what happens to the mods, and answers what only the whole network knows.

    ``K`` is the type of the keepers. The methods are called in the network's loop and must not block.
    """

    def changed(self) -> None:
        """Follow a change of a state, a version or patterns: the routes may be different."""
        ...

    def request(self, keeper: K, incarnation: Incarnation, request: Request, /) -> None:
        """Answer a request of a worker."""
        ...

    def cancelled(self, incarnation: Incarnation, request_id: int | None, /) -> None:
        """Drop a request that a worker gave up.

        None: all of its requests, because its pipe ended.
        """
        ...

    @property
    def late_answer(self) -> Late:
        """Takes an answer that nobody waits for any more."""
        ...

    def recycle(self, keeper: K, reason: str) -> None:
        """Replace the worker by a fresh one of the same version, soon."""
        ...

    def revert(self, keeper: K, probation: Probation, why: str) -> None:
        """Replace the version on probation by the previous one, soon."""
        ...

    def reverted(self, keeper: K, what: str) -> None:
        """Follow up after the previous version has taken over again."""
        ...

    def entry_of(self, keeper: K, config: ModConfig, /) -> KeptMod | None:
        """Return what the journal keeps of a mod that becomes ``config``; None: nothing."""
        ...

    def check_needs(self, config: ModConfig) -> None:
        """Raise `ModvisorError` unless the mods that ``config`` requires are loaded."""
        ...

    def admit(self, name: str, config: ModConfig, version: str) -> None:
        """Raise `ModvisorError` unless the mods that need ``name`` accept this version of it."""
        ...

    def resources_of(self, pid: int, /) -> dict[str, Any] | None:
        """Return the newest resource sample of a process, as plain data."""
        ...


@dataclass(frozen=True, slots=True)
class Shared:
    """What all keepers of a network share.

    Attributes:
        recipe: says what the next worker must know; ``launcher`` starts its process.
        ledger: keeps account of events that died with an incarnation.
        event_timeout: seconds an event has unless it says otherwise.
        tasks: the network's root task group.
        listener: whom the keepers tell what happens.
        caller: makes what asks a mod about events.
        heartbeats: asks their workers whether they hang.
        crew: runs the tasks of the group that each start has, at a fraction of the price.
    """

    recipe: Recipe
    launcher: Launcher
    journal: Journal
    ledger: Ledger
    event_timeout: float
    tasks: TaskGroup
    listener: Listener[Any]
    caller: type[Caller] = Caller
    heartbeats: Heartbeats = field(default_factory=Heartbeats)
    crew: Crew = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "crew", Crew(self.tasks))

    def start(self, function: Callable[..., Coroutine[Any, Any, None]], *args: Any) -> None:
        """Call a coroutine function, which ends by itself, in a task of the group."""
        self.crew.start(function, *args)
        self.crew.dismiss()  # with the last of them: an idle network has no task for none
