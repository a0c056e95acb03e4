"""The table on the screen. Only the lines in sight are drawn, so that 1,000 mods cost as much as 20."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.binding import Binding
from textual.geometry import Region, Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip

from ..client.live import Row
from .columns import BLOCKS, Column, columns_of, fitted

HEAD = 1  # lines
STYLES = {name: Style.parse(name) for name in ("bold", "dim", "red", "green", "yellow")} | {"": Style.null()}
CHOSEN = Style(reverse=True)
HEADING = Style(bold=True, underline=True)
STALE = Style(dim=True)


def quietly(keys: Mapping[str, str]) -> list[Binding]:
    """Bind keys to actions. No footer names them: `?` shows the list of keys."""
    return [Binding(key, action, show=False) for key, action in keys.items()]


class ModTable(ScrollView, can_focus=True):
    """The mods, one of them chosen. The choice stays with the mod, wherever it moves.

    Attributes:
        ramp: characters of a history; ``stale``: the figures are old, since the network is away.
    """

    BINDINGS: ClassVar = [
        *quietly({"up,k": "move(-1)", "down,j": "move(1)", "pageup": "page(-1)", "pagedown": "page(1)"}),
        *quietly({"home,g": "move(-1000000)", "end,G": "move(1000000)"}),
    ]

    class Opened(Message):
        """A mod was clicked twice."""

    def __init__(self, ramp: str = BLOCKS) -> None:
        super().__init__(id="mods")
        self._ramp = ramp
        self._rows: list[Row] = []
        self._columns: list[Column] = []
        self._width = 0  # that the columns were chosen for
        self._chosen: str | None = None
        self.stale = False

    @property
    def chosen(self) -> str | None:
        """The id of the chosen mod; None if no mod is shown."""
        return self._chosen

    def show(self, rows: list[Row]) -> None:
        """Show these rows from now on."""
        index = self._index
        self._rows = rows
        if rows and self._chosen not in {row["id"] for row in rows}:
            self._chosen = rows[min(index, len(rows) - 1)]["id"]
        if not rows:
            self._chosen = None
        self._lay_out()

    def _lay_out(self) -> None:
        self._choose_columns()
        self.virtual_size = Size(self._width, len(self._rows) + HEAD)
        self.refresh()

    def _choose_columns(self) -> None:
        self._width = self.size.width
        self._columns = columns_of(self._width, self._rows)

    def on_resize(self, event: events.Resize) -> None:
        self._lay_out()
        self._keep_in_sight()

    @property
    def _index(self) -> int:
        return next((at for at, row in enumerate(self._rows) if row["id"] == self._chosen), 0)

    def action_move(self, by: int) -> None:
        if self._rows:
            self._choose(self._index + by)

    def action_page(self, by: int) -> None:
        self.action_move(by * max(1, self.size.height - HEAD - 1))

    def _choose(self, index: int) -> None:
        self._chosen = self._rows[max(0, min(len(self._rows) - 1, index))]["id"]
        self._keep_in_sight()
        self.refresh()

    def _keep_in_sight(self) -> None:
        # The head covers the first line in sight, so what is chosen must be one line further down.
        self.scroll_to_region(Region(0, self._index, 1, HEAD + 1), animate=False, force=True)

    def on_click(self, event: events.Click) -> None:
        at = event.y + self.scroll_offset.y - HEAD
        if event.y >= HEAD and 0 <= at < len(self._rows):
            self._choose(at)
            if event.chain == 2:
                self.post_message(self.Opened())

    def render_line(self, y: int) -> Strip:
        width = self.size.width
        if width != self._width:  # a first line, or one that is drawn before the event of the new size has come
            self._choose_columns()
        if y < HEAD:
            text = " ".join(fitted(column.head, column) for column in self._columns)
            return Strip([Segment(text, HEADING)]).adjust_cell_length(width)
        at = y + self.scroll_offset.y - HEAD
        if not 0 <= at < len(self._rows):
            return Strip.blank(width)
        return self._row(self._rows[at]).adjust_cell_length(width, CHOSEN if self._is_chosen(at) else None)

    def _is_chosen(self, at: int) -> bool:
        return self._rows[at]["id"] == self._chosen

    def _row(self, row: Row) -> Strip:
        under = (CHOSEN if row["id"] == self._chosen else Style.null()) + (STALE if self.stale else Style.null())
        parts: list[Segment] = []
        for column in self._columns:
            cell = column.show(row, self._ramp)
            parts += [Segment(fitted(cell.text, column), STYLES[cell.style] + under), Segment(" ", under)]
        return Strip(parts)
