"""Draw the chart docs/speed.svg: modvisor beside the others, for light and dark mode."""

from __future__ import annotations

import math
from html import escape

from .record import Record
from .rows import COLUMNS, OURS, matching
from .showing import columns_of, number
from .verdict import Line, line

PANELS = (
    ("rtt_p50_us", "Round trip", "µs, less is better"),
    ("in_flight_64", "Events per second", "64 in flight, more is better"),
    ("load_echo_ms", "Load to first answer", "ms, less is better"),
    ("uss_idle_MB", "Own memory of a worker", "MB, less is better"),
)
WIDTH, PANEL, LEFT, TRACK, HIGH = 860, 430, 172, 160, 24
TOP, HEAD, GAP = 20, 40, 28
STYLE = """\
  text { font: 13px system-ui, "Segoe UI", Helvetica, Arial, sans-serif; fill: #1f2328 }
  .head { font-size: 15px; font-weight: 600 }
  .unit { font-size: 12px; font-weight: 400; fill: #59636e }
  .track { stroke: #8c959f; stroke-opacity: .3 }
  .them { fill: #6e7781; stroke: #6e7781 }
  .us { fill: #0969da; stroke: #0969da }
  .bold { font-weight: 600; fill: #0969da }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6edf3 }
    .unit { fill: #9198a1 }
    .them { fill: #9198a1; stroke: #9198a1 }
    .us { fill: #58a6ff; stroke: #58a6ff }
    .bold { fill: #58a6ff }
  }"""


def draw(record: Record) -> str:
    """Return the SVG: a panel for each figure, with a dot for everyone on a logarithmic scale."""
    columns = columns_of(record)
    high = HEAD + len(columns) * HIGH + GAP
    height = TOP + 2 * high
    return f"""<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img" aria-labelledby="t">
<title id="t">modvisor beside others, measured {escape(record.date)}</title>
<style>
{STYLE}
</style>
{chr(10).join(_panel(place, key, record, columns, high) for place, key in enumerate(PANELS))}
<text class="unit" x="{WIDTH - 8}" y="{height - 8}" text-anchor="end">Measured {escape(record.date)}. \
Dots: medians of {len(record.rounds)} rounds. Bars: smallest to largest. Logarithmic scales.</text>
</svg>
"""


def _panel(place: int, panel: tuple[str, str, str], record: Record, columns: list[str], high: int) -> str:
    key, title, unit = panel
    found = line(matching([key])[0], record.rounds)
    x, y = place % 2 * PANEL, TOP + place // 2 * high
    rows = [_row(found, column, HEAD + number * HIGH) for number, column in enumerate(columns)]
    head = f'<text class="head" x="8" y="8">{title} <tspan class="unit" dx="6">{unit}</tspan></text>'
    return "\n".join([f'<g transform="translate({x} {y})">', head, *rows, "</g>"])


def _row(found: Line, column: str, y: int) -> str:
    """Draw a name, the spread as a bar, the median as a dot and as a number."""
    cell, bold, kind = found.cells.get(column), "", "them"
    if column == OURS:
        bold, kind = ' class="bold"', "us"
    name = f'<text{bold} x="{LEFT - 12}" y="{y + 4}" text-anchor="end">{escape(COLUMNS[column])}</text>'
    track, mark, value = f'<path class="track" d="M{LEFT} {y}h{TRACK}"/>', "", "–"
    if cell is not None:
        figure = cell.figure
        low, middle, high = (_place(found, value) for value in (figure.low, figure.median, figure.high))
        mark = f'<path class="{kind}" d="M{low} {y}H{high}" stroke-width="3"/>'
        mark += f'<circle class="{kind}" cx="{middle}" cy="{y}" r="5"/>'
        value = number(figure.median)
    return f'{name}{track}{mark}<text{bold} x="{LEFT + TRACK + 72}" y="{y + 4}" text-anchor="end">{value}</text>'


def _place(found: Line, value: float) -> float:
    """Return where a value lies on the scale of its panel."""
    low = math.log(min(cell.figure.low for cell in found.cells.values()))
    high = math.log(max(cell.figure.high for cell in found.cells.values()))
    share = (math.log(value) - low) / (high - low) if high > low else 0.5
    return round(LEFT + 8 + share * (TRACK - 16), 1)
