"""The charts of a run: ours beside the others', and how the cost of an event grows. The same figures give the same files.

    python -m benchmarks.speed.charts FOLDER

reads figures.json in that folder, and writes speed.svg and scaling.svg beside it. It needs matplotlib (group ``bench``).
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

from . import wording
from .curves import Curve
from .record import read
from .rows import COLUMNS, OURS, ROWS
from .verdict import Line, line

ACCENT, QUIET, INK = "#0b5fa5", "#8a8a8a", "#222222"
STYLE: dict[str, Any] = {
    "svg.hashsalt": "modvisor",  # else the ids within differ from run to run
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 9,
    "axes.edgecolor": QUIET,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "xtick.color": INK,
    "ytick.color": INK,
}
PANELS = (
    ("rtt_p50_us", "round trip, p50", "µs; less is better"),
    ("in_flight_64", "64 in flight", "events/s; more is better"),
    ("in_flight_256", "256 in flight", "events/s; more is better"),
    ("path_64", "all the way, two mods", "events/s; more is better"),
    ("load_echo_ms", "load to first answer, echo mod", "ms; less is better"),
    ("unload_ms", "unload, reaped", "ms; less is better"),
    ("uss_busy_MB", "own memory of a busy worker", "MB; less is better"),
    ("blob_1_MBps", "1 MB echo", "MB/s; more is better"),
    ("blob_16_MBps", "16 MB echo", "MB/s; more is better"),
)
SERIES = {
    "cpu_us": ("processor time, 64 in flight", ACCENT, "-"),
    "wall_us": ("time, 64 in flight", ACCENT, "--"),
    "p50_us": ("round trip p50", INK, "-"),
    "floor_us": ("floor p50", QUIET, "-"),
    "MBps": ("modvisor", ACCENT, "-"),
    "floor_MBps": ("raw socket pair", QUIET, "-"),
    "per_second": ("modvisor", ACCENT, "-"),
}
UNITS = {"sizes": "MB/s", "widths": "events/s"}


def draw_speed(lines: Sequence[Line], file: Path) -> None:
    """A panel per figure, a dot per participant, on a log scale; the line through a dot is the spread of the rounds."""
    by_key = {each.row.key: each for each in lines}
    panels = [(by_key[key], title, unit) for key, title, unit in PANELS if by_key[key].cells]
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(10, 1.9 * -(-len(panels) // 3) + 0.2), layout="constrained")
        for place, (each, title, unit) in enumerate(panels, 1):
            axes = figure.add_subplot(-(-len(panels) // 3), 3, place)
            _dots(axes, each)
            axes.set_title(title)
            axes.set_xlabel(unit)
        _save(figure, file)


def _dots(axes: Any, each: Line) -> None:
    columns = [column for column in COLUMNS if column in each.cells]
    for place, column in enumerate(columns):
        cell, color = each.cells[column], ACCENT if column == OURS else QUIET
        axes.plot([cell.low, cell.high], [place, place], color=color, linewidth=1.5)
        axes.plot([cell.median], [place], "o", color=color, markersize=5)
        axes.annotate(
            wording.number(cell.median), (cell.median, place), xytext=(0, 5), textcoords="offset points", ha="center",
            fontsize=8, color=color if column == OURS else INK,
        )  # fmt: skip
    axes.set_xscale("log")
    axes.set_yticks(range(len(columns)), [COLUMNS[column] for column in columns])
    axes.set_ylim(len(columns) - 0.4, -0.9)
    low = min(cell.low for cell in each.cells.values())
    high = max(cell.high for cell in each.cells.values())
    axes.set_xlim(low / 2.5, high * 2.5)
    axes.xaxis.set_minor_formatter("")


def draw_scaling(curves: Sequence[Curve], file: Path) -> None:
    """A panel per curve."""
    with mpl.rc_context(STYLE):
        rows = -(-len(curves) // 2)
        figure = Figure(figsize=(10, 2.8 * rows), layout="constrained")
        for place, curve in enumerate(curves, 1):
            axes = figure.add_subplot(rows, 2, place)
            _lines(axes, curve)
        _save(figure, file)


def _lines(axes: Any, curve: Curve) -> None:
    for name, (label, color, style) in SERIES.items():
        if name in curve.passes:
            axes.plot(curve.points, curve.middle(name), style, color=color, label=label, marker="o", markersize=3)
    axes.set_xscale("log")
    if curve.key in UNITS:
        axes.set_yscale("log")
    else:
        axes.set_ylim(bottom=0)
    axes.set_xlabel(curve.label)
    axes.set_ylabel(UNITS.get(curve.key, "µs per event"))
    axes.legend(frameon=False, fontsize=8)


def _save(figure: Figure, file: Path) -> None:
    figure.savefig(file, metadata={"Date": None}, facecolor="white")


def main(folder: Path) -> None:
    record = read(folder / "figures.json")
    draw_speed([line(row, record.rounds) for row in ROWS], folder / "speed.svg")
    draw_scaling(record.curves, folder / "scaling.svg")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
