"""Bars on a terminal's stderr for what takes long: what the network has under way, or what the command itself does."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from ..terminal.exits import CliError

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from .client import Client

SHOWN_AFTER = 0.5  # seconds: what is done sooner needs no bar
ASKED_EVERY = 0.25  # seconds
PATIENCE = 2.0  # seconds for one answer


def is_shown() -> bool:
    """Return whether stderr is a terminal on which a line can be drawn again."""
    return sys.stderr.isatty() and os.environ.get("TERM", "") not in ("", "dumb", "unknown")


@contextmanager
def waiting(client: Client) -> Iterator[None]:
    """Show what the network has under way since now, until the block ends."""
    ended = threading.Event()
    thread = threading.Thread(
        target=_show, args=(client, time.monotonic(), ended), name="modvisor-progress", daemon=True
    )
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _show(client: Client, began: float, ended: threading.Event) -> None:
    if ended.wait(SHOWN_AFTER):
        return
    with bars() as shown:
        lines = _Lines(shown)
        while not ended.is_set():
            try:
                works = client.get("/progress", timeout=PATIENCE)["under_way"]
            except CliError:  # an older network, or one that has just ended: the request itself says more
                return
            seconds = time.monotonic() - began
            lines.update([work for work in works if work["seconds"] <= seconds])
            ended.wait(ASKED_EVERY)


class _Lines:
    """A line for each request under way."""

    def __init__(self, shown: Progress) -> None:
        self._shown = shown
        self._tasks: dict[int, TaskID] = {}

    def update(self, works: list[dict[str, Any]]) -> None:
        for work in works:
            if work["id"] not in self._tasks:
                self._tasks[work["id"]] = self._shown.add_task("", total=None)
            about = f"{work['what'].partition('.')[2] or work['what']} {work['on'] or ''}".strip()
            self._shown.update(
                self._tasks[work["id"]],
                description=f"{about}  {work['stage']}",
                completed=work["done"],
                total=work["total"],
            )
        for gone in self._tasks.keys() - {work["id"] for work in works}:
            self._shown.remove_task(self._tasks.pop(gone))


@contextmanager
def counted(text: str, *, shown: bool) -> Iterator[Callable[[int, int], None]]:
    """Show a bar for something that this command does itself; give what to call with how much is done, of how much."""
    if not (shown and is_shown()):
        yield lambda done, total: None
        return
    with bars() as bar:
        task = bar.add_task(text, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def bars() -> Progress:
    """Return bars on stderr that leave nothing behind. Their texts may come from mods: none is markup."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    from ..terminal.output import console

    columns = (TextColumn("{task.description}", markup=False), BarColumn(), TimeElapsedColumn())
    return Progress(*columns, console=console(stderr=True), transient=True)
