"""The last good version of each mod that runs once: on this node's disk, and for the other nodes as a file."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

from ....ipc.errors import ModvisorError
from ...sources import Home, SnapshotStore, SourceFiles, in_thread
from ..link.link import Link
from ..link.names import token
from ..mods.digests import Code, code_that_runs
from .durable_log import ClusterLog
from .fenced import Write
from .mod_log import may_be_stored
from .mods_files import SNAPSHOT, ModsFiles

_NOWHERE = Home()

logger = logging.getLogger("modvisor.cluster")

RETRY = 1.0
"""Seconds until a version is shared again that the servers did not take."""

_NOT_SHARED = (
    "mod %s: other nodes do not have its last good version yet, and would run the one before if they took it over: %s; "
    "it is tried again"
)


_NEVER_SHARED = (
    "mod %s: this node does not hold it any more, and the other nodes have never got its last good version: it goes on "
    "with the one before; reload it"
)


class _Sharing:
    """A version on its way to the other nodes.

    Attributes:
        token: of the claim under which it ran.
        tried: it was tried once.
        problem: why they do not have it; empty: it was not tried yet.
        is_over: another version has its place.
    """

    def __init__(self, data: bytes, token: int) -> None:
        self.data = data
        self.token = token
        self.problem = ""
        self.tried, self.is_over = asyncio.Event(), asyncio.Event()
        self.task: asyncio.Task[None] | None = None

    def failed(self, mod_id: str, problem: str) -> None:
        if problem != self.problem:
            logger.warning(_NOT_SHARED, mod_id, problem)
        self.problem = problem
        self.tried.set()

    async def end(self) -> None:
        """Try no more. A try that is under way comes to its end: what it has written is behind it."""
        self.is_over.set()
        if self.task is not None:
            await asyncio.wait([self.task])


class ClusterSnapshots(SnapshotStore):
    """Snapshots of one node of a cluster. See `SnapshotStore`.

    What names the newest version is written behind the fence of its mod.

    Attributes:
        codes: what each worker that has served here is made of.
    """

    def __init__(self, folder: Path, link: Link, log: ClusterLog, files: Callable[[], ModsFiles]) -> None:
        super().__init__(folder)
        self._link = link
        self._log = log
        self._files = files
        self.codes: dict[str, Code] = {}
        self._sharing: dict[str, _Sharing] = {}  # versions that the other nodes do not have yet

    async def write(
        self,
        mod_id: str,
        mod_path: str,
        modules: Any,
        home: Home = _NOWHERE,
        asked: str | None = None,
        *,
        on_trial: bool = False,
    ) -> SourceFiles:
        self.codes.pop(mod_id, None)
        if (code := await in_thread(code_that_runs, mod_path, modules, home, asked)) is not None:
            self.codes[mod_id] = code
        made_of = await super().write(mod_id, mod_path, modules, home, asked, on_trial=on_trial)
        if not on_trial:
            await self._share(mod_id)
        return made_of

    async def accept(self, mod_id: str) -> None:
        await super().accept(mod_id)
        await self._share(mod_id)

    async def read(self, mod_id: str) -> Any:
        await self._fetch(mod_id)
        return await super().read(mod_id)

    async def is_of(self, mod_id: str, mod_path: str, asked: str | None = None) -> bool:
        await self._fetch(mod_id)
        return await super().is_of(mod_id, mod_path, asked)

    async def forget(self, mod_id: str) -> None:
        """Delete the snapshots of an id here, and soon what the other nodes have of it."""
        self.codes.pop(mod_id, None)
        if (sharing := self._sharing.get(mod_id)) is not None:
            await sharing.end()
        await super().forget(mod_id)
        if (log := self._log.opened(mod_id)) is not None:
            newest = None
            with suppress(ModvisorError):  # then its file stays until the next sweep
                newest = await self._newest(mod_id)
            write = log.fenced.write(log.fenced.put(_name(mod_id), None), is_lasting=True)
            write.done.add_done_callback(partial(self._written, write, "", "" if newest is None else newest[0]))

    async def take(self, unit: str, other: str) -> bytes | None:
        """Make the version of another copy that of a copy here, see `Versions`."""
        former, newest = await self._newest(unit), await self._newest(other)
        data = None if newest is None else await self._files().get(newest[0])
        if data is None:
            raise ModvisorError(f"nothing is kept of the version of {other}")
        before = None if former is None else await self._files().get(former[0])
        await self._share_bytes(unit, data)
        return before

    async def put_back(self, unit: str, former: bytes) -> None:
        await self._share_bytes(unit, former)

    async def _share(self, mod_id: str) -> None:
        """Give the version that is here to the other nodes. What fails is tried again, and shown meanwhile."""
        if (token_ := self._log.token_of(mod_id)) is None:
            return
        data = await in_thread(self._file(mod_id).read_bytes)
        former, sharing = self._sharing.get(mod_id), _Sharing(data, token_)
        self._sharing[mod_id] = sharing
        sharing.task = asyncio.get_running_loop().create_task(self._keep_sharing(mod_id, sharing, former))
        log = self._log.opened(mod_id)
        if log is None or not log.fenced.held:  # else a swap waits for this, and this for the swap
            await sharing.tried.wait()

    async def _keep_sharing(self, mod_id: str, sharing: _Sharing, former: _Sharing | None) -> None:
        """Try until it is done, another version takes its place, or this node does not hold the mod any more."""
        try:
            if former is not None:
                await former.end()
            while not sharing.is_over.is_set():
                if self._log.token_of(mod_id) != sharing.token:
                    logger.warning(_NEVER_SHARED, mod_id)
                    return
                try:
                    await self._share_bytes(mod_id, sharing.data)
                    return
                except ModvisorError as error:
                    sharing.failed(mod_id, str(error))
                with suppress(TimeoutError):
                    async with asyncio.timeout(RETRY):
                        await sharing.is_over.wait()
        finally:
            sharing.tried.set()
            if self._sharing.get(mod_id) is sharing:
                del self._sharing[mod_id]

    async def _share_bytes(self, mod_id: str, data: bytes) -> None:
        former, digest = await self._newest(mod_id), sha256(data).digest()
        if former is not None and former[1] == digest:
            return
        log = await self._log.of(mod_id)
        file = await self._files().put(SNAPSHOT, mod_id, data)
        write = log.fenced.write(log.fenced.put(_name(mod_id), [file, digest]))
        write.done.add_done_callback(partial(self._written, write, file, "" if former is None else former[0]))
        await self._log.until_stored(log, write, f"the last good version of mod {mod_id}")
        await self._files().dropped()

    def _written(self, write: Write, file: str, former: str, done: asyncio.Future[int]) -> None:
        """Remove the file of the version that is no longer the newest, or of one that was not stored."""
        if done.exception() is None:
            self._files().drop_soon(former)
        elif not may_be_stored(write):
            self._files().drop_soon(file)

    def notes(self, node: str) -> list[dict[str, str]]:
        """Return the mods whose version here the other nodes do not have, and why, as `Codes.mixed` does."""
        why = "the other nodes do not have its last good version yet, and would run the one before"
        return [
            {"mod_id": mod_id, "node": node, "why": f"{why}: {sharing.problem}"}
            for mod_id, sharing in self._sharing.items()
            if sharing.problem
        ]

    async def close(self) -> None:
        """Share no more."""
        for sharing in list(self._sharing.values()):
            await sharing.end()

    async def _fetch(self, mod_id: str) -> None:
        """Have the version here that the network has.

        Raises:
            ModvisorError: it cannot be read now. What this node has, or its files, may be another version.
        """
        if (token_ := self._log.token_of(mod_id)) is None:
            return
        if (sharing := self._sharing.get(mod_id)) is not None and sharing.token == token_:
            return  # the version here is newer: the network is to have it
        try:
            newest = await self._newest(mod_id)
            if newest is None or newest[1] == await in_thread(self._digest, mod_id):
                return
            if (data := await self._files().get(newest[0])) is not None:
                await in_thread(self._write, self._file(mod_id), data)
        except ModvisorError as error:
            raise ModvisorError(f"its last good version cannot be read: {error}", code=error.code) from None

    def _digest(self, mod_id: str) -> bytes | None:
        try:
            return sha256(self._file(mod_id).read_bytes()).digest()
        except FileNotFoundError:
            return None

    async def _newest(self, mod_id: str) -> tuple[str, bytes] | None:
        """Return the file and the digest of the network's version of a mod."""
        subject = f"{self._log.root}.{token(self._log.unit_of(mod_id))}.{_name(mod_id)}"
        what = f"read the last good version of mod {mod_id}"
        found = await self._link.jetstream.read(self._log.stream, what=what, last_by_subj=subject)
        if found is None or not found.data:
            return None
        file, digest = self._link.seal.opened(found.data, subject.encode())
        return file, digest


def _name(mod_id: str) -> str:
    return f"{token(mod_id)}.s"
