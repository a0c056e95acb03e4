"""The graph as a drawing in SVG: one file, readable on a light and on a dark page."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple
from xml.sax.saxutils import escape, quoteattr

from .layers import layered
from .model import DOWN, MOD, TROUBLED, WELL, Edge, Graph, Node, amount, per_second

BOX, ROW, GAP, EDGE = 40, 64, 150, 24  # height of a box, of a row; between layers; around all
LETTER = 8.2  # width, on average
LEAST_BOX = 90
NEED = "need"
THINNEST, THICKEST = 1.0, 9.0

STYLE = """
  text { font: 14px system-ui, sans-serif; fill: #1c2330; }
  .note { font-size: 11px; fill: #5b6472; }
  .box { fill: #ffffff; stroke-width: 1.5; }
  path { fill: none; stroke-linecap: round; opacity: .75; }
  .well { stroke: #2e7d32; } .troubled { stroke: #b26a00; } .down { stroke: #c62828; }
  .need { stroke: #8a93a0; stroke-dasharray: 4 4; }
  .head path { stroke-width: 2; opacity: 1; stroke-dasharray: none; }
  .label { font-size: 11px; paint-order: stroke; stroke: #ffffff; stroke-width: 4px; }
  .page { fill: #ffffff; }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6e9ef; } .note { fill: #9aa4b2; } .box { fill: #1b212c; } .page { fill: #12161d; }
    .label { stroke: #12161d; }
    .well { stroke: #66bb6a; } .troubled { stroke: #ffb74d; } .down { stroke: #ef5350; }
  }
"""


class Place(NamedTuple):
    """Where a box stands: its left upper corner, and its width."""

    x: float
    y: float
    width: float

    @property
    def middle(self) -> float:
        return self.y + BOX / 2


def thickness(edge: Edge) -> float:
    """Return how thick an edge is drawn: one step for ten times the traffic."""
    if not edge.rate:
        return THINNEST
    return max(THINNEST, min(THICKEST, 2.0 + 1.6 * math.log10(max(edge.rate, 0.1))))


def lines(graph: Graph) -> Iterator[str]:
    """Yield the lines of the file."""
    places, ways = placed(graph)
    width = max((place.x + place.width for place in places.values()), default=0) + GAP / 2
    height = max((place.y + BOX for place in places.values()), default=0) + EDGE
    title = f"{graph.name}: traffic of {graph.seconds:g} s"
    yield (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}" '
        f'height="{height:.0f}" role="img" aria-label={quoteattr(title)}>'
    )
    yield f"<title>{escape(title)}</title><style>{STYLE}</style>"
    yield f"<defs>{''.join(map(_head, (WELL, TROUBLED, DOWN, NEED)))}</defs>"
    yield '<rect class="page" width="100%" height="100%"/>'
    for edge in graph.edges:
        stops = [places[key] for key in (edge.start, *ways.get((edge.start, edge.end), ()), edge.end)]
        yield _edge(edge, stops)
    for node in graph.nodes:
        yield _node(node, places[node.key])
    yield "</svg>"


def placed(graph: Graph) -> tuple[dict[str, Place], dict[tuple[str, str], list[str]]]:
    """Return the places of all nodes and of what long edges go through, and the ways of these edges."""
    nodes = {node.key: node for node in graph.nodes}
    senders = [key for key in nodes if not key.startswith(MOD)]
    layers, ways = layered(nodes, ((edge.start, edge.end) for edge in graph.edges), senders)
    highest = max(map(len, layers), default=0) * ROW
    places: dict[str, Place] = {}
    left = float(EDGE)
    for layer in layers:
        texts = [text for key in layer if key in nodes for text in (nodes[key].name, nodes[key].note)]
        width = max(LEAST_BOX, *(len(text) * LETTER + 24 for text in texts or ("",)))
        top = EDGE + (highest - len(layer) * ROW) / 2
        places |= {key: Place(left, top + at * ROW, width) for at, key in enumerate(layer)}
        left += width + GAP
    return places, ways


def _head(kind: str) -> str:
    """Return the head of an arrow. Its colour is that of its line, which browsers do not all pass on."""
    return (
        f'<marker id="head-{kind}" class="head {kind}" viewBox="0 0 10 10" refX="9" refY="5" orient="auto" '
        f'markerUnits="userSpaceOnUse" markerWidth="12" markerHeight="12"><path d="M1 1 L9 5 L1 9"/></marker>'
    )


def _edge(edge: Edge, stops: list[Place]) -> str:
    kind = NEED if edge.rate is None else edge.health
    path, label = _line(stops) if stops[-1].x > stops[0].x else _around(stops[0], stops[-1])
    drawn = (
        f'<path class="{kind}" stroke-width="{thickness(edge):.1f}" marker-end="url(#head-{kind})" d="{path}">'
        f"<title>{escape(amount(edge))}</title></path>"
    )
    if edge.rate is None:
        return drawn
    at = f'text-anchor="middle" x="{label[0]:.0f}" y="{label[1]:.0f}"'
    return f'{drawn}<text class="label" {at}>{per_second(edge.rate)}/s</text>'


def _line(stops: list[Place]) -> tuple[str, tuple[float, float]]:
    """Return a path from the first to the last place, through the others, and where its label stands."""
    path = f"M{stops[0].x + stops[0].width:.0f} {stops[0].middle:.0f}"
    label = (0.0, 0.0)
    for here, there in pairwise(stops):
        x, y, to_x, to_y = here.x + here.width, here.middle, there.x, there.middle
        bend = (to_x - x) / 2
        path += f" C{x + bend:.0f} {y:.0f} {to_x - bend:.0f} {to_y:.0f} {to_x:.0f} {to_y:.0f}"
        # Nearer to the receiver than to the sender, where the edges of one box lie together.
        label = (x + bend * 1.3, y + (to_y - y) * 0.72 - 4)
        if there is not stops[-1]:
            path += f" L{there.x + there.width:.0f} {to_y:.0f}"
    return path, label


def _around(start: Place, end: Place) -> tuple[str, tuple[float, float]]:
    """Return a path back, or within a layer: around the right."""
    x, y, to_x, to_y = start.x + start.width, start.middle + 8, end.x + end.width, end.middle + 8
    out = max(x, to_x) + GAP / 2
    path = f"M{x:.0f} {y:.0f} C{out:.0f} {y:.0f} {out:.0f} {to_y:.0f} {to_x:.0f} {to_y:.0f}"
    return path, (x + (out - x) * 0.55, y + (to_y - y) * 0.2 + 12)


def _node(node: Node, place: Place) -> str:
    middle = place.x + place.width / 2
    round_ = 8 if node.key.startswith(MOD) else BOX / 2
    line = place.y + (18 if node.note else 25)
    text = f'<text text-anchor="middle" x="{middle:.0f}" y="{line:.0f}">{escape(node.name)}</text>'
    note = (
        f'<text class="note" text-anchor="middle" x="{middle:.0f}" y="{place.y + 33:.0f}">{escape(node.note)}</text>'
        if node.note
        else ""
    )
    return (
        f'<rect class="box {node.health}" x="{place.x:.0f}" y="{place.y:.0f}" width="{place.width:.0f}" height="{BOX}" '
        f'rx="{round_:.0f}"/>{text}{note}'
    )
