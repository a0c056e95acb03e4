"""A running network as it changes: the figures of the whole, a row per mod, the traffic between them.

The network sends all of it once, and then what changed (``GET /admin/v1/live``). One of an older
version has no such route: it is asked for its stats again and again, see `polled`.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Iterable
from contextlib import closing
from typing import TYPE_CHECKING, Any

from ..terminal.exits import CliError

if TYPE_CHECKING:
    from .client import Client

Row = dict[str, Any]

POINTS = 60  # of a history
SPACING = 5.0  # seconds between two points of a history: the network takes a sample so often
SILENCE = 10.0  # seconds without a line after which the network hangs, or the connection is dead

HISTORIES = (("cpu_history", "cpu"), ("rss_history", "rss"))


class Picture:
    """What is known of a network right now.

    Attributes:
        at: when, in Unix seconds by the network's clock; 0: nothing is known yet.
        network: figures of the whole; ``mods``: a row per mod, by id, in load order.
        edges: ``[from, to, events per second, failures per second]``.
    """

    def __init__(self) -> None:
        self.at = 0.0
        self.network: dict[str, Any] = {}
        self.mods: dict[str, Row] = {}
        self.edges: list[list[Any]] = []
        self._points: int | None = None  # of the histories
        self._due = 0.0  # the next one, if the network does not count them

    def take(self, record: dict[str, Any]) -> None:
        """Apply a record of ``/live``: all there is, or what changed."""
        self.at = float(record.get("at") or time.time())
        self.network = self.network | (record.get("network") or {})
        self.edges = record.get("edges", self.edges)
        if record.get("type") == "all":
            self._begin(record.get("mods") or ())
        else:
            self._change(record)
        self._add_points(record.get("points"))
        for row in self.mods.values():
            if row.get("since") is not None:  # rows are not sent again because they grow older
                row["uptime"] = max(0.0, self.at - row["since"])

    def _begin(self, rows: Iterable[Row]) -> None:
        """Have these rows and no others. A network that tells no histories leaves those that are known."""
        before, self.mods = self.mods, {row["id"]: row for row in rows}
        for mod_id, row in self.mods.items():
            for history, _ in HISTORIES:
                if history not in row and history in (known := before.get(mod_id, {})):
                    row[history] = known[history]

    def _change(self, record: dict[str, Any]) -> None:
        for row in record.get("mods") or ():
            self.mods[row["id"]] = self.mods.get(row["id"], {}) | row
        for mod_id in record.get("removed") or ():
            self.mods.pop(mod_id, None)
        if order := record.get("order"):
            placed = {mod_id: self.mods[mod_id] for mod_id in order if mod_id in self.mods}
            self.mods = placed | self.mods

    def _add_points(self, points: int | None) -> None:
        """Go on with the histories, which only the first record has.

        Args:
            points: how many points the network has taken; None: it does not say, so the time does.
        """
        if points is None:
            is_due = self.at >= self._due
            self._due = self.at + SPACING if is_due else self._due
        else:
            is_due, self._points = self._points is not None and points > self._points, points
        for row in self.mods.values() if is_due else ():
            for history, figure in HISTORIES:
                if row.get(figure) is not None:
                    row[history] = [*(row.get(history) or ()), row[figure]][-POINTS:]

    def to_dict(self) -> dict[str, Any]:
        """Return the whole as plain data, without the histories."""
        left_out = {history for history, _ in HISTORIES}
        mods = [{key: value for key, value in row.items() if key not in left_out} for row in self.mods.values()]
        return {"at": self.at, "network": self.network, "mods": mods, "edges": self.edges}


def follow(client: Client, interval: float) -> Generator[dict[str, Any], None, None]:
    """Yield the records of a network, one per interval, the first one with everything.

    Raises:
        CliError: as `Client.stream` does, also when the network falls silent.
    """
    try:
        with closing(client.stream("/live", timeout=interval + SILENCE, interval=interval)) as records:
            yield from records
    except CliError as error:
        if error.error != "not_found":
            raise
        from .polled import poll

        yield from poll(client, interval)
