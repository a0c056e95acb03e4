"""Files of the network: what is too large for a message or a key, in the servers' object store, sealed."""

from __future__ import annotations

import asyncio
import base64
from typing import Any

from nats.aio.msg import Msg
from nats.errors import Error
from nats.js.errors import NotFoundError
from nats.js.object_store import ObjectStore

from .errors import ClusterError, Foreign
from .failures import of_jetstream
from .following import Following
from .jetstream import PATIENCE, JetStream
from .seal import NotSealed

_MEMORY = 60.0  # seconds after which a file that could not be read on is read anew


def files_config(name: str) -> dict[str, Any]:
    """Return the stream of an object store, as JetStream's API takes it."""
    return {
        "subjects": [f"$O.{name}.C.>", f"$O.{name}.M.>"],
        "discard": "new",
        "allow_rollup_hdrs": True,
        "allow_direct": True,
    }


class Files:
    """The store of files of one network. Every method raises ClusterError."""

    def __init__(self, jetstream: JetStream, name: str) -> None:
        self._jetstream = jetstream
        self._wire = jetstream.wire
        self.name = name

    async def put(self, name: str, data: bytes) -> None:
        """Keep a file under a name, in place of the one that was there."""
        try:
            await self._store.put(name, self._wire.seal.sealed_bytes(data, self._place(name)))
        except (Error, TimeoutError) as error:
            raise self._failed("write", name, error) from None

    async def get(self, name: str) -> bytes | None:
        """Return a file, or None.

        Raises:
            Foreign: no node of this network wrote it.
        """
        try:
            found = await self._read(name)
        except NotFoundError:
            return None
        except (Error, TimeoutError) as error:
            raise self._failed("read", name, error) from None
        try:
            return self._wire.seal.opened_bytes(found, self._place(name))
        except NotSealed as error:
            raise Foreign(
                f"the file '{name}' in {self.name} was not written by a node of this network ({error}); delete it with "
                f"'nats object del {self.name} {name}', and see who may write to the servers",
                reason=str(error),
            ) from None

    async def _read(self, name: str) -> bytes:
        """Return what a file holds. It may be removed or replaced meanwhile.

        nats-py would wait for ever for what was removed, and takes what had come for all of it when the
        connection is lost.
        """
        former = None
        while True:
            info = await self._store.get_info(name)
            found = await self._chunks(f"$O.{self.name}.C.{info.nuid}")
            if len(found) == info.size:
                return found
            if info.nuid == former:
                raise ClusterError(
                    f"the file '{name}' in {self.name} is damaged: {len(found)} of its {info.size} bytes are there"
                )
            former = info.nuid

    async def _chunks(self, subject: str) -> bytes:
        chunks = _Chunks()
        following = Following(self._jetstream, f"OBJ_{self.name}", subject, chunks, first="all", memory=_MEMORY)
        await following.start()
        try:
            return await chunks.all(PATIENCE * self._wire.config.timeout)
        finally:
            await following.close()

    async def drop(self, name: str) -> None:
        """Remove a file, if it is there, without leaving what says that it was."""
        meta = f"$O.{self.name}.M.{base64.urlsafe_b64encode(name.encode()).decode()}"
        try:
            await self._store.delete(name)
            await self._wire.js.purge_stream(f"OBJ_{self.name}", subject=meta)
        except NotFoundError:
            return
        except (Error, TimeoutError) as error:
            raise self._failed("remove", name, error) from None

    @property
    def _store(self) -> ObjectStore:
        return ObjectStore(name=self.name, stream=f"OBJ_{self.name}", js=self._wire.js)

    def _place(self, name: str) -> bytes:
        return f"{self.name}/{name}".encode()

    def _failed(self, what: str, name: str, error: Exception) -> ClusterError:
        return of_jetstream(error, f"{what} the file '{name}' in {self.name}")


class _Chunks:
    """Reads what a file consists of."""

    def __init__(self) -> None:
        self._found: list[bytes] = []
        self._has_come = asyncio.Event()
        self._is_complete = False

    async def all(self, patience: float) -> bytes:
        """Return all of it.

        Raises:
            TimeoutError: nothing came for so many seconds.
        """
        while not self._is_complete:
            self._has_come.clear()
            async with asyncio.timeout(patience):
                await self._has_come.wait()
        return b"".join(self._found)

    # -- as the reader of a stream

    def begun(self, is_fresh: bool) -> None:
        if is_fresh:
            self._found.clear()

    def received(self, message: Msg, seq: int) -> None:
        self._found.append(message.data)
        self._has_come.set()

    def complete(self) -> None:
        self._is_complete = True
        self._has_come.set()
