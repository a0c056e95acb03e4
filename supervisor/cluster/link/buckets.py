"""Buckets: what a network keeps under keys, the same for all nodes, each value sealed.

A bucket is a stream with one message for each key. The number of that message is the key's
*revision*: who writes names the revision that they saw, and fails if somebody wrote since. Who writes
whatever is there (`put`) names it too: a write that the servers held up must not come behind a later
one and take its place.

The first number of a bucket is the time at which it was made, in microseconds. So a bucket that was
deleted and made again goes on with greater numbers: watches, and the fences of mods, whose tokens are
such numbers, take what is new for newer.

A key is deleted by a sealed message too. A deletion that no node of the network sealed counts as a
value that none wrote: the key is not gone. Only the servers write unsealed deletions that are
believed: of a key with a time to live, when that time may be over by their own clocks.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from nats.aio.msg import Msg
from nats.js.errors import APIError

from .errors import Foreign, NoQuorum, Taken
from .failures import is_taken, of_jetstream
from .following import Following, stored_at
from .jetstream import JetStream, Stored
from .seal import NotSealed

MARKER_TTL = 600.0
"""Seconds for which a key that is gone leaves a mark. Who was away for less learns it from the mark."""

PAUSE = 0.1
"""Seconds until a key is read again that was read as nobody wrote it since, and could not be written all the same."""

_NANO = 1_000_000_000
_EXPECTED = "Nats-Expected-Last-Subject-Sequence"
_TTL = "Nats-TTL"
_OPERATION, _MARKER = "KV-Operation", "Nats-Marker-Reason"
_GONE = "gone"  # the sealed body of a deletion
_NOT_GONE = "unsealed deletion"


def bucket_config(name: str) -> dict[str, Any]:
    """Return the stream of a bucket, as JetStream's API takes it."""
    return {
        "subjects": [f"$KV.{name}.>"],
        "max_msgs_per_subject": 1,
        "discard": "new",
        "allow_rollup_hdrs": True,
        "deny_delete": True,
        "allow_direct": True,
        "allow_msg_ttl": True,
        "subject_delete_marker_ttl": int(MARKER_TTL * _NANO),
        "first_seq": time.time_ns() // 1000,
    }


@dataclass(frozen=True, slots=True)
class Entry:
    key: str
    value: Any
    revision: int


class Watch:
    """What a bucket holds under some keys, and each change of it.

    A reader that was away is told of each key that changed or went meanwhile, once.
    """

    def __init__(self, bucket: Bucket, on: Callable[[str, Any | None, int], None]) -> None:
        self._bucket = bucket
        self._on = on
        self._known: dict[str, int] = {}
        self._may_end: dict[str, int] = {}  # by key with a time to live: from when on, in ns of the servers' clocks
        self._seen: set[str] | None = None
        self._following: Following | None = None

    async def start(self, subject: str) -> None:
        following = Following(
            self._bucket.jetstream, self._bucket.stream, subject, self, first="last_per_subject", memory=MARKER_TTL / 2
        )
        await following.start()
        self._following = following

    async def caught_up(self, *, is_patient: bool = False) -> None:
        """Wait until all that the bucket held at the start was told. See `Following.caught_up`."""
        assert self._following is not None
        await self._following.caught_up(is_patient=is_patient)

    async def close(self) -> None:
        if self._following is not None:
            await self._following.close()

    @property
    def problem(self) -> str:
        """Why changes do not come now, or empty."""
        return self._following.problem if self._following is not None else ""

    # -- as the reader of a stream

    def begun(self, is_fresh: bool) -> None:
        # What began afresh before, and was not complete, is not known to be gone.
        self._seen = set() if is_fresh else self._seen

    def received(self, message: Msg, seq: int) -> None:
        key = self._bucket.key_of(message.subject)
        if self._seen is not None:
            self._seen.add(key)
        if seq <= self._known.get(key, 0):
            return
        headers = message.headers or {}
        if _OPERATION in headers or _MARKER in headers:
            return self._marked(key, message, seq)
        try:
            value = self._bucket.opened(key, message.data)
        except NotSealed as error:
            self._bucket.wire.dropped[str(error)] += 1
            return
        self._known[key] = seq
        self._note_life(key, message)
        self._on(key, value, seq)

    def _note_life(self, key: str, message: Msg) -> None:
        """Note when the servers may end a key. Less than its time: they count in whole seconds."""
        lives = (message.headers or {}).get(_TTL, "").removesuffix("s")
        if lives.isdecimal():
            self._may_end[key] = stored_at(message) + int(lives) * _NANO // 2
        else:
            self._may_end.pop(key, None)

    def _marked(self, key: str, message: Msg, seq: int) -> None:
        if self._has_ended(key, message) or self._bucket.is_deletion(key, message.data):
            self._gone(key, seq)
        elif key in self._known or _MARKER not in (message.headers or {}):
            self._bucket.wire.dropped[_NOT_GONE] += 1

    def _has_ended(self, key: str, message: Msg) -> bool:
        """Return whether the servers have ended a key whose time was over."""
        is_ended = (message.headers or {}).get(_MARKER) == "MaxAge"
        return is_ended and key in self._may_end and stored_at(message) >= self._may_end[key]

    def complete(self) -> None:
        seen, self._seen = self._seen, None
        for key in [key for key in self._known if seen is not None and key not in seen]:
            self._gone(key, self._known[key])

    def _gone(self, key: str, revision: int) -> None:
        self._may_end.pop(key, None)
        if self._known.pop(key, None) is not None:
            self._on(key, None, revision)


