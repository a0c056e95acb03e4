"""`StreamStore`: keep the counts on disk. A save writes only what changed since the last one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ..database import open_database, transaction
from .windows import Stream

MIGRATIONS = [
    """
    CREATE TABLE stream (id INTEGER PRIMARY KEY CHECK (id = 1), data TEXT NOT NULL);
    CREATE TABLE buckets (
        ring TEXT NOT NULL,
        number INTEGER NOT NULL,
        data TEXT NOT NULL,
        PRIMARY KEY (ring, number)
    );
    """
]


class StreamStore:
    """Keeps one stream in a database file."""

    def __init__(self, path: Path) -> None:
        self._connection = open_database(path, MIGRATIONS)

    def close(self) -> None:
        self._connection.close()

    def save(self, stream: Stream) -> None:
        """Write the totals, the open bucket and every changed bucket."""
        core = stream.dump_core()
        with transaction(self._connection):
            self._connection.execute("INSERT OR REPLACE INTO stream VALUES (1, ?)", (_to_json(core),))
            for name, ring in stream.rings.items():
                self._connection.executemany(
                    "INSERT OR REPLACE INTO buckets VALUES (?, ?, ?)",
                    [(name, number, _to_json(ring.buckets[number].dump())) for number in ring.changed],
                )
                # Delete the buckets that the ring dropped: it moved on, or the clock was set back.
                self._connection.execute(
                    "DELETE FROM buckets WHERE ring = ? AND NOT number BETWEEN ? AND ?",
                    (name, min(ring.buckets, default=0), max(ring.buckets, default=-1)),
                )
        for ring in stream.rings.values():
            ring.changed.clear()

    def load(self, stream: Stream) -> None:
        """Fill an empty stream with the saved counts, if there are any."""
        row = self._connection.execute("SELECT data FROM stream").fetchone()
        if row is None:
            return
        stream.load_core(json.loads(row["data"]))
        for row in self._connection.execute("SELECT ring, data FROM buckets"):
            if row["ring"] in stream.rings:
                stream.load_bucket(row["ring"], json.loads(row["data"]))


def _to_json(data: dict[str, Any]) -> str:
    return json.dumps(data, separators=(",", ":"))
