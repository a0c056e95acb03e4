"""The key ``placement`` of a mod's entry: on which nodes of a cluster it runs, and how often."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ....ipc.partition import LEAST_LOADED
from ..sections.cluster import node_name
from ..values.basic import flag, list_of, read_keys
from ..values.keys import key, keys_of, readers_of, schema_of
from ..values.reader import Location, Reader, got
from ..values.schema_parts import either, of_type, words

ALL_NODES = "all"
MAX_COPIES = 256


def _copies(value: Any, at: Location) -> Any:
    if value == ALL_NODES:
        return ALL_NODES
    if isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= MAX_COPIES:
        return value
    return at.wrong(f"expected a whole number from 1 to {MAX_COPIES}, or '{ALL_NODES}', got {got(value)}")


@dataclass(frozen=True, slots=True)
class PlacementConfig:
    """Where a mod runs. Without a ``cluster`` section it runs here, once."""

    on: tuple[str, ...] = key(
        (), list_of(node_name, "[gpu]"), "the nodes that may run the mod, by name or by label. `[]`: all nodes"
    )
    copies: int | str = key(
        1,
        Reader(
            f"1 to {MAX_COPIES}, or `{ALL_NODES}`",
            _copies,
            schema=lambda: either(of_type("integer", minimum=1, maximum=MAX_COPIES), words(ALL_NODES)),
        ),
        "`1`: one node runs the mod, never two at a time; `all`: every node runs it, and serves the events of its own "
        "agents and mods. Another number: that many copies share the events by key, as `workers` do on one node; each "
        "runs on one node, never two at a time. A change needs a restart of all nodes",
    )
    spread: bool = key(
        True,
        flag,
        "true: each copy is on another node, as far as there are enough; false: they may lie anywhere",
    )

    @property
    def is_exclusive(self) -> bool:
        """Whether at most one process at a time may serve an event of the mod: it is claimed."""
        return self.copies != ALL_NODES

    @property
    def has_copies(self) -> bool:
        """Whether a number of copies share the events of the mod. Each of them is claimed."""
        return isinstance(self.copies, int) and self.copies > 1


_TABLE = readers_of(PlacementConfig)


def _placement(value: Any, at: Location) -> Any:
    return PlacementConfig(**read_keys(value, at, _TABLE))


placement_section = Reader("mapping", _placement, lambda _: "{}", lambda: schema_of(keys_of(PlacementConfig)))


def check_placement(entry: dict[str, Any], at: Location) -> None:
    """Report what cannot be together with a number of copies."""
    placement = entry.get("placement", PlacementConfig())
    if not placement.has_copies:
        return
    here = at / "placement" / "copies"
    if entry.get("workers") is not None:
        here.wrong(
            "the copies are the workers of the mod, on several nodes: give either 'copies' or 'workers'. Copies may lie "
            "on one node, too; for two workers on each of three nodes give 'copies: 6'"
        )
    if entry.get("durable") and entry.get("partition_by") == LEAST_LOADED:
        here.wrong(
            "an accepted event that is sent again must come to the same copy, and 'partition_by: least_loaded' may "
            "choose another one; give a value of the payload, or 'source'"
        )
