"""Requests to JetStream, in its own JSON, with our errors; what a network keeps on the servers.

Every request ends after `cluster.timeout`: without a quorum JetStream does not answer at all.
"""

from __future__ import annotations

import asyncio
import base64
import json
import math
import time
from dataclasses import dataclass
from typing import Any

from nats.js.errors import APIError, NotFoundError

from .errors import ClusterError, JetStreamOff, Nobody, NoQuorum
from .failures import of_jetstream
from .wire import Wire

_NO_MESSAGE = 10037
_FEW_SERVERS = (10005, 10074)
_THERE = 10058  # with other settings: those that depend on the time, if another node has just made it
_MANY = 3
PATIENCE = 3
"""Times `cluster.timeout` that a start waits for enough servers, and for a stream to have a leader."""

AGAIN = 0.25
"""Seconds after which a question of the API is asked again. Each of them may be asked several times."""

UNHEARD = 0.5
"""Seconds in which a stream must answer that took no message, to be taken for one that is there."""

PAUSE = 0.2
"""Seconds between two looks at it."""
_NO_LEADER = (
    "could not {what}: {stream} has no leader now; it has one again as soon as more than half of its servers are up"
)
_OFF = (
    "JetStream does not answer: it is off at the NATS servers or for this account; put "
    "'jetstream { store_dir: /var/lib/nats }' into the servers' configuration"
)


@dataclass(frozen=True, slots=True)
class Stored:
    """A message that is kept in a stream.

    Attributes:
        headers: as they stand on the wire.
    """

    subject: str
    seq: int
    data: bytes
    headers: bytes = b""


class JetStream:
    """What the servers keep for this network.

    Attributes:
        streams: the names of those that this node uses.
    """

    def __init__(self, wire: Wire) -> None:
        self.wire = wire
        self.streams: set[str] = set()

    async def request(self, name: str, body: dict[str, Any] | None = None, *, what: str) -> dict[str, Any]:
        """Return the answer of JetStream's API.

        Args:
            name: such as `STREAM.INFO.MV_net_durable`.
            what: what it is for, as a message about its failure says it: "read the stream MV_net_durable".

        Raises:
            ClusterError: see `errors.py`.
        """
        try:
            return await self._request(name, body)
        except (APIError, TimeoutError) as error:
            raise of_jetstream(error, what) from None

    async def _request(
        self, name: str, body: dict[str, Any] | None = None, timeout: float | None = None
    ) -> dict[str, Any]:
        data = b"" if body is None else json.dumps(body).encode()
        try:
            message = await self.wire.call(f"$JS.API.{name}", data, timeout=timeout, again=AGAIN)
        except Nobody:
            raise JetStreamOff(_OFF) from None
        found = json.loads(message.data)
        if "error" in found:
            _raise(found["error"])
        return found

    async def store(
        self, subject: str, data: bytes, headers: dict[str, str] | None = None, *, stream: str, what: str
    ) -> int:
        """Keep a message in a stream, and return its number, once as many servers have it as must.

        Raises:
            APIError: of nats-py, where the headers named a condition that does not hold; `failures.is_taken`.
            ClusterError: see `errors.py`. After NoQuorum it may be stored all the same.
        """
        try:
            message = await self.wire.call(subject, data, headers)
        except Nobody:
            raise await self._unheard(stream, what) from None
        except TimeoutError as error:
            raise of_jetstream(error, what) from None
        found = json.loads(message.data)
        if "error" in found:
            _raise(found["error"])
        return found["seq"]

    async def _unheard(self, stream: str, what: str) -> ClusterError:
        """Return why no stream takes a subject: it is gone, or has no leader now."""
        try:
            await self._request(f"STREAM.INFO.{stream}", timeout=min(UNHEARD, self.wire.config.timeout))
        except (APIError, TimeoutError, ClusterError) as error:
            return of_jetstream(error, what)
        return NoQuorum(_NO_LEADER.format(what=what, stream=stream))

    async def read(self, stream: str, *, what: str, **which: Any) -> Stored | None:
        """Return a message, from the stream's leader, or None.

        Args:
            which: `last_by_subj=subject` or `seq=number`.
        """
        try:
            found = await self._request(f"STREAM.MSG.GET.{stream}", which)
        except NotFoundError as error:
            if error.err_code == _NO_MESSAGE:
                return None
            raise of_jetstream(error, what) from None
        except (APIError, TimeoutError) as error:
            raise of_jetstream(error, what) from None
        message = found["message"]
        return Stored(message["subject"], message["seq"], _decoded(message, "data"), _decoded(message, "hdrs"))

    async def stream(self, name: str, config: dict[str, Any], *, what: str = "") -> dict[str, Any]:
        """Return what JetStream says of a stream, made if it is missing. `num_replicas` is filled in.

        Servers that start together with the nodes find one another meanwhile, and elect leaders. That is waited for.

        Args:
            config: as JetStream's API takes it; times in nanoseconds.
        """
        what, settings = what or f"make the stream {name}", self.wire.config
        patience = math.inf if settings.wait else PATIENCE * settings.timeout
        until = time.monotonic() + patience
        while True:
            try:
                found = await self._stream(name, config, what)
                if _has_leader(found):
                    self.streams.add(name)
                    return found
                problem = NoQuorum(_NO_LEADER.format(what=what, stream=name))
            except NoQuorum as error:
                problem = error
            if time.monotonic() > until:
                raise problem
            await asyncio.sleep(PAUSE)

    async def _stream(self, name: str, config: dict[str, Any], what: str) -> dict[str, Any]:
        try:
            return await self._request(f"STREAM.INFO.{name}")
        except NotFoundError:
            pass
        except (APIError, TimeoutError) as error:
            raise of_jetstream(error, what) from None
        return await self._create(name, {"name": name, "storage": "file", **config}, what)

    async def _create(self, name: str, config: dict[str, Any], what: str) -> dict[str, Any]:
        replicas = self.wire.config.replicas or _MANY
        if self.wire.config.replicas is None and len(self.wire.config.servers) < _MANY:
            return await self._create_on(name, config, what, (replicas, 1))
        try:
            return await self._create_on(name, config, what, (replicas,))
        except _Few:
            raise NoQuorum(
                f"could not {what} on {replicas} servers, as many as 'cluster.replicas' says or 'cluster.servers' names: "
                "fewer form a cluster now. Start the others, or set 'cluster.replicas: 1'"
            ) from None

    async def _create_on(
        self, name: str, config: dict[str, Any], what: str, replicas: tuple[int, ...]
    ) -> dict[str, Any]:
        """Make a stream with the first number of replicas that the servers have. Raises _Few."""
        for count in replicas:
            try:
                return await self._request(f"STREAM.CREATE.{name}", {**config, "num_replicas": count})
            except (APIError, TimeoutError) as error:
                number = error.err_code if isinstance(error, APIError) else None
                if number == _THERE:
                    return await self.request(f"STREAM.INFO.{name}", what=what)
                if number not in _FEW_SERVERS:
                    raise of_jetstream(error, what) from None
        raise _Few


class _Few(Exception):
    """There are fewer servers than replicas."""


def _raise(error: dict[str, Any]) -> None:
    known = {name: error[name] for name in ("code", "err_code", "description") if name in error}
    APIError.from_error(known)


def _decoded(message: dict[str, Any], name: str) -> bytes:
    return base64.b64decode(message.get(name) or "")


def _has_leader(found: dict[str, Any]) -> bool:
    """Return whether a stream has a leader. A server that is alone says nothing of one."""
    cluster = found.get("cluster")
    return not cluster or "leader" in cluster
