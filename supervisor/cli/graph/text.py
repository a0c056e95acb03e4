"""The graph as text: each node with what it sends to whom."""

from __future__ import annotations

from collections.abc import Iterator

from ..terminal.columns import STYLES
from .model import DOWN, TROUBLED, Graph, Node, amount

_STYLE = {DOWN: "red", TROUBLED: "yellow"}
LINES = ("├─▶ ", "└─▶ ")
ASCII = ("|-> ", "`-> ")


def lines(graph: Graph, *, styled: bool = False, arms: tuple[str, str] = LINES) -> Iterator[str]:
    """Yield the lines, those of senders first."""
    yield f"{graph.name}: traffic of {graph.seconds:g} s"
    names = {node.key: node for node in graph.nodes}
    width = max((len(node.name) for node in graph.nodes), default=0)
    for node in graph.nodes:
        edges = graph.leaving(node.key)
        yield ""
        yield _shown(node, 0, styled) + (f"  {node.note}" if node.note else "")
        for edge in edges:
            arm = arms[edge is edges[-1]]
            text = amount(edge)
            style = _STYLE.get(edge.health, "")
            yield f"{arm}{_shown(names[edge.end], width, styled)}  {_styled(text, style, styled)}"


def _shown(node: Node, width: int, styled: bool) -> str:
    return _styled(node.name.ljust(width), _STYLE.get(node.health, "bold"), styled)


def _styled(text: str, style: str, styled: bool) -> str:
    return f"\x1b[{STYLES[style]}m{text}\x1b[0m" if styled and style else text
