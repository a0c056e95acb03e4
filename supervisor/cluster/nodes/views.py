"""The whole network seen from one node: every node is asked, and their answers become one."""

from __future__ import annotations

import asyncio
import secrets
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any, Protocol

import anyio

from ....ipc.errors import Code, ModvisorError
from ....ipc.event import Event, EventResponse
from ....ipc.messages import unpack
from ...fleet import SeenRow
from ...metrics import rendered_nodes
from . import merged
from .looks import FOLLOW, PART, UNFOLLOW, VIEW, Looked, Looks, Reply
from .merged import Seen

ASKED_AGAIN = 5.0  # seconds, a third of what a follower is told for without asking
QUEUE = 10_000  # items that a slow follower may lag behind


class Link(Protocol):
    """The way to the other nodes, as far as it is needed here."""

    async def ask(self, subject: str, body: Any, *, timeout: float) -> Any: ...
    def tell(self, subject: str, body: Any) -> None: ...
    async def serve(self, subject: str, handler: Callable[[Any, Reply], None]) -> Any: ...


class Views:
    """Looks at all nodes of a cluster: an `Everywhere`.

    Args:
        here: what this node says of itself.
        nodes: returns the names of the nodes that are there.
        stores: returns what the servers keep, see `stores`.
        about: returns what the overview says: the cluster, and each node as it tells of itself.
        timeout: how long a node may take to answer.
    """

    def __init__(
        self,
        here: Looks,
        link: Link,
        subject: Callable[..., str],
        node: str,
        nodes: Callable[[], Iterable[str]],
        about: Callable[[], dict[str, Any]],
        stores: Callable[[], Awaitable[list[dict[str, Any]]]],
        network: Looked,
        timeout: float,
    ) -> None:
        self.node = node
        self._here = here
        self._link = link
        self._subject = subject
        self._nodes = nodes
        self._about = about
        self._stores = stores
        self._network = network
        self._timeout = timeout
        self._rows: dict[str, _NodeRows] = {}

    # -- asking

    async def seen(self, node: str | None, what: str, *args: Any) -> list[Seen]:
        """Return what each node says, or one of them: this node first, then the others by name.

        Raises:
            ModvisorError: no node has the name.
        """
        if node is not None:
            return [await self._seen(self._known(node), what, *args)]
        others = sorted(set(self._nodes()) - {self.node})
        return await self._each(what, [(name, args) for name in (self.node, *others)])

    async def _each(self, what: str, asked: Sequence[tuple[str, Sequence[Any]]]) -> list[Seen]:
        """Return what nodes say, each asked with arguments of its own."""
        found = dict.fromkeys([name for name, _ in asked], Seen(""))

        async def look(name: str, args: Sequence[Any]) -> None:
            found[name] = await self._seen(name, what, *args)

        async with anyio.create_task_group() as tasks:
            for name, args in asked:
                tasks.start_soon(look, name, args)
        return list(found.values())

    def _known(self, node: str) -> str:
        """Return the name of a node that is there; a full stop is this one."""
        if node in (".", self.node):
            return self.node
        names = sorted({self.node, *self._nodes()})
        if node not in names:
            text = f"no node {node!r} is in this network now; there are: {', '.join(names)}"
            raise ModvisorError(text, code=Code.NOT_FOUND)
        return node

    async def _seen(self, node: str, what: str, *args: Any) -> Seen:
        try:
            return Seen(node, await self._looked(node, what, *args))
        except TimeoutError:
            return Seen(node, error=f"no answer within {self._timeout:g} s")
        except ModvisorError as error:
            return Seen(node, error=str(error))

    async def _looked(self, node: str, what: str, *args: Any) -> Any:
        if node == self.node:
            return await self._here.look(what, *args)
        name, count, data = await self._asked(node, what, *args)
        packed = [data, *[(await self._asked(node, PART, name, number))[2] for number in range(1, count)]]
        return unpack(zlib.decompress(b"".join(packed)))

    async def _asked(self, node: str, *body: Any) -> tuple[str, int, bytes]:
        answer = await self._link.ask(self._subject("node", node, VIEW), list(body), timeout=self._timeout)
        if not answer[0]:
            raise ModvisorError(f"node {node}: {answer[2]}", code=answer[1])
        return answer[1], answer[2], answer[3]

    # -- one mod

    def named(self, key: str, node: str | None) -> tuple[str, str | None]:
        """Return the mod and the node that the id of a row names; else what was given. No id or path has such a form."""
        mod, slash, name = key.rpartition("/")
        if not slash or mod.startswith((".", "/")) or "/" in mod:
            return key, node
        return mod, node or name

    async def mod(self, mod: str, node: str | None) -> dict[str, Any]:
        """Return all that is known of a mod where it runs. What no node runs is described as it is known here."""
        seen = await self.seen(node, "mod", mod)
        found = next((each for each in seen if each.data is not None), None)
        if found is not None:
            return {**found.data, "node": found.node}
        if node is not None:
            why = seen[0].error or f"mod {mod!r} does not run on node {node}"
            raise ModvisorError(why, code=Code.NO_SUCH_MOD, mod=mod)
        return {**await self._network.describe_mod(mod), "node": None}

    async def plan(self, mod: str, do: str) -> dict[str, Any]:
        """Return what a command on a mod would do where it runs."""
        found = [each for each in await self.seen(None, "plan", mod, do) if each.data is not None]
        if not found:
            return self._network.plan_for(mod, do).to_dict()
        plan = found[0].data
        if len(found) == 1:
            return plan
        text = f"{plan['text']} It is done on every node that runs the mod: {', '.join(each.node for each in found)}."
        return {**plan, "text": text}

    async def audit(self, limit: int, before: str | None, what: str | None, node: str | None) -> dict[str, Any]:
        """Return the newest records of all nodes, what goes on with older ones, and which nodes were asked."""
        last = merged.numbers_of(before)
        names = {self.node, *self._nodes()} if node is None else {self._known(node)}
        asked = [(name, [limit + 1, last.get(name), what]) for name in sorted(names)]
        return merged.audit(await self._each("audit", asked), limit, last)

    # -- figures

    async def mods(self, node: str | None) -> dict[str, Any]:
        """Return the figures of each mod, and which nodes were asked."""
        seen = await self.seen(node, "mods")
        own = {} if node is not None else self._network.get_network_stats()["mods"]
        return {"mods": merged.mods(own, seen), "nodes": merged.named(seen)}

    async def stats(self, node: str | None) -> dict[str, Any]:
        """Return everything that is counted and measured."""
        seen = await self.seen(node, "stats")
        if node is None:
            return merged.stats(self._network.get_network_stats(), seen)
        if not seen[0].answered:
            raise ModvisorError(f"node {node}: {seen[0].error}", code=Code.NOT_FOUND)
        return merged.stats({**seen[0].data, "mods": {}}, seen)

    async def crashes(self, mod: str | None, node: str | None) -> dict[str, Any]:
        """Return the crash reports, oldest first."""
        seen = await self.seen(node, "crashes", mod)
        return {"crashes": merged.crashes(seen), "nodes": merged.named(seen)}

    async def metrics(self, accept: str, node: str | None) -> tuple[bytes, str]:
        """Return the figures as Prometheus reads them."""
        seen = await self.seen(node, "metrics")
        series = {each.node: each.data if each.answered else None for each in seen}
        return await anyio.to_thread.run_sync(rendered_nodes, series, accept)

    # -- logs and events

    async def log(self, mod: str, lines: int, node: str | None) -> list[tuple[str, str]]:
        """Return the last lines of a mod's log in the order of time."""
        return merged.lines(await self.seen(node, "log", mod, lines), lines)

    @asynccontextmanager
    async def follow_log(self, mod: str, node: str | None) -> AsyncIterator[asyncio.Queue[tuple[str, str]]]:
        """Follow the new lines of a mod's log."""
        queue: asyncio.Queue[tuple[str, str]] = asyncio.Queue(QUEUE)
        async with self._followed("log", mod, node, lambda name, line: _put(queue, (name, line)), itself=True):
            yield queue

    @asynccontextmanager
    async def follow_events(
        self, queue: asyncio.Queue[tuple[Event, EventResponse]], pattern: str, node: str | None
    ) -> AsyncIterator[None]:
        """Put the events that finish on the other nodes into a queue."""

        def put(_: str, item: Any) -> None:
            _put(queue, (Event.from_dict(item[0]), EventResponse.from_dict(item[1])))

        async with self._followed("events", pattern, node, put):
            yield

    @asynccontextmanager
    async def _followed(
        self, what: str, arg: str, node: str | None, put: Callable[[str, Any], None], *, itself: bool = False
    ) -> AsyncIterator[None]:
        """Have the other nodes tell what is new inside the block; with ``itself`` this one too."""
        wanted = None if node is None else self._known(node)
        number = secrets.token_hex(8)

        def told(body: Any, _: Reply) -> None:
            name, items = body
            for item in items:
                put(name, item)

        served = await self._link.serve(self._subject("node", self.node, "followed", number), told)
        names = set[str]()
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._keep_following, (what, arg, number), wanted, names, itself)
                yield
                tasks.cancel_scope.cancel()
        finally:
            for name in names:
                with suppress(ModvisorError):
                    self._link.tell(self._subject("node", name, VIEW), [UNFOLLOW, number, self.node])
            with anyio.CancelScope(shield=True):
                await served.close()

    async def _keep_following(
        self, what: tuple[str, str, str], wanted: str | None, names: set[str], itself: bool
    ) -> None:
        while True:
            there = {wanted} if wanted is not None else {self.node, *self._nodes()}
            for name in there if itself else there - {self.node}:
                names.add(name)
                with suppress(ModvisorError):
                    self._link.tell(self._subject("node", name, VIEW), [FOLLOW, *what, self.node])
            await anyio.sleep(ASKED_AGAIN)

    # -- what a page shows

    async def look(self, seq: int) -> None:
        """Bring the rows of the other nodes up to date."""
        names = set(self._nodes()) - {self.node}
        self._rows = {name: self._rows.get(name) or _NodeRows() for name in sorted(names)}

        async def look(name: str, rows: _NodeRows) -> None:
            seen = await self._seen(name, "rows", rows.name, rows.seq)
            rows.take(name, seen, seq)

        async with anyio.create_task_group() as tasks:
            for name, rows in self._rows.items():
                tasks.start_soon(look, name, rows)

    def rows(self, own: dict[str, SeenRow]) -> dict[str, SeenRow]:
        """Return the rows of all nodes."""
        found = [(mod_id, name, row) for name, each in self._rows.items() for mod_id, row in each.rows.items()]
        there = {mod_id for mod_id, _, _ in found}
        here = self._here.here()
        mine = [
            (mod_id, self.node if mod_id in here else None, row)
            for mod_id, row in own.items()
            if mod_id in here or mod_id not in there
        ]
        many = merged.repeated(mod_id for mod_id, _, _ in (*mine, *found))
        order = {mod_id: place for place, mod_id in enumerate(own)}
        every = sorted((*mine, *found), key=lambda each: order.get(each[0], len(order)))
        return {
            (key := merged.key_of(mod_id, node, many)): (seq, {**row, "id": key, "mod": mod_id, "node": node})
            for mod_id, node, (seq, row) in every
        }

    def network_row(self, own: dict[str, Any]) -> dict[str, Any]:
        """Return the whole network as one row."""
        others = [each.network for each in self._rows.values() if each.network is not None]
        nodes = [{"node": self.node, "answered": True, "error": None}]
        nodes += [
            {"node": name, "answered": each.error is None, "error": each.error} for name, each in self._rows.items()
        ]
        return merged.network_row(own, others, nodes)

    # -- the nodes

    async def overview(self) -> dict[str, Any]:
        """Return the nodes, and how the servers are reached."""
        about = self._about()
        seen, stores = await asyncio.gather(self.seen(None, "stats"), self._stores())
        told = {each["node"]: each for each in merged.stats(self._network.get_network_stats(), seen)["nodes"]}
        listed = {each["node"]: each for each in about["nodes"]}
        nodes = [{**listed.get(name, {}), **each} for name, each in sorted(told.items())]
        return {**about, "node": self.node, "nodes": nodes, "stores": stores}

    async def drain(self, node: str) -> EventResponse:
        """Have a node hand over its mods."""
        name = self._known(node)
        try:
            return EventResponse.from_dict(await self._drained(name))
        except TimeoutError:
            text = (
                f"node {name} takes longer than {_DRAIN:g} s to hand over its mods; it goes on, see 'modvisor node ls'"
            )
            raise ModvisorError(text, code=Code.TIMEOUT) from None

    async def _drained(self, name: str) -> dict[str, Any]:
        if name == self.node:
            async with asyncio.timeout(_DRAIN):
                return await self._here.look("drain")
        subject = self._subject("node", name, VIEW)
        answer = await self._link.ask(subject, ["drain"], timeout=_DRAIN)
        if not answer[0]:
            raise ModvisorError(f"node {name}: {answer[2]}", code=answer[1])
        return unpack(zlib.decompress(answer[3]))


_DRAIN = 120.0  # seconds: each mod has its own `limits.drain_timeout`


class _NodeRows:
    """The rows of one other node, as it told them last."""

    def __init__(self) -> None:
        self.name = ""
        self.seq = 0
        self.rows: dict[str, SeenRow] = {}
        self.network: dict[str, Any] | None = None
        self.error: str | None = None

    def take(self, node: str, seen: Seen, seq: int) -> None:
        """Note what the node told. Rows that have changed get the number of the look here."""
        self.error = seen.error
        if not seen.answered:
            return
        data = seen.data
        if data["name"] != self.name:
            self.rows = {}
        new = {row["id"]: (seq, row) for row in data["rows"]}
        self.rows = {mod_id: new.get(mod_id) or self.rows[mod_id] for mod_id in data["ids"]}
        self.name, self.seq, self.network = data["name"], data["seq"], data["network"]


def _put(queue: asyncio.Queue[Any], item: Any) -> None:
    if not queue.full():
        queue.put_nowait(item)
