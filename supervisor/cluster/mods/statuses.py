"""How the mods of a cluster are: told by the node that runs them, mirrored by all others.

From it a stand-in has its patterns, so that the routes of all nodes are alike.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import astuple, dataclass
from typing import Any

import anyio

from ....ipc.errors import ModvisorError
from ....ipc.manifest import Manifest
from ...config import fingerprint
from ...fleet import Mod
from ...lifecycle import RestartHistory, State
from ..link.buckets import Bucket, Watch
from ..link.errors import Taken
from ..link.names import text_of, token
from ..nodes.members import told_each
from .digests import Code

logger = logging.getLogger("modvisor.cluster")

PREFIX = "status."


@dataclass(frozen=True, slots=True)
class Status:
    """How a mod is on one node.

    Attributes:
        token: of the claim under which the node runs it.
        code: what it is made of, or was when it ran last; None if that is not known.
        quarantines: of its workers: id, reason and fingerprint of the config. The next node keeps them.
        restarts: what counts of the ends of its workers, by their ids. The next node goes on counting from there.
        on_trial: it is on probation: what it is made of may give way to the version before.
        note: how its code differs from the files of the node, for people.
    """

    node: str
    token: int
    state: State
    manifest: Manifest | None
    code: Code | None
    error: str | None
    loaded_at: float | None
    note: str | None = None
    quarantines: tuple[tuple[str, str, str], ...] = ()
    restarts: tuple[tuple[str, RestartHistory], ...] = ()
    on_trial: bool = False

    @classmethod
    def of(cls, mod: Mod, node: str, token: int, code: Code | None, note: str | None) -> Status:
        quarantines = tuple(
            (worker.mod_id, worker.quarantined, fingerprint(worker.config))
            for worker in mod.keepers
            if worker.quarantined is not None
        )
        restarts = tuple((each.mod_id, each.restarts) for each in mod.keepers if each.restarts is not None)
        return cls(
            node, token, mod.state, mod.manifest, code, mod.last_error, mod.loaded_at, note, quarantines, restarts,
            on_trial=any(worker.probation is not None for worker in mod.keepers),
        )  # fmt: skip

    def recall_restarts(self, mod: Mod) -> None:
        """Have the workers of a mod that has come here go on counting their ends."""
        told = dict(self.restarts)
        for worker in mod.keepers:
            worker.recall_restarts(told.get(worker.mod_id))

    def to_plain(self) -> dict[str, Any]:
        manifest = None if self.manifest is None else self.manifest.to_dict()
        return {
            "node": self.node,
            "token": self.token,
            "state": str(self.state),
            "manifest": manifest,
            "version": None if self.manifest is None else self.manifest.version,
            "code": None if self.code is None else self.code.to_plain(),
            "note": self.note,
            "quarantines": self.quarantines,
            "restarts": [[name, *astuple(history)] for name, history in self.restarts],
            "on_trial": self.on_trial,
            "error": self.error,
            "loaded_at": self.loaded_at,
        }

    @classmethod
    def from_plain(cls, data: dict[str, Any]) -> Status:
        manifest = data["manifest"]
        return cls(
            node=data["node"],
            token=data["token"],
            state=State(data["state"]),
            manifest=None if manifest is None else Manifest.from_dict(manifest),
            code=Code.from_plain(data.get("code")),
            error=data["error"],
            loaded_at=data["loaded_at"],
            note=data.get("note"),
            on_trial=bool(data.get("on_trial")),
            quarantines=tuple((str(name), str(why), str(asked)) for name, why, asked in data.get("quarantines", ())),
            restarts=tuple(
                (str(name), RestartHistory(asked, at, tuple(ages), *more))
                for name, asked, at, ages, *more in data.get("restarts", ())
            ),
        )


class Statuses:
    """The newest status of each mod of the network.

    Args:
        own: returns the status of each mod that runs here, by id.

    Attributes:
        known: by mod id, what the node with the newest claim has told.
        listeners: called with the id of a mod whose status has changed.
    """

    def __init__(self, bucket: Bucket, own: Callable[[], dict[str, Status]]) -> None:
        self._bucket = bucket
        self._own = own
        self._told: dict[str, Status] = {}
        self._revisions: dict[str, int] = {}
        self._wake = anyio.Event()
        self._watch: Watch | None = None
        self.known: dict[str, Status] = {}
        self.listeners: list[Callable[[str], None]] = []

    async def open(self) -> None:
        self._watch = await self._bucket.mirror(PREFIX, self._changed)

    async def close(self) -> None:
        if self._watch is not None:
            await self._watch.close()

    def _changed(self, key: str, value: Any, revision: int) -> None:
        mod_id = text_of(key.removeprefix(PREFIX))
        self._revisions[mod_id] = revision
        if value is None:
            self.known.pop(mod_id, None)
            if self._told.pop(mod_id, None) is not None:  # somebody deleted it, or the bucket: it is told again
                self.look()
        else:
            status, before = Status.from_plain(value), self.known.get(mod_id)
            if before is not None and status.token < before.token:
                self._told.pop(mod_id, None)  # written by a node that has lost its claim: what is true is written again
                self.look()
                return
            self.known[mod_id] = status
        told_each(self.listeners, mod_id)

    # -- telling

    def look(self) -> None:
        """Tell soon what has changed about the mods here."""
        self._wake.set()

    async def run(self) -> None:
        """Tell what changes until cancelled."""
        while True:
            await self._wake.wait()
            self._wake = anyio.Event()
            try:
                own = self._own()
            except Exception:
                logger.exception("how the mods here are cannot be told; this is tried with the next change")
                continue
            self._told = {mod_id: status for mod_id, status in self._told.items() if mod_id in own}
            for mod_id, status in own.items():
                if self._told.get(mod_id) != status:
                    await self._tell(mod_id, status)

    async def _tell(self, mod_id: str, status: Status) -> None:
        self._told.pop(mod_id, None)  # what was not taken may be stored later: then it is told again, whatever it is
        try:
            await self._bucket.put(PREFIX + token(mod_id), status.to_plain(), self._revisions.get(mod_id, 0))
        except ModvisorError as error:
            logger.warning("mod %s: the other nodes were not told that it is %s: %s", mod_id, status.state, error)
            with anyio.move_on_after(1.0):  # the servers are away; whoever changes next tries at once
                await self._wake.wait()
            self._wake.set()
        else:
            self._told[mod_id] = status

    async def forget(self, mod_id: str) -> None:
        """Remove the status of a mod that was unloaded."""
        self._told.pop(mod_id, None)
        try:
            await self._bucket.delete(PREFIX + token(mod_id))
        except (ModvisorError, Taken) as error:
            logger.warning("mod %s: its status was not removed: %s", mod_id, error)
