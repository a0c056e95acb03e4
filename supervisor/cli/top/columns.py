"""The columns of the table: what each shows of a row, how wide it is, and which fit a width."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ..client.live import Row
from ..render.figures import NOTHING, decimal, duration, size, state_style, whole
from ..terminal.columns import Cell
from ..terminal.output import printable

LEAST_ID = 12  # columns for the mods' ids
MOST_ID = 40
HIGH = 0.9  # share of a limit from which on a figure is marked

BLOCKS = "▁▂▃▄▅▆▇█"
LETTERS = "_.:-=+*#"  # the same for a locale without these characters
LEAST_FULL = 10.0  # percent of a core that fill a history without a limit: an idle mod shall look idle


@dataclass(frozen=True, slots=True)
class Column:
    """A column.

    Attributes:
        head: its name; ``width``: in columns of a terminal.
        show: its cell for a row, given the characters of a history.
        left: whether its cells stand at the left.
    """

    head: str
    width: int
    show: Callable[[Row, str], Cell]
    left: bool = False


def spark(points: Sequence[float | None], width: int, full: float, ramp: str = BLOCKS) -> str:
    """Draw the newest points as blocks, the newest at the right.

    Args:
        points: None where nothing was measured.
        full: the value of the highest block.
    """
    top = len(ramp) - 1
    drawn = (" " if point is None else ramp[min(top, max(0, round(point / full * top)))] for point in points[-width:])
    return "".join(drawn).rjust(width)


def is_high(value: float | None, limit: float | None) -> bool:
    return value is not None and bool(limit) and value >= HIGH * (limit or 0)


def _near(value: float | None, limit: float | None) -> str:
    """Return the style of a figure beside its limit."""
    if not is_high(value, limit):
        return ""
    return "red" if (value or 0) >= (limit or 0) else "yellow"


def _history(row: Row, ramp: str) -> Cell:
    points = row.get("cpu_history") or ()
    full = row.get("cpu_limit") or max((LEAST_FULL, *(point for point in points if point is not None)))
    return Cell(spark(points, 8, full, ramp), _near(row.get("cpu"), row.get("cpu_limit")))


def _cpu(row: Row, ramp: str) -> Cell:
    cpu = row.get("cpu")
    return Cell(NOTHING if cpu is None else f"{cpu:.1f}%", _near(cpu, row.get("cpu_limit")))


def _memory(row: Row, ramp: str) -> Cell:
    return Cell(size(row.get("rss")), _near(row.get("rss"), row.get("memory_limit")))


def _of_limit(row: Row, ramp: str) -> Cell:
    rss, limit = row.get("rss"), row.get("memory_limit")
    return Cell(f"{rss / limit * 100:.0f}%" if rss is not None and limit else NOTHING, _near(rss, limit))


def rate(value: float | None) -> str:
    if value is None:
        return NOTHING
    return f"{value:.1f}" if 0 < value < 100 else f"{value:.0f}"


def _name(key: str, style: Callable[[Any], str] = lambda _: "") -> Callable[[Row, str], Cell]:
    def show(row: Row, ramp: str) -> Cell:
        value = row.get(key)
        return Cell(NOTHING if value is None else printable(str(value)), style(value))

    return show


def _number(key: str, form: Callable[[Any], str]) -> Callable[[Row, str], Cell]:
    return lambda row, ramp: Cell(form(row.get(key)))


ID = Column("MOD", MOST_ID, _name("id"), left=True)
NODE = Column("NODE", 10, _name("node"), left=True)

COLUMNS = (
    Column("STATE", 11, _name("state", state_style), left=True),
    Column("CPU", 6, _cpu),
    Column("CPU-5min", 8, _history),
    Column("MEMORY", 8, _memory),
    Column("EV/s", 6, _number("rate", rate)),
    Column("P99ms", 6, _number("p99", decimal)),
    Column("BUSY", 4, _number("in_flight", whole)),
    NODE,
    Column("UP", 6, _number("uptime", duration)),
    Column("WAIT", 5, _number("queue", whole)),
    Column("RST", 4, _number("restarts", whole)),
    Column("OF-LIM", 6, _of_limit),
    Column("FAILED", 7, _number("failed", whole)),
    Column("P50ms", 6, _number("p50", decimal)),
    Column("DEAD", 5, _number("dead_letters", whole)),
    Column("PID", 7, _number("pid", whole)),
    Column("VERSION", 10, _name("version"), left=True),
    Column("AUDIENCE", 20, _name("audience"), left=True),
)
"""All columns but the id, by worth: a narrow terminal shows the first ones."""


def columns_of(width: int, rows: Sequence[Row]) -> list[Column]:
    """Return the columns that fit a terminal, for these rows."""
    ids = max((len(row["id"]) for row in rows), default=0)
    return columns_for(width, ids, has_nodes=any(row.get("node") for row in rows))


def columns_for(width: int, ids: int = LEAST_ID, *, has_nodes: bool = False) -> list[Column]:
    """Return the columns that fit a terminal, and give the ids what is left.

    Args:
        ids: the width of the longest id.
        has_nodes: the network is a cluster.
    """
    wanted = min(MOST_ID, max(LEAST_ID, ids))
    shown: list[Column] = []
    left = width - min(wanted, max(LEAST_ID, width // 5))
    for column in COLUMNS:
        if column is NODE and not has_nodes:
            continue
        left -= column.width + 1
        if left < 0:
            left += column.width + 1
            break
        shown.append(column)
    taken = sum(column.width + 1 for column in shown)
    return [Column(ID.head, max(1, min(wanted, width - taken)), ID.show, left=True), *shown]


def fitted(text: str, column: Column) -> str:
    """Return a cell's text in exactly the width of its column; what is cut ends with ``~``."""
    width = column.width
    if text.isascii():
        short = text if len(text) <= width else text[: width - 1] + "~"
        return short.ljust(width) if column.left else short.rjust(width)
    from rich.cells import cell_len, set_cell_size

    if cell_len(text) > width:
        return set_cell_size(text, width - 1) + "~"
    return text + " " * (width - cell_len(text)) if column.left else " " * (width - cell_len(text)) + text
