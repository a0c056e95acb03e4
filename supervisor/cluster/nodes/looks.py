"""Lets the other nodes look at this one: figures, logs, crashes, events as they finish.

A look is a request on the node's subject `view`: `[what, args]`. Its answer is packed and compressed,
and comes in parts, each of which fits a message of NATS: the first request gets the first part.
A node that follows something asks again every few seconds, and gets what is new on a subject of its own.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
import zlib
from collections import OrderedDict
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from typing import Any, Protocol

import anyio
from anyio.abc import TaskGroup

from ....ipc import __version__
from ....ipc.errors import Code, ModvisorError, Unserializable
from ....ipc.event import Event, EventResponse
from ....ipc.messages import pack
from ....ipc.topic import matches
from ...fleet import ModRows, Plan

logger = logging.getLogger("modvisor.cluster")

VIEW = "view"
PART, UNFOLLOW, FOLLOW = "part", "unfollow", "follow"
PART_BYTES = 512 * 1024  # half of what a message of NATS holds
ANSWERS_KEPT = 16  # answers in several parts that are being fetched
FOLLOWED_FOR = 15.0  # seconds that a follower gets what is new without asking again
MOST_FOLLOWED = 64  # by all nodes together
BATCH_BYTES = 256 * 1024  # about how large a message to a follower becomes
FRESH = 0.5  # seconds for which the rows that were looked at last are given again

Reply = Callable[[Any], None]


class Serving(Protocol):
    """The way to the other nodes, as far as it is needed here."""

    async def serve(self, subject: str, handler: Callable[[Any, Reply], None]) -> Any: ...
    async def serve_at_last(self, subject: str, handler: Callable[[Any, Reply], None], what: str) -> Any: ...
    def tell(self, subject: str, body: Any) -> None: ...


class Looked(Protocol):
    """What can be seen of the network on this node."""

    @property
    def address(self) -> str | None: ...
    def get_network_stats(self) -> dict[str, Any]: ...
    def mods_here(self) -> set[str]: ...
    def runs_here(self, mod: str) -> bool: ...
    async def describe_mod(self, mod: str) -> dict[str, Any]: ...
    def plan_for(self, mod: str, do: str) -> Plan: ...
    async def audit_records(
        self, limit: int, before: int | None = None, what: str | None = None
    ) -> list[dict[str, Any]]: ...
    def get_crashes(self, mod: str | None = None) -> list[dict[str, Any]]: ...
    def mod_log(self, mod: str, lines: int = 100) -> list[str]: ...
    def network_row(self) -> dict[str, Any]: ...
    async def metric_series(self) -> dict[str, Any]: ...
    def follow_log(self, mod: str) -> AbstractContextManager[asyncio.Queue[str]]: ...
    def tap(
        self, wanted: Callable[[tuple[Event, EventResponse]], bool] = ...
    ) -> AbstractContextManager[asyncio.Queue[tuple[Event, EventResponse]]]: ...


class Looks:
    """Answers the looks of other nodes.

    Args:
        subject: makes a subject of its parts.
        rows: the rows of the mods, for who follows the network; used by nobody else.
        drain: hands over the mods of this node.
    """

    def __init__(
        self,
        network: Looked,
        link: Serving,
        subject: Callable[..., str],
        node: str,
        rows: ModRows,
        drain: Callable[[], Any],
    ) -> None:
        self._network = network
        self._link = link
        self._subject = subject
        self._node = node
        self._rows = Rows(network, rows)
        self._drain = drain
        self._parts: OrderedDict[str, list[bytes]] = OrderedDict()
        self._follows: dict[tuple[str, str], _Follow] = {}
        self._tasks: TaskGroup | None = None

    async def run(self) -> None:
        """Answer until cancelled."""
        async with anyio.create_task_group() as tasks:
            self._tasks = tasks
            served = await self._link.serve_at_last(
                self._subject("node", self._node, VIEW), self._asked, "the other nodes cannot show this one"
            )
            try:
                await anyio.sleep_forever()
            finally:
                with anyio.CancelScope(shield=True):
                    await served.close()

    def _asked(self, body: Any, reply: Reply) -> None:
        assert self._tasks is not None
        self._tasks.start_soon(self._answer, body, reply)

    async def _answer(self, body: Any, reply: Reply) -> None:
        try:
            what, *args = body
            reply(self._in_parts(await self.look(what, *args)))
        except ModvisorError as error:
            reply([False, str(error.code), str(error)])
        except Exception as error:  # a node of another version asks what this one does not know
            logger.exception("a look of another node failed: %.200r", body)
            reply([False, str(Code.INTERNAL), f"{type(error).__name__}: {error}"])

    async def look(self, what: str, *args: Any) -> Any:
        """Return what this node says. Raises `ModvisorError`."""
        match what:
            case "mods":
                return self.mods()
            case "stats":
                return {**self._network.get_network_stats(), "mods": self.mods(), **self._about_itself()}
            case "mod":
                return await self._mod(*args)
            case "plan":
                return self._plan(*args)
            case "audit":
                return await self._network.audit_records(*args)
            case "crashes":
                return self._crashes(*args)
            case "log":
                return self._log(*args)
            case "metrics":
                return await self._network.metric_series()
            case "rows":
                return await self._rows.since(*args)
            case "drain":
                return (await self._drain()).to_dict()
            case "part":
                return self._part(*args)
            case "follow":
                return self._follow(*args)
            case "unfollow":
                return self._unfollow(*args)
            case _:
                text = f"node {self._node} does not know the look {what!r}; its version differs from this node's"
                raise ModvisorError(text, code=Code.BAD_INPUT)

    def here(self) -> set[str]:
        """Return the ids of the mods that run here."""
        return self._network.mods_here()

    def mods(self) -> dict[str, Any]:
        """Return the figures of the mods that run here."""
        here = self._network.mods_here()
        return {mod_id: mod for mod_id, mod in self._network.get_network_stats()["mods"].items() if mod_id in here}

    def _about_itself(self) -> dict[str, Any]:
        """Return what only a list of nodes shows of this node."""
        return {"version": __version__, "address": self._network.address}

    async def _mod(self, mod: str) -> dict[str, Any] | None:
        """Return all that is known of a mod; None: it does not run here."""
        return await self._network.describe_mod(mod) if self._network.runs_here(mod) else None

    def _plan(self, mod: str, do: str) -> dict[str, Any] | None:
        """Return what a command on a mod would do here; None: it does not run here."""
        return self._network.plan_for(mod, do).to_dict() if self._network.runs_here(mod) else None

    def _crashes(self, mod: str | None) -> list[dict[str, Any]]:
        try:
            return self._network.get_crashes(mod)
        except ModvisorError as error:  # whether the mod is loaded, the node that asks knows
            return _nothing_of(error)

    def _log(self, mod: str, lines: int) -> list[str]:
        try:
            return self._network.mod_log(mod, lines)
        except ModvisorError as error:  # it never ran here
            return _nothing_of(error)

    # -- answers in parts

    def _in_parts(self, answer: Any) -> list[Any]:
        if isinstance(answer, bytes):
            return [True, "", 1, answer]
        packed = zlib.compress(pack(answer), 1)
        parts = [packed[at : at + PART_BYTES] for at in range(0, len(packed), PART_BYTES)]
        name = ""
        if len(parts) > 1:
            name = secrets.token_hex(8)
            self._parts[name] = parts
            if len(self._parts) > ANSWERS_KEPT:
                self._parts.popitem(last=False)
        return [True, name, len(parts), parts[0]]

    def _part(self, name: str, number: int) -> bytes:
        parts = self._parts.get(name)
        if parts is None:
            raise ModvisorError("the answer is forgotten; ask again", code=Code.NOT_FOUND)
        if number == len(parts) - 1:
            del self._parts[name]
        return parts[number]

    # -- following

    def _follow(self, what: str, arg: str, number: str, by: str) -> bool:
        """Tell a node what is new, for a while. Returns whether it is told."""
        assert self._tasks is not None
        known = self._follows.get((by, number))
        if known is not None:
            known.last()
            return True
        if len(self._follows) >= MOST_FOLLOWED:
            text = f"node {self._node} is followed {MOST_FOLLOWED} times, which is the most"
            raise ModvisorError(text, code=Code.TOO_MANY)
        try:
            source = self._source(what, arg)
        except ModvisorError as error:
            return bool(_nothing_of(error))
        follow = self._follows[by, number] = _Follow(source, _CODECS[what], self._teller(by, number))
        self._tasks.start_soon(self._run, (by, number), follow)
        return True

    def _source(self, what: str, arg: str) -> AbstractContextManager[asyncio.Queue[Any]]:
        if what == "log":
            return self._network.follow_log(arg)
        if what == "events":
            return self._network.tap(lambda seen: matches(arg, seen[0].event_name))
        raise ModvisorError(f"node {self._node} cannot be followed for {what!r}", code=Code.BAD_INPUT)

    def _teller(self, by: str, number: str) -> Callable[[list[Any]], None]:
        to = self._subject("node", by, "followed", number)
        return lambda items: self._link.tell(to, [self._node, items])

    async def _run(self, key: tuple[str, str], follow: _Follow) -> None:
        try:
            await follow.run()
        finally:
            self._follows.pop(key, None)

    def _unfollow(self, number: str, by: str) -> bool:
        follow = self._follows.get((by, number))
        if follow is not None:
            follow.scope.cancel()
        return follow is not None


def _nothing_of(error: ModvisorError) -> list[Any]:
    if error.code == Code.NO_SUCH_MOD:
        return []
    raise error


class _Follow:
    """What one node follows here."""

    def __init__(
        self,
        source: AbstractContextManager[asyncio.Queue[Any]],
        encode: Callable[[Any], Any],
        tell: Callable[[list[Any]], None],
    ) -> None:
        self._source = source
        self._encode = encode
        self._tell = tell
        self.scope = anyio.CancelScope()
        self.last()

    def last(self) -> None:
        """Follow for a while longer."""
        self.scope.deadline = anyio.current_time() + FOLLOWED_FOR

    async def run(self) -> None:
        with self.scope, self._source as queue:
            while True:
                self._send([await queue.get()], queue)

    def _send(self, items: list[Any], queue: asyncio.Queue[Any]) -> None:
        """Send an item with the others that wait, as far as a message holds them."""
        message: list[Any] = []
        size = 0
        while items:
            encoded = self._encode(items.pop())
            with suppress(Unserializable):
                size += len(pack(encoded))
                message.append(encoded)
            if size < BATCH_BYTES and not queue.empty():
                items.append(queue.get_nowait())
        with suppress(ModvisorError):  # the way is down, or one item is too large: who follows sees the rest
            self._tell(message)


_CODECS: dict[str, Callable[[Any], Any]] = {
    "log": lambda line: line,
    "events": lambda seen: [seen[0].to_dict(), seen[1].to_dict()],
}


class Rows:
    """The rows of the mods here, for the pages of other nodes."""

    def __init__(self, network: Looked, rows: ModRows) -> None:
        self._network = network
        self._rows = rows
        self._name = secrets.token_hex(4)  # numbers of looks begin anew when the node does
        self._seq = 0
        self._at = -1e9
        self._looking = anyio.Lock()

    async def since(self, name: str, seq: int) -> dict[str, Any]:
        """Return the rows that have changed since a look, and the ids of all mods here."""
        async with self._looking:
            now = time.monotonic()
            if now - self._at >= FRESH:
                passed = now - self._at
                self._seq += 1
                for _ in self._rows.look(self._seq, passed if passed < 10 else 0.0):
                    await anyio.lowlevel.checkpoint()
                self._at = now
        after, here = (seq if name == self._name else 0), self._network.mods_here()
        rows = {mod_id: row for mod_id, row in self._rows.rows.items() if mod_id in here}
        return {
            "name": self._name,
            "seq": self._seq,
            "ids": list(rows),
            "rows": [row.data for row in rows.values() if row.seq > after],
            "network": self._network.network_row(),
        }
