"""Threads that read endless answers of the network while the screen is drawn."""

from __future__ import annotations

import socket
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from ..client.client import Client
from ..client.live import follow
from ..terminal.exits import CliError, ExitCode

MOST_HELD = 5000  # records that wait to be drawn; of a flood the oldest are left out
FIRST_WAIT, LONGEST_WAIT = 0.25, 4.0  # seconds between attempts to find a network again


class Feed(threading.Thread):
    """Follows a network until it is stopped, and finds it again when it was away.

    Args:
        on_record: called in this thread with each record of `follow`; ``on_lost``: with why there is none.
    """

    def __init__(
        self,
        client: Client,
        interval: float,
        on_record: Callable[[dict[str, Any]], None],
        on_lost: Callable[[CliError], None],
    ) -> None:
        super().__init__(name="modvisor-top-feed", daemon=True)
        self._client = client
        self._interval = interval
        self._on_record = on_record
        self._on_lost = on_lost
        self._ended = threading.Event()

    def stop(self) -> None:
        """Let the thread end with the next record."""
        self._ended.set()

    def run(self) -> None:
        wait = FIRST_WAIT
        while not self._ended.is_set():
            try:
                for record in follow(self._client, self._interval):
                    if self._ended.is_set():
                        return
                    wait = FIRST_WAIT
                    self._on_record(record)
            except CliError as error:
                if not self._ended.is_set():
                    self._on_lost(error)
            else:
                if not self._ended.is_set():
                    self._on_lost(
                        CliError(ExitCode.NO_ANSWER, f"the network of {self._client.target} ended the stream")
                    )
            self._ended.wait(wait)
            wait = min(LONGEST_WAIT, wait * 2)


class Lines(threading.Thread):
    """Reads the JSON lines of a path until it is stopped, and holds them for the screen."""

    def __init__(self, client: Client, path: str, **query: Any) -> None:
        super().__init__(name="modvisor-top-lines", daemon=True)
        self._client = client
        self._path = path
        self._query = query
        self._held: deque[dict[str, Any]] = deque(maxlen=MOST_HELD)
        self._connection: socket.socket | None = None
        self._stopped = False
        self.error: CliError | None = None

    def run(self) -> None:
        try:
            for record in self._client.stream(self._path, on_connected=self._connected, **self._query):
                self._held.append(record)
        except CliError as error:
            if not self._stopped:
                self.error = error

    def _connected(self, connection: socket.socket) -> None:
        self._connection = connection
        if self._stopped:
            self.stop()

    def stop(self) -> None:
        """End the answer, which wakes the thread."""
        self._stopped = True
        if self._connection is not None:
            with suppress(OSError):
                self._connection.shutdown(socket.SHUT_RDWR)

    def take(self) -> list[dict[str, Any]]:
        """Return what came since the last call."""
        taken = []
        while self._held:
            taken.append(self._held.popleft())
        return taken
