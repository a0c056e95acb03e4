"""The screen of ``modvisor top``: figures of the network, the table, and keys."""

from __future__ import annotations

import threading
from typing import Any, ClassVar

from rich.text import Text
from textual.app import App, ComposeResult
from textual.screen import Screen
from textual.widgets import Input, Static

from ..client.client import Client
from ..client.live import Picture
from ..terminal.exits import CliError, ExitCode
from ..terminal.output import printable
from .actions import ACTIONS, Action, done, plan_of, under_way
from .columns import BLOCKS, LETTERS
from .dialogs import KEYS, AsciiDialog, Dialog
from .dialogs import STYLE as DIALOG_STYLE
from .heading import heading, worst
from .order import TROUBLE, arranged
from .pages import STYLE as PAGE_STYLE
from .pages import DetailsPage, events_page, log_page
from .reading import Feed
from .table import ModTable, quietly

HINTS = (
    ("?", "keys"), ("q", "quit"), ("/", "filter"), ("Enter", "more"), ("L", "log"), ("e", "events"), ("R", "reload"),
    ("x", "restart"), ("u", "unload"), ("c m r l n 0", "sort"), ("Space", "hold"),
)  # fmt: skip
ORDER_KEYS = {
    "0": TROUBLE, "n": "name", "c": "cpu", "m": "memory", "r": "rate", "l": "latency", "b": "busy", "w": "waiting",
    "f": "failed", "t": "restarts",
}  # fmt: skip
TABLE_STYLE = """
Screen { background: ansi_default; color: ansi_default; }
#head { height: auto; max-height: 4; }
#mods { height: 1fr; background: ansi_default; overflow-x: hidden; scrollbar-size-vertical: 1; }
#mods:focus { background-tint: transparent; }
#foot { height: 1; }
#filter { height: 1; border: none; padding: 0; display: none; background: ansi_default; }
#filter.shown { display: block; }
"""
PASSING = (ExitCode.NO_NETWORK, ExitCode.NO_ANSWER)
TOLD_FOR = 8.0  # seconds that a message stays in the last line


