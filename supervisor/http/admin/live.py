"""The live view of a network: everything at first, then what has changed, once a second or slower.

The network is looked at once for all who watch, by whoever's turn comes first. Each row is encoded
once. A watcher that is slow, or asks for a longer interval, gets what has changed since its last line.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from collections.abc import Awaitable, Iterable
from typing import TYPE_CHECKING, Any

import anyio
import anyio.lowlevel
import msgspec
from starlette.requests import Request
from starlette.responses import Response

from ....ipc.errors import Code, ModvisorError
from ..access.gate import still_in
from ..routes.streams import LineStream, Write
from .spec import INTERVAL, SINCE

if TYPE_CHECKING:
    from ...operations import Operations

# No keys of the network file: what the view costs is bounded by `dashboard.live_streams`.
FRESH = 0.05  # seconds for which a look serves all whose turn has come
RATED = 0.5  # the least seconds over which a rate is taken
PAUSE = 10.0  # seconds after which a rate since the last look would say nothing
AT_ONCE = 50  # rows that are written with their histories before the event loop gets a turn
REMOVALS = 1000  # mods that were unloaded, which a watcher that comes back is told of

_to_json = msgspec.json.Encoder().encode  # all is plain, and it takes a sixth of the time of `as_json`


class LiveView:
    """What all watchers see, as of the newest look.

    Attributes:
        seq: the number of that look. It grows over a restart of the network, too.
        watchers: how many follow.
    """

    def __init__(self, network: Operations) -> None:
        self._network = network
        self.watchers = 0
        self._lock = anyio.Lock()
        self.seq = self._first = time.time_ns() // 1_000_000
        self._at = self._rated_at = -math.inf  # loop time of the look, and of the one that the rates are from
        self._order: tuple[str, ...] = ()
        self._order_seq = 0
        self._removed: deque[tuple[int, str]] = deque(maxlen=REMOVALS)
        self._encoded: dict[str, tuple[int, bytes]] = {}
        self._whole: tuple[int, bytes] = 0, b""  # the network's own row, of a look
        self._edges = b"[]"
        self._processed = 0
        self._per_second = 0.0
        self._points = 0

    async def look(self) -> None:
        """Look at the network, unless somebody just has. Raises `ModvisorError` (not_running)."""
        async with self._lock:
            now = asyncio.get_running_loop().time()
            if now - self._at < FRESH:
                return
            seconds = self._since_rated(now)
            for _ in self._network.look_at_mods(self.seq + 1, seconds):
                await anyio.lowlevel.checkpoint()
            if self._network.everywhere is not None:
                await self._network.everywhere.look(self.seq + 1)
            self._note(seconds)
            self._at = now

    def _since_rated(self, now: float) -> float | None:
        """Return the seconds over which rates are taken. None: they stay as they are; 0: they are not known."""
        passed = now - self._rated_at
        if passed < RATED:
            return None
        self._rated_at = now
        return passed if passed < PAUSE else 0.0

    def _note(self, seconds: float | None) -> None:
        self.seq += 1
        rows = self._network.mod_rows()
        order = tuple(rows)
        if order != self._order:
            self._removed.extend((self.seq, mod_id) for mod_id in self._order if mod_id not in rows)
            self._order, self._order_seq = order, self.seq
            self._encoded = {mod_id: each for mod_id, each in self._encoded.items() if mod_id in rows}
        if seconds is not None:
            self._rate(seconds)

    def _rate(self, seconds: float) -> None:
        processed = self._network.counters.processed
        self._per_second = round((processed - self._processed) / seconds, 1) if seconds else 0.0
        self._edges = _to_json(self._network.take_edges(seconds, processed - self._processed))
        self._processed = processed

    async def line(self, since: int | None, interval: float) -> tuple[bytes, int]:
        """Return what has changed since a look, or everything if that is not known; and the number of the newest look."""
        if since is None or not self._knows(since):
            return await self._everything(interval)
        return self._changes(since), self.seq

    def _knows(self, since: int) -> bool:
        is_complete = len(self._removed) < REMOVALS or self._removed[0][0] <= since
        return self._first < since <= self.seq and is_complete

    async def _everything(self, interval: float) -> tuple[bytes, int]:
        """Return everything. A thousand histories take 20 ms: the loop gets turns between them."""
        history, seq, rows = self._network.history, self.seq, list[bytes]()
        points = history.number
        for place, (mod_id, (_, row)) in enumerate(self._network.mod_rows().items()):
            is_here = row.get("node") == self._network.config.node  # what it used elsewhere, its node knows
            cpu, rss = history.of(row.get("mod", mod_id) if is_here else mod_id)
            rows.append(_to_json({**_with_uptime(row), "cpu_history": cpu, "rss_history": rss}))
            if place % AT_ONCE == AT_ONCE - 1:
                await anyio.lowlevel.checkpoint()
        head = {"type": "all", "seq": seq, "at": round(time.time(), 3), "interval": interval, "points": points}
        return self._written(head, rows), seq

    def _changes(self, since: int) -> bytes:
        rows = [
            self._encoded_row(mod_id, seq, row)
            for mod_id, (seq, row) in self._network.mod_rows().items()
            if seq > since
        ]
        head: dict[str, Any] = {"type": "change", "seq": self.seq, "at": round(time.time(), 3)}
        if self._order_seq > since:
            present = self._network.mod_rows()
            head["removed"] = [mod_id for seq, mod_id in self._removed if seq > since and mod_id not in present]
            head["order"] = list(self._order)
        else:
            head["removed"] = []
        return self._written({**head, "points": self._network.history.number}, rows)

    def _encoded_row(self, mod_id: str, seq: int, row: dict[str, Any]) -> bytes:
        known = self._encoded.get(mod_id)
        if known is None or known[0] != seq:
            known = self._encoded[mod_id] = seq, _to_json(_with_uptime(row))
        return known[1]

    def _written(self, head: dict[str, Any], rows: Iterable[bytes]) -> bytes:
        parts = (_to_json(head)[:-1], self._network_row(), b",".join(rows), self._edges)
        return b'%b,"network":%b,"mods":[%b],"edges":%b}\n' % parts

    def _network_row(self) -> bytes:
        if self._whole[0] != self.seq:
            row = {**self._network.whole_network_row(), "events_per_second": self._per_second}
            self._whole = self.seq, _to_json(row)
        return self._whole[1]


class LiveRoutes:
    """The route `/live`."""

    def __init__(self, network: Operations, stopping: asyncio.Event, view: LiveView) -> None:
        self._network = network
        self._stopping = stopping
        self._view = view

    async def live(self, request: Request) -> Response:
        interval, since = INTERVAL.of(request), SINCE.of(request)
        self._check_room()

        async def watch(write: Write) -> None:
            self._check_room()
            self._view.watchers += 1
            try:
                with self._network.watched_ways(all_events=False):
                    await self._watch(write, interval, since)
            finally:
                self._view.watchers -= 1

        return LineStream(watch, self._stopping, still_in(request))

    async def _watch(self, write: Write, interval: float, since: int | None) -> None:
        view = self._view
        while True:
            await view.look()
            line, since = await view.line(since, interval)
            await write([line])
            await _next_turn(interval)

    def _check_room(self) -> None:
        most = self._network.config.dashboard.live_streams
        if self._view.watchers >= most:
            text = f"{most} streams follow the network, which is the most ('dashboard.live_streams')"
            raise ModvisorError(text, code=Code.TOO_MANY)


def _next_turn(interval: float) -> Awaitable[None]:
    """Wait for the next line. All watchers with one interval wait for the same moment, and share a look."""
    now = asyncio.get_running_loop().time()
    turn = (math.floor(now / interval) + 1) * interval
    return anyio.sleep(turn - now if turn - now > RATED else turn - now + interval)


def _with_uptime(row: dict[str, Any]) -> dict[str, Any]:
    since = row["since"]
    return {**row, "uptime": None if since is None else max(0.0, round(time.time() - since, 1))}
