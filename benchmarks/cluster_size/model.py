"""Computes a size from what one entry costs, and what of it breaks first."""

from __future__ import annotations

from dataclasses import dataclass

from .entries import KINDS

LEASE = 2.0
RENEWALS = 4 / LEASE  # of one node in a second


@dataclass(frozen=True, slots=True)
class Entry:
    """One kind of entry: bytes of a write and of one watcher's copy, µs of processor, bytes of memory in a mirror."""

    written: float
    watched: float
    cpu_us: float
    memory: float


@dataclass(frozen=True, slots=True)
class Constants:
    """What was measured.

    Attributes:
        writes: acknowledged per second, 64 in flight, on the disk.
        caught_up: entries per second that a new watcher is told.
        server_us: processor time of the server for one message that it delivers to a watcher.
    """

    entries: dict[str, Entry]
    writes: float
    caught_up: float
    server_us: float


@dataclass(frozen=True, slots=True)
class Size:
    """A cluster.

    Attributes:
        channels: of which each agent is a member.
        moves: of agents from node to node, in a second.
        changes: of the state of a mod, in a second.
        registrations: and ends of them, in a second.
    """

    nodes: int = 100
    mods: int = 10_000
    agents: int = 100_000
    channels: int = 2
    moves: float = 20.0
    changes: float = 10.0
    registrations: float = 10.0

    def held(self) -> dict[str, int]:
        """Return how many entries of each kind there are."""
        return {
            "session": self.nodes, "claim": self.mods, "status": self.mods, "agent": self.agents, "home": self.agents,
            "member": self.agents * self.channels,
        }  # fmt: skip

    def per_second(self) -> dict[str, float]:
        """Return how many entries of each kind are written in a second."""
        return {
            "session": self.nodes * RENEWALS, "claim": self.changes, "status": self.changes, "agent": self.registrations,
            "home": self.moves + self.registrations, "member": self.registrations * self.channels,
        }  # fmt: skip


@dataclass(frozen=True, slots=True)
class Prediction:
    """What a size costs. Bytes, seconds, shares of one core."""

    node_memory: float
    node_changes: float
    node_bytes: float
    node_cpu: float
    server_messages: float
    server_bytes: float
    server_cpu: float
    writes: float
    writes_share: float
    join_bytes: float
    join_seconds: float
    all_join_bytes: float
    watchers: int
    takeover_writes: float
    takeover_seconds: float


def predicted(size: Size, constants: Constants) -> Prediction:
    """Return what a cluster costs while nothing is lost, and what joins and losses cost."""
    held, rates, entries = size.held(), size.per_second(), constants.entries
    changes = sum(rates.values())
    node_bytes = sum(rate * entries[kind].watched for kind, rate in rates.items())
    join_bytes = sum(count * entries[kind].watched for kind, count in held.items())
    lost = 2 * size.mods / size.nodes  # a claim and a status for each mod of the node
    return Prediction(
        node_memory=sum(count * entries[kind].memory for kind, count in held.items()),
        node_changes=changes,
        node_bytes=node_bytes,
        node_cpu=sum(rate * entries[kind].cpu_us for kind, rate in rates.items()) / 1e6,
        server_messages=changes * size.nodes,
        server_bytes=node_bytes * size.nodes,
        server_cpu=changes * size.nodes * constants.server_us / 1e6,
        writes=changes,
        writes_share=changes / constants.writes,
        join_bytes=join_bytes,
        join_seconds=sum(held.values()) / constants.caught_up,
        all_join_bytes=join_bytes * size.nodes,
        watchers=size.nodes * len(KINDS),
        takeover_writes=lost,
        takeover_seconds=lost / constants.writes,
    )


@dataclass(frozen=True, slots=True)
class Bound:
    """What runs out when the cluster grows. ``used``: the part of it that this size takes."""

    what: str
    used: float
    then: str


def bounds(size: Size, constants: Constants) -> list[Bound]:
    """Return what breaks, first what breaks first."""
    found = predicted(size, constants)
    renewals = size.nodes**2 * RENEWALS * constants.server_us / 1e6
    return sorted(
        [
            Bound(
                "renewed sessions, each told to every node (grows with the square of the nodes): one core of the servers",
                renewals,
                "a longer `lease` (takeovers take longer), or networks apart",
            ),
            Bound(
                "the disk of the servers, in acknowledged writes per second",
                found.writes_share,
                "faster disks, or `sync_interval` of a second, if losing it at a power failure is bearable",
            ),
            Bound(
                "one core of a node, for its mirrors",
                found.node_cpu,
                "fewer changes: agents that stay where they are",
            ),
            Bound("512 MB of a node, for its mirrors", found.node_memory / 512e6, "more memory, or networks apart"),
            Bound(
                "1 Gbit/s of one server, for all mirrors",
                found.server_bytes * 8 / 1e9,
                "more servers: nodes spread over them",
            ),
            Bound(
                "60 s until a new node knows everything", found.join_seconds / 60, "networks apart, by groups of agents"
            ),
            Bound(
                "3 s for the claims of a lost node's mods (starting them takes longer)",
                found.takeover_seconds / 3,
                "fewer mods on a node: more nodes",
            ),
        ],
        key=lambda bound: -bound.used,
    )