class Bucket:
    """A bucket of the network. Keys are tokens (`names.token`) with dots between them.

    Every method raises ClusterError: LinkDown, NoQuorum, Gone, OutOfSpace, TooLarge.

    Args:
        expires: its keys have a time to live, so that the servers may end them.
    """

    def __init__(self, jetstream: JetStream, name: str, stream: str, *, expires: bool = False) -> None:
        self.expires = expires
        self.jetstream = jetstream
        self.wire = jetstream.wire
        self.name = name
        self.stream = stream
        self._prefix = f"$KV.{name}."

    async def get(self, key: str) -> Entry | None:
        """Return what is under a key now.

        Raises:
            Foreign: no node of this network wrote it.
        """
        found = await self._read(key)
        if found is None or self._is_gone(key, found):
            return None
        try:
            return Entry(key, self.opened(key, found.data), found.seq)
        except NotSealed as error:
            reason = _NOT_GONE if is_marker(found.headers) else str(error)
            raise Foreign(
                f"the key '{key}' of the bucket {self.name} was not written by a node of this network ({reason}); remove "
                f"it with 'nats stream purge {self.stream} --subject '{self._prefix}{key}'', and see who may write to "
                "the servers",
                reason=reason,
            ) from None

    async def create(self, key: str, value: Any, *, ttl: float | None = None) -> int:
        """Write a key that is not there, and return its revision.

        Args:
            ttl: seconds after which the key goes by itself unless it is written again; whole ones, rounded up.

        Raises:
            Taken: the key is there.
        """
        try:
            return await self.update(key, value, 0, ttl=ttl)
        except Taken:
            found = await self._read(key)
            if found is None or not self._is_gone(key, found):
                raise
            return await self.update(key, value, found.seq, ttl=ttl)

    async def create_or_leave(self, key: str, value: Any) -> None:
        """Write a key unless it is there."""
        with suppress(Taken):
            await self.create(key, value)

    async def update(self, key: str, value: Any, revision: int, *, ttl: float | None = None) -> int:
        """Write a key that nobody wrote since `revision`, and return its new revision.

        Raises:
            Taken: somebody did, or the key is gone.
        """
        headers = {_EXPECTED: str(revision)}
        if ttl is not None:
            headers[_TTL] = f"{math.ceil(ttl)}s"
        return await self._write(key, self.sealed(key, value), headers)

    async def put(self, key: str, value: Any, known: int | None = None) -> int:
        """Write a key, whatever is there, and return its revision. Of several, the last one that was called counts.

        Args:
            known: the revision that the caller knows, 0 for none. If it is the newest, this takes no read.
        """
        return await self._replace(key, self.sealed(key, value), {}, known)

    async def delete(self, key: str, revision: int | None = None) -> None:
        """Take a key away, whatever is there. It leaves a mark for a while, so that watchers learn it.

        Raises:
            Taken: somebody wrote since `revision`.
        """
        headers = {_OPERATION: "PURGE", "Nats-Rollup": "sub", _TTL: f"{MARKER_TTL:.0f}s"}
        data = self.wire.seal.sealed(_GONE, self._place_of_deletion(key))
        if revision is None:
            await self._replace(key, data, headers)  # also if the key is not there: what creates it may be on its way
        else:
            await self._write(key, data, headers | {_EXPECTED: str(revision)})

    async def mirror(self, prefix: str, on: Callable[[str, Any | None, int], None]) -> Watch:
        """Watch as `watch` does, and return when `on` was called for all that was there.

        Raises as `Following.caught_up`; with `cluster.wait` it waits for the servers.
        """
        watch = await self.watch(prefix, on)
        try:
            await watch.caught_up(is_patient=self.wire.config.wait)
        except BaseException:
            await watch.close()
            raise
        return watch

    async def all(self, prefix: str = "") -> dict[str, tuple[Any, int]]:
        """Return all keys that begin so, each with its value and revision. Raises as `Following.caught_up`."""
        found: dict[str, tuple[Any, int]] = {}

        def told(key: str, value: Any, revision: int) -> None:
            if value is not None:
                found[key] = value, revision

        watch = await self.watch(prefix, told)
        try:
            await watch.caught_up()
        finally:
            await watch.close()
        return found

    async def watch(self, prefix: str, on: Callable[[str, Any | None, int], None]) -> Watch:
        """Have `on(key, value, revision)` called for what is there, and for each change. None: it is gone.

        Args:
            prefix: "" for all keys; one that ends in a dot for those that begin so; else one key.
        """
        watch = Watch(self, on)
        await watch.start(self._prefix + prefix + (">" if not prefix or prefix.endswith(".") else ""))
        return watch

    def key_of(self, subject: str) -> str:
        return subject[len(self._prefix) :]

    def sealed(self, key: str, value: Any) -> bytes:
        return self.wire.seal.sealed(value, f"{self._prefix}{key}".encode())

    def opened(self, key: str, data: bytes) -> Any:
        return self.wire.seal.opened(data, f"{self._prefix}{key}".encode())

    def is_deletion(self, key: str, data: bytes) -> bool:
        """Return whether a node of the network wrote a message to delete a key."""
        try:
            return self.wire.seal.opened(data, self._place_of_deletion(key)) == _GONE
        except NotSealed:
            return False

    def _place_of_deletion(self, key: str) -> bytes:
        """Return a place that no value has: a value cannot be told from a deletion by its headers, which anybody writes."""
        return f"{self._prefix}{key} deleted".encode()

    def _is_gone(self, key: str, found: Stored) -> bool:
        """Return whether the newest message of a key says that it is gone."""
        if self.expires and _MARKER.encode() in found.headers and not found.data:
            return True
        return is_marker(found.headers) and self.is_deletion(key, found.data)

    async def _read(self, key: str, *, to: str = "read") -> Stored | None:
        what = f"{to} the key '{key}' of the bucket {self.name}"
        return await self.jetstream.read(self.stream, what=what, last_by_subj=self._prefix + key)

    async def _replace(self, key: str, data: bytes, headers: dict[str, str], known: int | None = None) -> int:
        """Write a key that somebody may write at the same time. What was sent before and comes later is refused."""
        until, before = time.monotonic() + self.wire.config.timeout, -1
        while True:
            if known is None:
                found = await self._read(key, to="write")
                known = 0 if found is None else found.seq
            revision, known = known, None
            try:
                return await self._write(key, data, headers | {_EXPECTED: str(revision)})
            except Taken as error:
                if time.monotonic() > until:
                    raise NoQuorum(f"{error} again and again; try again later") from None
            if revision == before:
                await asyncio.sleep(PAUSE)  # a write of before is neither stored nor refused yet
            before = revision

    async def _write(self, key: str, data: bytes, headers: dict[str, str]) -> int:
        what = f"write the key '{key}' of the bucket {self.name}"
        try:
            return await self.jetstream.store(self._prefix + key, data, headers, stream=self.stream, what=what)
        except APIError as error:
            if is_taken(error):
                raise Taken(f"could not {what}: somebody else wrote it first") from None
            raise of_jetstream(error, what) from None


def is_marker(headers: bytes) -> bool:
    """Return whether a message says that its key is gone, whoever wrote it."""
    return _OPERATION.encode() in headers or _MARKER.encode() in headers
