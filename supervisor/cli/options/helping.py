"""What `--help` shows of a command, besides typer's panels: examples, and where the common options are told.

Options and arguments show their own words for a value (FILE, MOD, TIME), not its type in Python.
"""

from __future__ import annotations

import copy
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

from typer.core import TyperArgument, TyperCommand, TyperGroup, TyperOption

from ..terminal.exits import ExitCode
from .examples import EXAMPLES
from .options import SHARED_PANEL

_COMMON = "--json, --file, --socket, --url, --token and --node work here, too: 'modvisor --help' tells of them."
_ROOT = "modvisor"


class HelpedCommand(TyperCommand):
    """A command that ends its help with examples."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        with _shown_as_people_read(self.params):
            super().format_help(ctx, formatter)
        _show_end(ctx)


class HelpedGroup(TyperGroup):
    """A group of commands that ends its help with examples."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        with nullcontext() if ctx.parent is None else _shown_as_people_read(self.params):
            super().format_help(ctx, formatter)
        _show_end(ctx)


def _show_end(ctx: Any) -> None:
    """Write the examples of a command, and a line about the options of every command."""
    name = ctx.command_path.removeprefix(_ROOT).strip()
    lines = [f"  {line}\n      {what}" for line, what in EXAMPLES.get(name, ())]
    parts = ["Examples:\n" + "\n".join(lines)] if lines else []
    parts += [_COMMON if name else _exit_codes()]
    sys.stdout.write("\n\n".join(f" {part}".replace("\n ", "\n  ") for part in parts) + "\n")


def _exit_codes() -> str:
    words = (f"{code.value} {code.name.lower()}" for code in ExitCode)
    return "Exit codes:\n" + textwrap.fill(", ".join(words), 76, initial_indent="  ", subsequent_indent="  ")


@contextmanager
def _shown_as_people_read(params: list[Any]) -> Iterator[None]:
    """Hide the options of every command, the names of Python's types and the ranges of numbers.

    Only meanwhile: completion offers the options.
    """
    named = [each for each in params if isinstance(each, (TyperArgument, TyperOption))]
    before = [(each, each.type, each.hidden) for each in named]
    for each in named:
        each.type = _silent(each)
        each.hidden = each.hidden or getattr(each, "rich_help_panel", None) == SHARED_PANEL
    try:
        yield
    finally:
        for each, kind, hidden in before:
            each.type, each.hidden = kind, hidden


def _silent(param: Any) -> Any:
    """Return the type of a parameter without its name."""
    silent = copy.copy(param.type)
    silent._describe_range = lambda: ""
    words = "|".join(map(str, getattr(param.type, "choices", ())))
    silent.get_metavar = lambda **_: " " if isinstance(param, TyperArgument) else words
    return silent
