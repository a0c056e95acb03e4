"""Dialogs over the table: what will happen, what happened, which keys there are."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import Static

from ..terminal.output import printable

KEYS = """\
sort     0 what is wrong first   n name   c cpu   m memory   r events/s
         l latency (p99)   b busy   w waiting   f failed   t restarts
         the same key again turns the order round
move     up down, j k, page up, page down, home end, g G
/        show only mods with these words in id, path, state, version
Enter    all that is known of the chosen mod, its limits and crashes
L        its log, as it grows
e E      events of the chosen mod, or all, as they finish
R        reload it with its files as they are now
x        restart it: a new process of the last good version
u        unload it
Space    hold the figures still, and go on
q        quit, or leave what is open; Esc as well"""

STYLE = """
Dialog, AsciiDialog { align: center middle; background: transparent; }
Dialog > VerticalScroll {
    width: auto; min-width: 40; max-width: 100%; height: auto; max-height: 100%;
    border: round ansi_default; padding: 0 1; background: ansi_default;
}
AsciiDialog > VerticalScroll { border: ascii ansi_default; }
Dialog Static { width: auto; max-width: 76; height: auto; }
"""
"""Of the whole program: what a dialog says of itself gives way to what the program says of its screens."""


class Dialog(ModalScreen[bool]):
    """A text with an answer: True for yes or Enter, False for anything that leaves it."""

    BINDINGS: ClassVar = [
        Binding("y,enter", "answer(True)", show=False),
        Binding("n,escape,q", "answer(False)", show=False),
    ]

    def __init__(self, title: str, text: str, keys: str = "Enter or Esc closes this") -> None:
        super().__init__()
        self._title = printable(title)
        self._text = f"{printable(text)}\n\n{keys}"

    def compose(self) -> ComposeResult:
        with VerticalScroll() as box:
            box.border_title = self._title
            yield Static(self._text, markup=False)

    def action_answer(self, answer: bool) -> None:
        self.dismiss(answer)


class AsciiDialog(Dialog):
    """The same for a locale that has no lines to draw."""
