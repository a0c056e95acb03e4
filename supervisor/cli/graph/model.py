"""The graph of a network: agents and mods, the traffic between them, and what needs what."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ..client.live import Row
from ..terminal.output import printable

AGENTS, MOD = "agents", "mod:"
WELL, TROUBLED, DOWN = "well", "troubled", "down"

_PASSING = ("starting", "restarting", "backoff", "probing", "ending", "draining")
_DOWN = ("failed", "quarantined", "stopped")


@dataclass(frozen=True, slots=True)
class Node:
    """Agents, agents of a group, a mod, or another sender such as the system.

    Attributes:
        key: ``agents``, ``agents:GROUP``, ``mod:ID`` or ``system``, as the network names them.
        name: for people; ``note``: more about it, or "".
    """

    key: str
    name: str
    note: str
    health: str = WELL


@dataclass(frozen=True, slots=True)
class Edge:
    """Events from one node to another, or that a mod needs another one.

    Attributes:
        rate, failures: events per second; None: nothing was seen, the edge is a need.
        needed: whether the start needs the end.
    """

    start: str
    end: str
    rate: float | None = None
    failures: float = 0.0
    needed: bool = False

    @property
    def health(self) -> str:
        if not self.failures or not self.rate:
            return WELL
        return DOWN if self.failures >= self.rate / 2 else TROUBLED


@dataclass(frozen=True, slots=True)
class Graph:
    """All of it. ``name``: of the network; ``seconds``: how long its traffic was watched."""

    name: str
    seconds: float
    nodes: tuple[Node, ...]
    edges: tuple[Edge, ...]

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    def leaving(self, key: str) -> list[Edge]:
        """Return the edges that start at a node, the busiest first."""
        return sorted((edge for edge in self.edges if edge.start == key), key=lambda edge: -(edge.rate or 0.0))


def graph_of(
    network: dict[str, Any], rows: Iterable[Row], mods: Iterable[dict[str, Any]], seen: Sequence[list[list[Any]]],
    seconds: float,
) -> Graph:  # fmt: skip
    """Return the graph of a network.

    Args:
        rows, seen: of `live`: the newest rows, and the edges of each record.
        mods: with what each needs and is needed by, as ``GET /mods`` has it.
    """
    rows = list(rows)
    shown = _shown(rows)
    traffic = _averages([[[shown.get(a, a), shown.get(b, b), *counts] for a, b, *counts in edges] for edges in seen])
    ends = ((f"{MOD}{other}", f"{MOD}{mod['mod_id']}") for mod in mods for other in mod.get("required_by") or ())
    needs = {(shown.get(a, a), shown.get(b, b)) for a, b in ends}
    edges = [
        Edge(*ends, traffic[ends][0], traffic[ends][1], needed=ends in needs)
        if ends in traffic
        else Edge(*ends, needed=True)
        for ends in dict.fromkeys((*traffic, *sorted(needs)))
    ]
    senders = dict.fromkeys(end for edge in edges for end in (edge.start, edge.end) if not end.startswith(MOD))
    nodes = [_sender(key, network) for key in senders or (AGENTS,)]
    nodes += [_mod(row) for row in rows]
    known = {node.key for node in nodes}
    return Graph(
        printable(str(network.get("name"))),
        seconds,
        tuple(nodes),
        tuple(edge for edge in edges if {edge.start, edge.end} <= known),
    )


def _shown(rows: Iterable[Row]) -> dict[str, str]:
    """Return the node that stands for a mod of which several nodes of a cluster have a row: the first of them."""
    ids: dict[str, str] = {}
    for row in rows:
        ids.setdefault(f"{MOD}{row.get('mod', row['id'])}", f"{MOD}{row['id']}")
    return ids


def _averages(seen: Sequence[list[list[Any]]]) -> dict[tuple[str, str], tuple[float, float]]:
    sums: dict[tuple[str, str], tuple[float, float]] = {}
    for edges in seen:
        for start, end, rate, failures in edges:
            before = sums.get((start, end), (0.0, 0.0))
            sums[start, end] = before[0] + rate, before[1] + failures
    return {
        ends: (round(rate / len(seen), 3), round(failures / len(seen), 3)) for ends, (rate, failures) in sums.items()
    }


def _sender(key: str, network: dict[str, Any]) -> Node:
    if key != AGENTS:
        return Node(key, printable(key.removeprefix(f"{AGENTS}:")), "")
    count = network.get("agents")
    return Node(key, AGENTS, "" if count is None else f"{count} registered")


def _mod(row: Row) -> Node:
    state = str(row.get("state"))
    health = DOWN if state in _DOWN else TROUBLED if state in _PASSING else WELL
    return Node(f"{MOD}{row['id']}", printable(str(row["id"])), "" if health == WELL else printable(state), health)


def per_second(value: float) -> str:
    return f"{value:.2f}" if value < 1 else f"{value:.1f}" if value < 100 else f"{value:.0f}"


def amount(edge: Edge) -> str:
    """Return what goes over an edge, in words."""
    if edge.rate is None:
        return "needs it"
    failed = f", {per_second(edge.failures)} failed" if edge.failures else ""
    return f"{per_second(edge.rate)} events/s{failed}" + (", needs it" if edge.needed else "")
