"""The stream in which what waits in inboxes is kept: one message for each event and agent."""

from __future__ import annotations

import asyncio
from typing import Any

from nats.aio.msg import Msg

from ..link.errors import NoQuorum
from ..link.following import Following
from ..link.link import Link
from ..link.seal import NotSealed

STREAM = "inbox"


class InboxStream:
    """The messages of all inboxes of a network; see `inboxes.Log`."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._name = link.names.stored(STREAM)

    async def open(self) -> None:
        """Make the stream if it is missing."""
        subjects = [f"{self._link.subject(STREAM)}.>"]
        await self._link.jetstream.stream(self._name, {"subjects": subjects, "discard": "new", "allow_direct": True})

    async def write(self, subject: str, body: Any) -> int:
        sealed = self._link.seal.sealed(body, subject.encode())
        return await self._link.jetstream.store(
            subject, sealed, stream=self._name, what="keep an event of an agent's inbox"
        )

    async def read(self, subject: str) -> list[tuple[str, int, Any]]:
        reader = _Reader(self._link)
        following = Following(self._link.jetstream, self._name, subject, reader, first="all", memory=0.0)
        await following.start()
        try:
            async with asyncio.timeout(10 * self._link.config.timeout):
                await reader.done.wait()
        except TimeoutError:
            raise NoQuorum(f"could not read {subject}: the servers did not send all of it in time") from None
        finally:
            await following.close()
        return reader.found

    async def remove(self, subject: str, before: int | None) -> None:
        body: dict[str, Any] = {"filter": subject, **({} if before is None else {"seq": before})}
        await self._request(f"STREAM.PURGE.{self._name}", body)

    async def remove_one(self, number: int) -> None:
        await self._request(f"STREAM.MSG.DELETE.{self._name}", {"seq": number, "no_erase": True})

    async def _request(self, name: str, body: dict[str, Any]) -> None:
        await self._link.jetstream.request(name, body, what="remove events that an agent has taken")


class _Reader:
    """Gathers what a stream has."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self.found: list[tuple[str, int, Any]] = []
        self.done = asyncio.Event()

    def begun(self, is_fresh: bool) -> None:
        if is_fresh:
            self.found.clear()

    def received(self, message: Msg, seq: int) -> None:
        if self.done.is_set():
            return
        try:
            body = self._link.seal.opened(message.data, message.subject.encode())
        except NotSealed as error:
            self._link.dropped[str(error)] += 1
            return
        self.found.append((message.subject, seq, body))

    def complete(self) -> None:
        self.done.set()
