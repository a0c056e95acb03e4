"""Which node of a cluster should run which mod. Pure: nodes and mods in, names of nodes out.

A mod goes to the node that wins a draw by the hashes of both names (rendezvous hashing, Thaler and
Ravishankar 1998). All nodes draw the same without asking each other; a node that leaves loses its own
mods only, and a node that comes gets its share and moves no other mod. When a node dies, its mods are
drawn again among the others; `duties` decides when that is so, and who claims them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from hashlib import blake2b
from typing import NamedTuple

from ...config import ALL_NODES, PlacementConfig
from ...fleet import part_id


class Place(NamedTuple):
    """A node as a place for mods.

    Attributes:
        is_open: it takes mods; a node that is being drained keeps what it has until that is moved.
    """

    name: str
    labels: frozenset[str] = frozenset()
    is_open: bool = True


def allowed(placement: PlacementConfig, nodes: Iterable[Place]) -> list[str]:
    """Return the names of the nodes that may run a mod, sorted."""
    return sorted(node.name for node in nodes if node.is_open and _is_named(placement.on, node))


def _is_named(on: tuple[str, ...], node: Place) -> bool:
    return not on or node.name in on or not node.labels.isdisjoint(on)


def ranked(mod_id: str, names: Iterable[str]) -> list[str]:
    """Return nodes in the order in which they should run a mod, the first choice first."""
    return sorted(names, key=lambda name: (_draw(mod_id, name), name), reverse=True)


def _draw(mod_id: str, name: str) -> bytes:
    return blake2b(f"{mod_id}\n{name}".encode(), digest_size=8).digest()


def chosen(mod_id: str, placement: PlacementConfig, nodes: Iterable[Place]) -> str | None:
    """Return the node that should run a mod that runs once; None if no node may."""
    found = ranked(mod_id, allowed(placement, nodes))
    return found[0] if found else None


def copies(
    mod_id: str, placement: PlacementConfig, nodes: Iterable[Place], held: Mapping[int, str] | None = None
) -> dict[int, str]:
    """Return the node that should run each copy of a mod, by the number of the copy.

    Without ``spread`` each copy draws for itself, as a mod that runs once does. With it, no node has
    two copies more than another one: a copy stays where it is as long as that holds, so a node that
    leaves moves its own copies only, and one that comes gets no more than its share.

    Args:
        held: the nodes that have copies now.
    """
    assert placement.copies != ALL_NODES
    names, count = allowed(placement, nodes), int(placement.copies)
    if not names:
        return {}
    if not placement.spread:
        return {part: ranked(part_id(mod_id, part), names)[0] for part in range(count)}
    found = {part: node for part, node in (held or {}).items() if node in names and part < count}
    for part in range(count):
        if part not in found:
            found[part] = _least_used(ranked(part_id(mod_id, part), names), found)
    while (move := _evening(mod_id, names, found)) is not None:
        part, node = move
        found[part] = node
    return dict(sorted(found.items()))


def _least_used(names: Sequence[str], found: Mapping[int, str]) -> str:
    """Return the first name of those that have the fewest copies so far."""
    used = [*found.values()]
    return min(names, key=used.count)


def _evening(mod_id: str, names: Sequence[str], found: Mapping[int, str]) -> tuple[int, str] | None:
    """Return a copy and the node it should move to, if a node has two copies more than another one."""
    used = [*found.values()]
    most, least = max(names, key=used.count), min(names, key=used.count)
    if used.count(most) - used.count(least) < 2:
        return None
    theirs = [part for part, node in found.items() if node == most]
    return max(theirs, key=lambda part: (_draw(part_id(mod_id, part), least), part)), least
