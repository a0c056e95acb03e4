"""Commands that show the whole network at once: its mods as they change, and who talks to whom."""

from __future__ import annotations

import os
import shutil
import sys
from contextlib import closing
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..client.connect import connect
from ..options.arguments import age
from ..settings import Settings
from ..terminal.exits import CliError, ExitCode
from ..terminal.output import Output, as_json, write

if TYPE_CHECKING:
    from ..client.client import Client
    from ..graph.model import Graph

Interval = Annotated[
    str, typer.Option("--interval", "-i", metavar="TIME", help="How often the figures change: 1s to 1m.")
]
LEAST, MOST = 1.0, 60.0  # seconds of an interval, as the network takes them

HOW_TO_INSTALL = "the screen needs textual: pip install 'modvisor[top]'; without it: modvisor top --plain"
MONOCHROME = ("vt100", "vt102", "vt220", "xterm-mono", "linux-m", "screen-m", "ansi-m")
"""Terminals that can move the cursor, and have no colours."""

BLOCKS_AND_LINES = "▁█╭─│"

PIPED_WIDTH = 160  # columns of the table in a file or a pipe


def top(
    settings: Settings,
    interval: Interval = "1s",
    plain: Annotated[
        bool, typer.Option("--plain", help="Print the table again and again, as to a terminal without a cursor.")
    ] = False,
    count: Annotated[
        int | None,
        typer.Option("--count", "-n", metavar="N", min=1, help="With --plain or --json: end after N tables."),
    ] = None,
) -> None:
    """Watch the mods: what is wrong first, with keys for logs, events, reload, restart and unload. q ends it."""
    client, seconds = connect(settings), age(interval, "--interval")
    if not LEAST <= seconds <= MOST:
        raise CliError(ExitCode.USAGE, f"--interval: expected a time from 1s to 1m, got {interval!r}")
    if plain or settings.json or count is not None or not _is_screen():
        _print_tables(client, Output(as_json=settings.json), seconds, count)
    else:
        _show_screen(client, seconds)


def _is_screen() -> bool:
    """Return whether there is a terminal that can be drawn on."""
    streams = (sys.stdin, sys.stdout, sys.stderr)
    return all(stream.isatty() for stream in streams) and os.environ.get("TERM", "") not in ("", "dumb", "unknown")


def _print_tables(client: Client, output: Output, interval: float, count: int | None) -> None:
    from ..client.live import Picture, follow
    from ..terminal.columns import is_styled
    from ..top.columns import BLOCKS, LETTERS
    from ..top.plain import lines

    picture = Picture()
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else PIPED_WIDTH
    ramp = BLOCKS if _encodes(BLOCKS, sys.stdout.encoding) else LETTERS
    for number, record in enumerate(follow(client, interval), 1):
        picture.take(record)
        if output.as_json:
            write(as_json(picture.to_dict()))
        else:
            write("\n".join([*lines(picture, width, ramp=ramp, styled=is_styled()), ""]))
        if number == count:
            return


def _show_screen(client: Client, interval: float) -> None:
    if _is_monochrome():
        os.environ["NO_COLOR"] = "1"
    for name in ("COLUMNS", "LINES"):  # textual would take an exported size for that of the terminal, for ever
        os.environ.pop(name, None)
    try:
        import textual  # noqa: F401
    except ImportError:
        raise CliError(ExitCode.USAGE, HOW_TO_INSTALL) from None
    from ..top.app import Top

    client.get("/status")  # a network that is not there is told before the screen is taken
    screen = Top(client, interval, is_plain=not _encodes(BLOCKS_AND_LINES, getattr(sys.__stderr__, "encoding", None)))
    screen.run()
    if screen.error is not None:
        raise screen.error
    if screen.return_code:  # a mistake of ours, which is on the terminal
        raise typer.Exit(ExitCode.FAILED)


def _is_monochrome() -> bool:
    return os.environ.get("TERM", "") in MONOCHROME


def _encodes(text: str, encoding: str | None) -> bool:
    try:
        text.encode(encoding or "utf-8")
    except UnicodeEncodeError:
        return False
    return True


class Format(StrEnum):
    """How a graph is written."""

    TEXT = "text"
    DOT = "dot"
    SVG = "svg"


def graph(
    settings: Settings,
    form: Annotated[Format, typer.Option("--format", help="Text, input of graphviz, or a drawing.")] = Format.TEXT,
    watched: Annotated[
        str, typer.Option("--for", metavar="TIME", help="How long to watch the traffic first: 2s, 1m …; 0: not at all.")
    ] = "2s",
) -> None:
    """Show who sends events to whom, how many, and which mods need which: as text, for graphviz, or as a drawing."""
    from ..graph.model import graph_of

    client, seconds = connect(settings), age(watched, "--for", zero=True)
    network, rows, seen = _watched(client, seconds)
    found = graph_of(network, rows, client.get("/mods")["mods"], seen, seconds)
    Output(as_json=settings.json).document(found.to_dict(), lambda: _show_graph(found, form))


def _watched(client: Client, seconds: float) -> tuple[dict[str, Any], list[dict[str, Any]], list[list[list[Any]]]]:
    """Return the figures of the network, the rows of its mods, and the edges of each record."""
    from ..client.live import Picture, follow

    picture, seen = Picture(), []
    until = 0.0
    with closing(follow(client, 1)) as records:
        for record in records:
            picture.take(record)
            if until:  # traffic is measured from the first record on
                seen.append(picture.edges)
            until = until or picture.at + seconds
            if picture.at >= until:
                break
    return picture.network, list(picture.mods.values()), seen


def _show_graph(found: Graph, form: Format) -> None:
    from ..graph import dot, svg, text
    from ..terminal.columns import is_styled

    if form is Format.TEXT:
        arms = text.LINES if _encodes(text.LINES[0], sys.stdout.encoding) else text.ASCII
        shown = text.lines(found, styled=is_styled(), arms=arms)
    else:
        shown = (svg if form is Format.SVG else dot).lines(found)
    for line in shown:
        write(line)
