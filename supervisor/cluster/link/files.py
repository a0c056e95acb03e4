"""Files of the network: what is too large for a message or a key, in the servers' object store, sealed."""

from __future__ import annotations

import base64
import json
from collections.abc import Coroutine
from typing import Any, TypeVar

from nats.aio.msg import Msg
from nats.errors import Error
from nats.js.api import ObjectMeta, ObjectMetaOptions
from nats.js.errors import NotFoundError
from nats.js.object_store import ObjectStore

from .errors import ClusterError, Foreign
from .failures import of_jetstream
from .following import read_once
from .jetstream import JetStream
from .seal import NotSealed

T = TypeVar("T")

_PART = 128 * 1024  # bytes, of a file that is not smaller
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
            meta = ObjectMeta(options=ObjectMetaOptions(max_chunk_size=min(_PART, self._wire.most_kept)))
            await self._done(self._store.put(name, self._wire.seal.sealed_bytes(data, self._place(name)), meta))
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
            info = await self._done(self._store.get_info(name))
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
        await read_once(self._jetstream, f"OBJ_{self.name}", subject, chunks, first="all", memory=_MEMORY)
        return b"".join(chunks.found)

    async def listed(self) -> dict[str, str]:
        """Return the name of each file, and the subject of its parts. Nobody seals these."""
        names = _Names()
        await read_once(self._jetstream, f"OBJ_{self.name}", f"$O.{self.name}.M.>", names, first="last_per_subject")
        return {name: f"$O.{self.name}.C.{nuid}" for name, nuid in names.found.items()}

    async def parts(self) -> set[str]:
        """Return the subjects of which there are parts, also those of files that were never complete."""
        found: set[str] = set()
        stream, what = f"OBJ_{self.name}", f"list the parts of files in {self.name}"
        while True:
            body = {"subjects_filter": f"$O.{self.name}.C.>", "offset": len(found)}
            info = await self._jetstream.request(f"STREAM.INFO.{stream}", body, what=what)
            page = (info["state"].get("subjects") or {}).keys() - found
            if not page:
                return found
            found |= page

    async def drop_parts(self, subject: str) -> None:
        """Remove what has come of a file that was never complete."""
        what = f"remove parts of files in {self.name}"
        await self._jetstream.request(f"STREAM.PURGE.OBJ_{self.name}", {"filter": subject}, what=what)

    async def drop(self, name: str) -> None:
        """Remove a file, if it is there, without leaving what says that it was."""
        meta = f"$O.{self.name}.M.{base64.urlsafe_b64encode(name.encode()).decode()}"
        try:
            await self._done(self._store.delete(name))
            await self._done(self._wire.js.purge_stream(f"OBJ_{self.name}", subject=meta))
        except NotFoundError:
            return
        except (Error, TimeoutError) as error:
            raise self._failed("remove", name, error) from None

    async def _done(self, work: Coroutine[Any, Any, T]) -> T:
        return await self._wire.connection().until_over(work)

    @property
    def _store(self) -> ObjectStore:
        return ObjectStore(name=self.name, stream=f"OBJ_{self.name}", js=self._wire.js)

    def _place(self, name: str) -> bytes:
        return f"{self.name}/{name}".encode()

    def _failed(self, what: str, name: str, error: Exception) -> ClusterError:
        return of_jetstream(error, f"{what} the file '{name}' in {self.name}")


class _Names:
    """Reads which files there are."""

    def __init__(self) -> None:
        self.found: dict[str, str] = {}

    def begun(self, is_fresh: bool) -> None: ...

    def received(self, message: Msg, seq: int) -> None:
        try:
            match json.loads(message.data):
                case {"name": str(name), "nuid": str(nuid), **more} if not more.get("deleted"):
                    self.found[name] = nuid
        except ValueError:  # of a stranger
            pass

    def complete(self) -> None: ...


class _Chunks:
    """Reads what a file consists of."""

    def __init__(self) -> None:
        self.found: list[bytes] = []

    def begun(self, is_fresh: bool) -> None:
        if is_fresh:
            self.found.clear()

    def received(self, message: Msg, seq: int) -> None:
        self.found.append(message.data)

    def complete(self) -> None: ...
