"""`ModContext`: everything that a mod may know and ask of its network."""

from __future__ import annotations

import logging
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, Protocol, TypeVar

from ..ipc.event import Event, EventResponse

T = TypeVar("T")


class ModFiles(Protocol):
    """Small files of a mod, kept by the network: with the journal, or in a cluster where every node reaches them.

    They outlive reloads, restarts, an unload and the network itself, and are in its backups. In a
    cluster they are there on whichever node runs the mod; of a mod that runs on all nodes, each node
    keeps its own. The workers of a mod share them. How large they may be is said by ``file_bytes``,
    ``mod_files_bytes`` and ``mod_files`` of the network file's `journal`.

    Names are text of up to 200 bytes without control characters; they name no folders, but may have
    slashes in them.

    Each method raises `RequestFailed`: the file is too large, there is no room, or this node has
    lost the mod to another one, whose files an older holder cannot change.
    """

    async def put(self, name: str, data: bytes) -> None:
        """Keep a file, in place of an earlier one of this name. On return it is kept, before that the earlier one."""
        ...

    async def get(self, name: str) -> bytes | None:
        """Return a file; None if there is none of this name."""
        ...

    async def list(self, prefix: str = "") -> list[str]:
        """Return the names of the files that begin so, sorted."""
        ...

    async def drop(self, name: str) -> bool:
        """Delete a file. Return whether it was there."""
        ...


class ModContext(Protocol):
    """The only way from a mod to its network. The worker provides it.

    In tests, `modvisor.worker.testing.RecordingContext` takes its place.
    """

    @property
    def mod_id(self) -> str:
        """This mod's id in the network."""
        ...

    @property
    def replica(self) -> int | None:
        """This worker's index among the mod's ``workers``, from 0; None for a single worker."""
        ...

    @property
    def fencing_token(self) -> int:
        """A number that grows each time the mod moves to another node, or 0 on a network of one machine.

        Pass it along with what the mod writes elsewhere: whoever keeps that can refuse an older
        number, which comes from a node that has lost the mod and does not know it yet.
        """
        ...

    @property
    def network_name(self) -> str:
        """The name of the network, as its file gives it."""
        ...

    @property
    def storage_path(self) -> Path:
        """A folder for this mod alone.

        It exists, and survives reloads, restarts and the network itself.
        """
        ...

    @property
    def files(self) -> ModFiles:
        """Small files that move with the mod when another node takes it over."""
        ...

    @property
    def log(self) -> logging.Logger:
        """Writes to the mod's own log, which ``modvisor logs ID`` shows; so does ``print``."""
        ...

    async def send_event(self, event: Event, timeout: float | None = None) -> EventResponse:
        """Send an event into the network and return the answer.

        The source is ``mod:ID``, unless the event names another source that this mod may speak for.
        The network routes the event to the other mods, then delivers it. An event sent inside a
        handler is linked to the event being handled (its cause), so that endless loops are found.

        Args:
            timeout: seconds to wait for the answer; after them the response is a failure
                ``timeout``.
        """
        ...

    async def request(
        self, mod: str, event_name: str, payload: dict[str, Any] | None = None, timeout: float | None = None
    ) -> EventResponse:
        """Ask one mod, such as ``mod:wiki``.

        Failures are responses: ``no_such_mod`` if it is not loaded. If this mod names the other one
        in ``requires`` or ``optional``, the version that fits answers, even if it is loaded under
        another id.

        Args:
            timeout: seconds to wait for the answer, including the time that the mod needs to
                restart.
        """
        ...

    async def checkpoint(self, state: Any) -> None:
        """Keep ``state`` (msgpack types) in case of a crash; return when it is on disk.

        For None, do nothing. The next incarnation gets the newest checkpoint through `set_state`,
        before its first event, even after a restart of the network. An unload removes the
        checkpoint. ``checkpoint_every`` in the mod's entry saves the result of `get_state` in the
        same way, at intervals.

        Raises:
            RequestFailed: the state is too large, or the disk is full; the old checkpoint stays.
                Also when called in `initialize`, where the mod does not have its state yet.
        """
        ...

    async def agents(self) -> list[dict[str, Any]]:
        """Return the registered agents: ``[{"agent_id", "metadata", "group"}, …]``."""
        ...

    async def channels(self) -> list[str]:
        """Return the names of the network's channels."""
        ...

    async def channel_members(self, channel: str) -> list[str]:
        """Return a channel's members in the order of joining; [] for an unknown channel."""
        ...

    async def groups(self) -> dict[str, list[str]]:
        """Return the agent groups, each with the ids of its registered members."""
        ...

    def run_from_thread(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run one of the calls above from a plain handler, which runs in a thread."""
        ...