class Top(App[None]):
    """The program. `run` returns when the operator quits.

    Args:
        is_plain: draw with characters of ASCII.

    Attributes:
        error: why it ended, if the network refused what it asks for.
    """

    CSS = f"{TABLE_STYLE}{PAGE_STYLE}{DIALOG_STYLE}"
    ENABLE_COMMAND_PALETTE = False
    BINDINGS: ClassVar = [
        *quietly({key: f"order('{name}')" for key, name in ORDER_KEYS.items()}),
        *quietly(
            {"slash": "filter", "question_mark,h": "keys", "space": "hold", "escape": "clear", "q,ctrl+c": "quit"}
        ),
        *quietly({"enter": "details", "L": "log", "e": "events", "E": "all_events"}),
        *quietly({"R": "act('reload')", "x": "act('restart')", "u": "act('unload')"}),
    ]

    def __init__(self, client: Client, interval: float, *, is_plain: bool = False) -> None:
        super().__init__(ansi_color=True)  # the terminal's own colours, or none with NO_COLOR
        self.theme = "ansi-dark"
        self.error: CliError | None = None
        self._client = client
        self._is_plain = is_plain
        self._picture = Picture()
        self._order, self._backwards, self._only = TROUBLE, False, ""
        self._held = False
        self._lost: str | None = None
        self._told = ""
        self._under_way: dict[str, str] = {}
        self._feed = Feed(client, interval, self._on_record, self._on_lost)

    def compose(self) -> ComposeResult:
        yield Static(id="head", markup=False)
        yield ModTable(LETTERS if self._is_plain else BLOCKS)
        yield Input(id="filter", placeholder="words of a mod's id, path, state, version or node")
        yield Static(id="foot", markup=False)

    def on_mount(self) -> None:
        self._table.focus()
        self._draw()
        self._feed.start()

    def on_unmount(self) -> None:
        self._feed.stop()

    @property
    def _table(self) -> ModTable:
        return self._main.query_one(ModTable)

    @property
    def _main(self) -> Screen[Any]:
        return self.screen_stack[0]

    # -- what the network says, in the thread of the feed

    def _on_record(self, record: dict[str, Any]) -> None:
        self._soon(self._take, record)

    def _on_lost(self, error: CliError) -> None:
        self._soon(self._lose, error)

    def _soon(self, do: Any, *args: Any) -> None:
        """Have the screen's own thread do something, unless it has ended."""
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self.call_later, do, *args)

    def _take(self, record: dict[str, Any]) -> None:
        self._lost = None
        self._picture.take(record)
        if self._under_way:
            self._in_a_thread(lambda: self._soon(self._show_stages, under_way(self._client)))
        if not self._held:
            self._draw()

    def _lose(self, error: CliError) -> None:
        if error.code not in PASSING and not self._picture.at:
            self.error = error
            self.exit()
            return
        self._lost = str(error)
        self._draw()

    # -- drawing

    def _draw(self) -> None:
        table = self._table
        table.stale = self._lost is not None
        rows = arranged(self._picture.mods.values(), self._order, backwards=self._backwards, only=self._only)
        table.show(rows)
        self._main.query_one("#head", Static).update(self._head(len(rows)))
        self._main.query_one("#foot", Static).update(self._foot())

    def _head(self, shown: int) -> Text:
        width = self.size.width
        lines = [
            Text(line[:width], "bold" if number == 0 else "") for number, line in enumerate(heading(self._picture))
        ]
        if self._lost is not None:
            lines.append(Text(f"! connection lost, trying again: {printable(self._lost)}"[:width], "reverse"))
        elif (wrong := worst(self._picture)) is not None:
            lines.append(Text(f"! {wrong}"[:width], "bold red"))
        order = "what is wrong first" if self._order == TROUBLE else self._order
        marks = [order + (", turned round" if self._backwards else "")]
        marks += [f"filter {self._only!r}: {shown} of {len(self._picture.mods)}"] if self._only else []
        marks += ["held still: Space goes on"] if self._held else []
        lines.append(Text(f"order: {'   '.join(marks)}"[:width], "dim"))
        return Text("\n").join(lines)

    def _foot(self) -> Text:
        if self._under_way:
            return Text(", ".join(self._under_way.values()) + " ...", "reverse")
        if self._told:
            return Text(self._told[: self.size.width], "reverse")
        shown = Text(no_wrap=True)
        for key, word in HINTS:
            if shown.cell_len + len(key) + len(word) + 3 <= self.size.width:
                shown.append(key, "reverse").append(f" {word}  ")
        return shown

    def on_resize(self) -> None:
        self.call_after_refresh(self._draw)

    # -- keys

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Leave the table's keys to the table: a page or a dialog above it has its own."""
        if len(self.screen_stack) > 1 and action not in ("quit", "focus_next", "focus_previous"):
            return False
        return super().check_action(action, parameters)

    def action_order(self, order: str) -> None:
        self._backwards = order == self._order and not self._backwards
        self._order = order
        self._draw()

    def action_filter(self) -> None:
        field = self._main.query_one(Input)
        field.add_class("shown")
        field.focus()

    def action_clear(self) -> None:
        """Leave the filter, and show all mods again."""
        field = self._main.query_one(Input)
        field.value = ""
        self._close_filter()

    def on_input_changed(self, event: Input.Changed) -> None:
        self._only = event.value
        self._draw()

    def on_input_submitted(self) -> None:
        self._close_filter()

    def _close_filter(self) -> None:
        self._main.query_one(Input).remove_class("shown")
        self._table.focus()
        self._draw()

    def action_hold(self) -> None:
        self._held = not self._held
        self._draw()

    def action_keys(self) -> None:
        self.push_screen(self._dialog("keys", KEYS))

    def action_details(self) -> None:
        if (mod := self._table.chosen) is not None:
            self.push_screen(DetailsPage(self._client, mod))

    def on_mod_table_opened(self) -> None:
        self.action_details()

    def action_log(self) -> None:
        if (mod := self._table.chosen) is not None:
            self.push_screen(log_page(self._client, mod))

    def action_events(self) -> None:
        self.push_screen(events_page(self._client, self._table.chosen))

    def action_all_events(self) -> None:
        self.push_screen(events_page(self._client, None))

    # -- actions on a mod

    def action_act(self, name: str) -> None:
        mod, action = self._table.chosen, ACTIONS[name]
        if mod is not None and mod not in self._under_way:
            self._in_a_thread(lambda: self._soon(self._ask, action, mod, plan_of(self._client, action, mod)))

    def _ask(self, action: Action, mod: str, plan: str) -> None:
        def answered(yes: bool | None) -> None:
            if yes:
                self._begin(action, mod)

        dialog = self._dialog(f"{action.name} {mod}?", plan, "Enter or y does it, Esc or n does not")
        self.push_screen(dialog, answered)

    def _begin(self, action: Action, mod: str) -> None:
        self._under_way[mod] = f"{action.doing} {mod}"
        self._draw()
        self._in_a_thread(lambda: self._soon(self._ended, action, mod, *done(self._client, action, mod)))

    def _show_stages(self, works: list[dict[str, Any]]) -> None:
        """Say how far the actions are that are under way."""
        for work in works:
            for mod in self._under_way:  # in a cluster a row may be called 'search/b', its mod 'search'
                if work["stage"] and work["on"] in (mod, mod.partition("/")[0]):
                    begun = self._under_way[mod].partition(":")[0]
                    self._under_way[mod] = f"{begun}: {printable(work['stage'])}"
        self._draw()

    def _ended(self, action: Action, mod: str, went_well: bool, text: str) -> None:
        self._under_way.pop(mod, None)
        if went_well:
            self._tell(text)
        else:
            self.push_screen(self._dialog(f"{action.name} {mod} failed", text))
        self._draw()

    def _tell(self, text: str) -> None:
        self._told = printable(text).replace("\n", " ")
        self.set_timer(TOLD_FOR, self._forget)

    def _forget(self) -> None:
        self._told = ""
        self._draw()

    def _dialog(self, title: str, text: str, *keys: str) -> Dialog:
        return (AsciiDialog if self._is_plain else Dialog)(title, text, *keys)

    @staticmethod
    def _in_a_thread(do: Any) -> None:
        """Ask the network without holding up the screen, nor the end of the program."""
        threading.Thread(target=do, name="modvisor-top-request", daemon=True).start()
