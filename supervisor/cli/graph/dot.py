"""The graph in the language of graphviz: ``modvisor graph --format dot | dot -Tpng > network.png``."""

from __future__ import annotations

from collections.abc import Iterator

from .model import DOWN, MOD, TROUBLED, WELL, Edge, Graph, Node, amount
from .svg import thickness

_COLOURS = {WELL: "#2e7d32", TROUBLED: "#b26a00", DOWN: "#c62828"}


def lines(graph: Graph) -> Iterator[str]:
    yield f"digraph {quoted(graph.name)} {{"
    yield '  rankdir=LR; node [shape=box, style=rounded, fontname="sans-serif"]; edge [fontname="sans-serif", fontsize=10];'
    yield from map(_node, graph.nodes)
    yield from map(_edge, graph.edges)
    yield "}"


def quoted(text: str) -> str:
    """Return a string of the language: only the quote and the backslash mean something in it."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _node(node: Node) -> str:
    label = quoted(node.name if not node.note else f"{node.name}\n{node.note}").replace("\n", "\\n")
    shape = "" if node.key.startswith(MOD) else ", shape=ellipse"
    return f'  {quoted(node.key)} [label={label}, color="{_COLOURS[node.health]}"{shape}];'


def _edge(edge: Edge) -> str:
    style = ", style=dashed" if edge.rate is None else ""
    colour = "#777777" if edge.rate is None else _COLOURS[edge.health]
    return (
        f"  {quoted(edge.start)} -> {quoted(edge.end)} "
        f'[label={quoted(amount(edge))}, color="{colour}", penwidth={thickness(edge):.1f}{style}];'
    )
