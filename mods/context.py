"""`ModContext`: all that a mod may know and ask of its network."""

from __future__ import annotations

import logging
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, Protocol, TypeVar

from ..ipc.event import Event, EventResponse

T = TypeVar("T")


class ModContext(Protocol):
    """The narrow door between a mod and its network. The worker provides it; tests provide a recording one."""

    @property
    def mod_id(self) -> str:
        """This mod's id in the network."""
        ...

    @property
    def replica(self) -> int | None:
        """Which of the mod's ``workers`` this is, from 0; None of a mod that has but one."""
        ...

    @property
    def network_name(self) -> str: ...

    @property
    def storage_path(self) -> Path:
        """A folder of this mod alone. It exists, and survives reloads, restarts and the network itself."""
        ...

    @property
    def log(self) -> logging.Logger:
        """Goes to the mod's own log, as ``print`` and the `logging` module do (``modvisor logs ID``)."""
        ...

    async def send_event(self, event: Event, timeout: float | None = None) -> EventResponse:
        """Send an event into the network, as ``mod:ID`` unless it names a source this mod may speak for.

        Handled like any other event: routed to the other mods, then delivered. Inside a handler it is linked to the event
        being handled (``cause``), so that endless loops are found.

        Args:
            timeout: seconds to wait for the answer; past it the response is a failure ``timeout``.
        """
        ...

    async def request(
        self, mod: str, event_name: str, payload: dict[str, Any] | None = None, timeout: float | None = None
    ) -> EventResponse:
        """Ask one mod, such as ``mod:wiki``, and nobody else; a failure is a response, ``no_such_mod`` if it is not loaded.

        Of a mod that this one requires (or uses), the version answers that it asks for, whatever id that is loaded under.

        Args:
            timeout: seconds to wait for the answer, for a mod that is on its way back as well.
        """
        ...

    async def checkpoint(self, state: Any) -> None:
        """Keep ``state`` (msgpack types) for the case of a crash; returns when it is on disk. None: nothing is done.

        The next incarnation gets the newest checkpoint through `set_state`, before its first event; so does the first one
        after a restart of the network. An unload forgets it. ``checkpoint_every`` of the mod's config does the same with
        what `get_state` returns.

        Raises:
            RequestFailed: it is too large, or the disk is full; the former checkpoint stands. Also in `initialize`, where the
                mod does not have its state yet.
        """
        ...

    async def agents(self) -> list[dict[str, Any]]:
        """The registered agents: ``[{"agent_id", "metadata", "group"}, …]``."""
        ...

    async def channels(self) -> list[str]:
        """The names of the network's channels."""
        ...

    async def channel_members(self, channel: str) -> list[str]:
        """The agent ids of a channel's members, in joining order; empty for an unknown channel."""
        ...

    async def groups(self) -> dict[str, list[str]]:
        """Agent groups and the ids of their registered members."""
        ...

    def run_from_thread(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run one of the awaitable calls above from a plain (threaded) handler and return its result."""
        ...
