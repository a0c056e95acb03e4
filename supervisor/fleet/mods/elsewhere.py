"""A mod of the network that runs on another node: it is asked there, and looks like any mod here.

Each node has an entry for every mod of the network, in the same load order. If the mod runs here, the
entry is its keeper; if not, it is a `ModElsewhere`. The router, the families and the walk of an event
know no difference: `ask` is the one place where the ways part.
"""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any, Protocol

import anyio

from ....ipc.errors import Code
from ....ipc.event import Event, EventResponse
from ....ipc.manifest import Manifest
from ...calls import Answer, Journey, ModCounters
from ...config import ModConfig
from ...lifecycle import Incarnation, Keeper, StartFailed, State
from ...sources import SourceFiles


class Asking(Protocol):
    """Asks the node that runs a mod.

    ``part`` is the number of one of the mod's copies, or None if it has no copies.
    """

    async def ask(self, mod_id: str, part: int | None, journey: Journey) -> Answer:
        """Return the answer of a mod to an event, until the journey's deadline.

        If no node runs the mod at the moment, wait for the next one that does.

        Raises:
            Unanswered: the mod gave no answer, or no node runs it (``mod_away``).
        """
        ...

    def observe(self, mod_id: str, part: int | None, data: dict[str, Any]) -> None:
        """Send a copy of an event for the mod's observers. Nothing is waited for."""
        ...

    def notify(self, mod_id: str, part: int | None, data: dict[str, Any]) -> None:
        """Send a notification for the mod's handlers. Nothing is waited for."""
        ...


class ModElsewhere:
    """The stand-in of a mod, or of one copy of a mod, that another node runs.

    Attributes:
        config: as the network file or the command that loaded it says.
        part: the number of the copy; None if the mod has no copies.
        node: the node that runs it; None while no node does.
        token: of the claim under which it runs there; 0 while no node runs it.
        state, manifest, last_error, loaded_at: as the node that runs it has told.
        leaving: the keepers that ran the mod here and finish its last events, if it has just moved.
        audience, promoted, is_member, lock, command: as those of a `Keeper`.
        counters: the events that this node has sent there.
    """

    def __init__(self, config: ModConfig, asking: Asking, part: int | None = None) -> None:
        self.config = config
        self.part = part
        self.node: str | None = None
        self.token = 0
        self.state = State.STARTING
        self.manifest: Manifest | None = None
        self.last_error: str | None = None
        self.loaded_at: float | None = None
        self.leaving: list[Keeper] = []
        self.audience = config.audience
        self.promoted = 0
        self.is_member = True
        self.lock = anyio.Lock()
        self.command: anyio.CancelScope | None = None
        self.counters = ModCounters()
        self._asking = asking

    @property
    def mod_id(self) -> str:
        return self.config.mod_id

    @property
    def keepers(self) -> list[Keeper]:
        """No worker of it runs here."""
        return []

    @property
    def incarnation(self) -> Incarnation | None:
        """No process of it runs here."""
        return None

    @property
    def sources(self) -> SourceFiles | None:
        """Its files are looked after where it runs."""
        return None

    @property
    def files_read(self) -> tuple[str, ...]:
        """Its files are looked after where it runs."""
        return ()

    # -- events

    def ask(self, journey: Journey) -> Awaitable[EventResponse | Event | None]:
        """Ask the node that runs the mod; see `Asking.ask`.

        What an event caused that the departing keeper still handles goes to that keeper, which waits for it.
        """
        for keeper in self.leaving:
            if keeper.caller.is_exempt(journey):
                return keeper.ask(journey)
        return self._ask(journey)

    async def _ask(self, journey: Journey) -> EventResponse | Event | None:
        counters = self.counters
        counters.events_in += 1
        try:
            answer = await self._asking.ask(self.mod_id, self.part, journey)
        except BaseException:
            counters.failed += 1
            raise
        if type(answer) is EventResponse:
            counters.answered += 1
        else:
            counters.passed += 1
        return answer

    async def ask_again(self, journey: Journey) -> EventResponse | Event | None:
        """Ask about an event that was given up before."""
        return await self._ask(journey)

    def observe(self, event: dict[str, Any]) -> None:
        """Send a copy for the mod's observers."""
        self._asking.observe(self.mod_id, self.part, event)

    def notify(self, event: dict[str, Any]) -> None:
        """Send a notification for the mod's handlers."""
        self._asking.notify(self.mod_id, self.part, event)

    # -- life

    async def start(self, *, from_snapshot: bool = False) -> Manifest:
        """Refuse to start: it is claimed and gets a keeper before it runs here."""
        raise StartFailed(f"mod {self.mod_id} runs on another node", code=Code.MOD_AWAY)

    def close_log(self) -> None:
        """It has no log here."""

    async def unload(
        self, timeout: float | None = None, *, keep_state: bool = False, forget: bool = False, leaves: str = ""
    ) -> None:
        """Forget it here. Where it runs, it is unloaded by a command."""
        self.state = State.STOPPED
