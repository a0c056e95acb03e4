"""Pages about one mod, or about events: its log, all that is known of it, events as they finish."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from typing import Any, ClassVar

from rich.console import Group
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import VerticalScroll
from textual.screen import Screen
from textual.widgets import Log, Static

from ..client.client import Client, segment
from ..render.crashes import crash_text
from ..render.events import brief_line, event_line
from ..render.figures import size
from ..render.stats import mod_table
from ..terminal.exits import CliError, ExitCode
from ..terminal.output import as_json, printable
from .reading import Lines

DRAWN_EVERY = 0.2  # seconds
NOTHING_AFTER = 1.0  # seconds after which an empty page says so
READ_EVERY = 2.0  # seconds
KEPT = 5000  # lines
OF_LOG = 500  # lines of a log that are shown at once
MOST_EVENTS = 100  # a second; the network leaves out what comes on top, and says how many

STYLE = """
Page #head { height: 1; text-style: bold; }
Page #foot { height: 1; text-style: reverse; width: 100%; }
Page Log, Page VerticalScroll { height: 1fr; background: ansi_default; }
"""


def drawable(text: str) -> str:
    """Return a line without what would control the terminal, and without characters that it cannot show."""
    encoding = getattr(sys.__stderr__, "encoding", None) or "utf-8"  # what the screen is written with
    return printable(text).replace("\n", " ").expandtabs(4).encode(encoding, "replace").decode(encoding)


class Page(Screen[None]):
    """A page over the whole screen, with a title and a line of keys."""

    BINDINGS: ClassVar = [Binding("escape,q", "leave", show=False)]

    def __init__(self, title: str, keys: str) -> None:
        super().__init__()
        self._title = printable(title)
        self._keys = keys

    def compose(self) -> ComposeResult:
        yield Static(self._title, id="head", markup=False)
        yield from self.body()
        yield Static(self._keys, id="foot", markup=False)

    def body(self) -> ComposeResult:
        raise NotImplementedError

    def action_leave(self) -> None:
        self.dismiss()


class StreamPage(Page):
    """Lines of the network as they come.

    Args:
        lines: reads them; ``texts``: what is shown of a record, perhaps nothing.
    """

    BINDINGS: ClassVar = [
        Binding("space", "hold", show=False),
        Binding("G,end", "newest", show=False),
        Binding("g,home", "oldest", show=False),
    ]

    def __init__(self, title: str, lines: Lines, texts: Callable[[dict[str, Any]], Iterable[str]]) -> None:
        super().__init__(title, "Space holds still   up down scroll   G newest   q back")
        self._lines = lines
        self._texts = texts
        self._held = False
        self._came = False

    def body(self) -> ComposeResult:
        yield Log(max_lines=KEPT)

    def on_mount(self) -> None:
        self._lines.start()
        self.set_interval(DRAWN_EVERY, self._draw)
        self.set_timer(NOTHING_AFTER, self._say_nothing)
        self.query_one(Log).focus()

    def on_unmount(self) -> None:
        self._lines.stop()

    def action_hold(self) -> None:
        self._held = not self._held
        self._say("held still; Space goes on" if self._held else self._keys)

    def action_newest(self) -> None:
        self.query_one(Log).scroll_end(animate=False)

    def action_oldest(self) -> None:
        self.query_one(Log).scroll_home(animate=False)

    def _draw(self) -> None:
        if self._held:
            return
        texts = [drawable(text) for record in self._lines.take() for text in self._texts(record)]
        if texts:
            if not self._came:
                self._came = True
                self._say(self._keys)
            self.query_one(Log).write_lines(texts)
        if self._lines.error is not None:
            self._say(f"ended: {printable(str(self._lines.error))}")

    def _say_nothing(self) -> None:
        if not self._came and self._lines.error is None:
            self._say(f"nothing came yet; what comes is shown   {self._keys}")

    def _say(self, text: str) -> None:
        self.query_one("#foot", Static).update(text)


def log_page(client: Client, mod: str) -> StreamPage:
    """Return the page of a mod's log: its last lines, and what it writes from now on."""
    lines = Lines(client, f"/mods/{segment(mod)}/log", lines=OF_LOG, follow=1)
    return StreamPage(f"log of {mod}", lines, lambda record: [str(record.get("line") or record.get("error") or "")])


def events_page(client: Client, mod: str | None) -> StreamPage:
    """Return the page of events as they finish: those that a mod handled, sent or was sent, or all of them."""
    lines = Lines(client, "/events", brief="true", sample=MOST_EVENTS)
    title = f"events of {mod}" if mod else "events"
    return StreamPage(title, lines, lambda record: _event_texts(record, mod))


def _event_texts(record: dict[str, Any], mod: str | None) -> Iterable[str]:
    if "skipped" in record:
        yield f"... {record['skipped']} more events in this second"
    elif "listening" in record:
        return
    elif "name" in record:
        if mod is None or mod == record.get("by") or f"mod:{mod}" in (record.get("source"), record.get("to")):
            yield brief_line(record)
    elif mod is None or f"mod:{mod}" in (record["event"].get("source_id"), record["event"].get("destination_id")):
        yield event_line(record)


class DetailsPage(Page):
    """All that is known of a mod, read again and again, and its crashes."""

    def __init__(self, client: Client, mod: str) -> None:
        super().__init__(mod, "up down scroll   q back")
        self._client = client
        self._mod = mod

    def body(self) -> ComposeResult:
        with VerticalScroll():
            yield Static("reading ...", id="details", markup=False)

    def on_mount(self) -> None:
        self.query_one(VerticalScroll).focus()
        self._read()
        self.set_interval(READ_EVERY, self._read)

    def _read(self) -> None:
        self.run_worker(self._show, thread=True, exclusive=True, exit_on_error=False)

    def _show(self) -> None:
        """Ask the network, in a thread, and show what it says."""
        shown = details(self._client, self._mod)
        self.app.call_from_thread(self.query_one("#details", Static).update, shown)


def details(client: Client, mod: str) -> Group | str:
    """Return a mod's figures, config and crash reports, or why there are none."""
    try:
        found = _mod(client, mod)
        crashes = client.request("GET", "/crashes", query={"mod": mod}, timeout=READ_EVERY * 2)["crashes"]
    except CliError as error:
        return printable(str(error))
    texts = [f"config {as_json(found['config'])}"] if found.get("config") else []
    texts += [f"storage {size(found['storage_bytes'])}"] if found.get("storage_bytes") else []
    return Group(
        mod_table({key: value for key, value in found.items() if key not in _NOT_IN_TABLE}),
        *(printable(text) for text in texts),
        *(f"\n{printable(crash_text(report))}" for report in reversed(crashes)),
    )


_NOT_IN_TABLE = ("versions", "config", "config_schema", "storage_bytes", "checkpoint")


def _mod(client: Client, mod: str) -> dict[str, Any]:
    """Return all that is known of a mod. An older network tells it only together with all others. Raises `CliError`."""
    try:
        return client.get(f"/mods/{segment(mod)}", timeout=READ_EVERY * 2)
    except CliError as error:
        if error.error not in ("not_found", None):
            raise
        mods = client.get("/mods", timeout=READ_EVERY * 2)["mods"]
        found = next((each for each in mods if each["mod_id"] == mod), None)
        if found is None:
            raise CliError(ExitCode.FAILED, f"no mod {mod} is loaded any more") from None
        return found
