"""Files of the network: what is too large for a message or a key, in the servers' object store, sealed."""

from __future__ import annotations

import base64
from typing import Any

from nats.errors import Error
from nats.js.errors import NotFoundError
from nats.js.object_store import ObjectStore

from .errors import ClusterError, Foreign
from .failures import of_jetstream
from .seal import NotSealed
from .wire import Wire


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

    def __init__(self, wire: Wire, name: str) -> None:
        self._wire = wire
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
            found = await self._store.get(name)
        except NotFoundError:
            return None
        except (Error, TimeoutError) as error:
            raise self._failed("read", name, error) from None
        try:
            return self._wire.seal.opened_bytes(found.data or b"", self._place(name))
        except NotSealed as error:
            raise Foreign(
                f"the file '{name}' in {self.name} was not written by a node of this network ({error}); delete it with "
                f"'nats object del {self.name} {name}', and see who may write to the servers",
                reason=str(error),
            ) from None

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
