"""Places for the nodes of a graph: layers from the senders to the receivers, and an order with few crossings.

This is the method of Sugiyama, Tagawa and Toda (1981), without its fine placement: a graph of a
network has few layers. A library for it would weigh more than the rest of the command.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import pairwise

Ends = tuple[str, str]
SWEEPS = 8  # more change nothing in graphs of this kind


def layered(
    keys: Iterable[str], edges: Iterable[Ends], first: Iterable[str] = ()
) -> tuple[list[list[str]], dict[Ends, list[str]]]:
    """Return the nodes by layer, in the order in which they are to be drawn, and the way of each long edge.

    An edge that crosses a layer has a place of its own in it, so that no node stands in its way.

    Args:
        first: nodes of the first layer; the others stand right of those that send to them.

    Returns:
        The layers, with nodes and places of edges; for each edge the places that it goes through.
    """
    keys, first = list(dict.fromkeys(keys)), set(first)
    forward = _without_circles(keys, [ends for ends in dict.fromkeys(edges) if ends[0] != ends[1]])
    depth = {key: 0 if key in first else 1 for key in keys} if first else dict.fromkeys(keys, 0)
    for key in _sorted(keys, forward):
        for start, end in forward:
            if start == key and end not in first:
                depth[end] = max(depth[end], depth[start] + 1)
    ways = {ends: [f"{ends}{at}" for at in range(depth[ends[0]] + 1, depth[ends[1]])] for ends in forward}
    layers: list[list[str]] = [[] for _ in range(max(depth.values(), default=-1) + 1)]
    for key in keys:
        layers[depth[key]].append(key)
    for (start, _), way in ways.items():
        for at, place in enumerate(way, depth[start] + 1):
            layers[at].append(place)
    steps = [step for (start, end), way in ways.items() for step in pairwise((start, *way, end))]
    return _untangled([layer for layer in layers if layer], steps), {ends: way for ends, way in ways.items() if way}


def _without_circles(keys: list[str], edges: list[Ends]) -> list[Ends]:
    """Leave out the edges that close a circle."""
    after: dict[str, list[str]] = {key: [end for start, end in edges if start == key] for key in keys}
    closing: set[Ends] = set()
    done: set[str] = set()
    for root in keys:
        path: list[tuple[str, list[str]]] = [(root, list(after[root]))] if root not in done else []
        on_path = {root}
        done.add(root)
        while path:
            key, left = path[-1]
            if not left:
                on_path.discard(key)
                path.pop()
            elif (end := left.pop(0)) in on_path:
                closing.add((key, end))
            elif end not in done and end in after:
                done.add(end)
                on_path.add(end)
                path.append((end, list(after[end])))
    return [ends for ends in edges if ends not in closing and ends[1] in after]


def _sorted(keys: list[str], edges: list[Ends]) -> list[str]:
    """Return the nodes so that each stands behind those that send to it."""
    waits = {key: sum(end == key for _, end in edges) for key in keys}
    free = [key for key in keys if not waits[key]]
    for key in free:  # grows meanwhile
        for start, end in edges:
            if start == key:
                waits[end] -= 1
                if not waits[end]:
                    free.append(end)
    return free


def _untangled(layers: list[list[str]], edges: list[Ends]) -> list[list[str]]:
    """Order each layer by the mean place of the neighbours, forwards and backwards in turns."""
    neighbours: dict[str, list[str]] = {key: [] for layer in layers for key in layer}
    for start, end in edges:
        neighbours[start].append(end)
        neighbours[end].append(start)
    for sweep in range(SWEEPS):
        place = {key: at / len(layer) for layer in layers for at, key in enumerate(layer)}
        for layer in layers if sweep % 2 == 0 else reversed(layers):
            layer.sort(key=lambda key: _mean(neighbours[key], place, key))
            place |= {key: at / len(layer) for at, key in enumerate(layer)}
    return layers


def _mean(keys: list[str], place: Mapping[str, float], alone: str) -> float:
    return sum(place[key] for key in keys) / len(keys) if keys else place[alone]
