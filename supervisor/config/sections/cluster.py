"""The section ``cluster``: one network on several machines, over NATS."""

from __future__ import annotations

import re
import socket
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from ....ipc.errors import ModvisorError
from ..values.basic import (
    absolute_path,
    duration,
    flag,
    list_of,
    mapping_of,
    one_of,
    or_null,
    read_keys,
    size,
    text,
    whole,
)
from ..values.env import EnvValue, token
from ..values.keys import about, key, keys_of, readers_of, schema_of
from ..values.reader import Location, Reader, got, reader
from ..values.schema_parts import nullable
from ..values.token_strength import weakness
from ..yaml.source import BROKEN

MEMORY, STREAM = INBOXES = ("memory", "stream")
MIN_LEASE, MAX_LEASE = 1.0, 60.0
"""Seconds. NATS counts the life of a key in whole seconds, and rounds up."""

MAX_NAME = 64
_NAME = re.compile(rf"(?![.-])[A-Za-z0-9_.-]{{1,{MAX_NAME}}}")
_NETWORK = re.compile(r"[A-Za-z0-9_-]{1,64}")
_SCHEMES = ("nats", "tls", "ws", "wss")


# -- readers


@reader("name", "string", pattern=f"^{_NAME.pattern}$")
def node_name(value: Any, at: Location) -> Any:
    """Read the name of a node, or a label of nodes."""
    found = text(value, at)
    if found is BROKEN or is_node_name(found):
        return found
    return at.wrong(
        f"expected 1 to {MAX_NAME} letters, digits, '_', '.', '-', first a letter, digit or '_', got {got(found)}"
    )


def is_node_name(found: str) -> bool:
    """Return whether a text can name a node. A node's state folder has its name."""
    return _NAME.fullmatch(found) is not None and ".." not in found


def host_node() -> str:
    """Return the host's name as the name of a node."""
    name = re.sub(r"\.{2,}|[^A-Za-z0-9_.-]+", "-", socket.gethostname()[:MAX_NAME]).strip(".-")
    return name or "node"


@reader("network", "string", pattern=f"^{_NETWORK.pattern}$")
def _network(value: Any, at: Location) -> Any:
    found = text(value, at)
    if found is BROKEN or _NETWORK.fullmatch(found):
        return found
    return at.wrong(f"expected 1 to 64 letters, digits, '_', '-', got {got(found)}")


def subject_name(network_id: str) -> str:
    """Return the id of a network as the names of NATS can have it."""
    return re.sub(r"[^A-Za-z0-9_-]+", "-", network_id)[:64]


@reader("URL", "string")
def _server(value: Any, at: Location) -> Any:
    """Read the address of a NATS server. Its password has keys of its own: URLs end up in logs."""
    found = text(value, at)
    if found is BROKEN:
        return BROKEN
    example = "expected a URL such as nats://10.0.0.5:4222"
    try:
        parts = urlsplit(found if "://" in found else f"nats://{found}")
        is_url = parts.scheme in _SCHEMES and bool(parts.hostname) and parts.path in ("", "/")
        port = parts.port or (None if parts.scheme in ("ws", "wss") else 4222)
    except ValueError:  # a port that is no number
        return at.wrong(f"{example}, got {got(found)}")
    if "@" in parts.netloc:
        return at.wrong("a URL may hold no password; use 'credentials', 'nkey', or 'user' and 'password'")
    if not is_url:
        return at.wrong(f"{example}, got {got(found)}")
    host = f"[{parts.hostname}]" if ":" in str(parts.hostname) else parts.hostname
    return f"{parts.scheme}://{host}" + (f":{port}" if port else "")


def _lease(value: Any, at: Location) -> Any:
    found = _seconds(value, at)
    if found is BROKEN or MIN_LEASE <= found <= MAX_LEASE:
        return found
    return at.wrong(f"expected {MIN_LEASE:g} to {MAX_LEASE:g} seconds, got {got(value)}")


_seconds = duration()
_LEASE = Reader(f"duration, {MIN_LEASE:g}s to {MAX_LEASE:g}s", _lease, _seconds.written, _seconds.schema)
_labels = list_of(node_name, "[gpu, eu]")


def _copies_on_servers(value: Any, at: Location) -> Any:
    found = whole(1, 5)(value, at)
    return found if found is BROKEN or found in (1, 3, 5) else at.wrong(f"expected 1, 3 or 5, got {got(value)}")


_REPLICAS = Reader("1, 3 or 5", _copies_on_servers, schema=whole(1, 5).schema)


# -- the section


@dataclass(frozen=True, slots=True)
class ClusterTlsConfig:
    """What protects the way to the NATS servers. Files in PEM."""

    ca: Path | None = key(
        None,
        or_null(absolute_path),
        "certificates; the servers' certificate must be signed by one of them. null: those that the system trusts",
    )
    cert: Path | None = key(
        None, or_null(absolute_path), "this node's own certificate, for servers that ask for one (`verify: true`)"
    )
    key: Path | None = key(None, or_null(absolute_path), "the private key of `cert`, without a password")


@dataclass(frozen=True, slots=True)
class NodeConfig:
    """What differs on one node."""

    labels: tuple[str, ...] = key((), _labels, "labels of this node alone, besides `cluster.labels`")
    host: str | None = key(None, or_null(text), "the address on which this node listens; null: `network.host`")
    port: int | None = key(
        None, or_null(whole(0, 65535)), "the HTTP port of this node; `0` picks a free one; null: `network.port`"
    )


_NODE_TABLE = readers_of(NodeConfig)


def _node(value: Any, at: Location) -> Any:
    if node_name(at.key[-1], at) is BROKEN:
        return BROKEN
    return NodeConfig(**read_keys(value, at, _NODE_TABLE))


_nodes = mapping_of(Reader("mapping", _node, lambda _: "{}", lambda: schema_of(keys_of(NodeConfig))), "nodes")


def _tls(value: Any, at: Location) -> Any:
    if value is None:
        return None
    found = read_keys(value, at, readers_of(ClusterTlsConfig))
    for one, other in (("cert", "key"), ("key", "cert")):
        if one in found and other not in found and isinstance(value, dict) and other not in value:
            (at / other).wrong(f"the key is missing; '{one}' needs it")
    return ClusterTlsConfig(**found)


@dataclass(frozen=True, slots=True)
class ClusterConfig:
    """How this node joins the others. Times in seconds, sizes in bytes.

    Attributes:
        node: this node's name, once the file was read for one node.
        labels: of this node, those of ``nodes`` included.
    """

    servers: tuple[str, ...] = key(
        (),
        list_of(_server, "['nats://10.0.0.5:4222']"),
        "the NATS servers, with JetStream; one is enough, the others are learnt from it. `[]`: the server that "
        "[`modvisor cluster up`](cluster.md#on-one-machine) started for this file",
    )
    node: str = field(
        default_factory=host_node,
        metadata=about(
            node_name,
            "what this node is called, unique in the network; `modvisor run --node NAME` rules over it",
            shown="the host's name",
        ),
    )
    network: str = field(
        default="",
        metadata=about(
            _network,
            "what the network is called on the servers, where several networks may be. Every subject, bucket and "
            "stream has it in its name",
            shown="from `network.id`",
        ),
    )
    secret: EnvValue | None = key(
        None,
        or_null(token),
        "what only nodes of this network know, the same on each: every message between nodes is sealed with it. At "
        "least 16 characters that cannot be guessed; `from` works as in [env](#modsenvname). null: the one that "
        "`modvisor cluster up` made",
    )
    credentials: Path | None = key(
        None, or_null(absolute_path), "the file of credentials (`.creds`) by which the servers know this node"
    )
    nkey: Path | None = key(None, or_null(absolute_path), "the file with the seed of an nkey, instead of `credentials`")
    user: str | None = key(None, or_null(text), "the name of a user of the servers, instead of `credentials`")
    password: EnvValue | None = key(None, or_null(token), "the password of `user`; `from` works as in `secret`")
    tls: ClusterTlsConfig | None = key(
        None,
        Reader("mapping, or null", _tls, schema=lambda: nullable(schema_of(keys_of(ClusterTlsConfig)))),
        "how the way to the servers is protected, see [tls](#clustertls). null: as the servers' URLs and the servers "
        "say, with certificates that the system trusts",
    )
    labels: tuple[str, ...] = key(
        (), _labels, "what this node is or has, such as `gpu`; [placement](#modsplacement) names nodes by them"
    )
    nodes: dict[str, NodeConfig] = field(
        default_factory=dict,
        metadata=about(
            _nodes,
            "what differs on a node, by its name, so that the same file serves on every machine, see "
            "[nodes](#clusternodesname). A node needs no entry here",
        ),
    )
    lease: float = key(
        2.0,
        _LEASE,
        "for how long a node counts as alive that was not heard of. Then other nodes take over its mods, and the node "
        "itself has killed them. Renewed four times in this time",
    )
    replicas: int | None = key(
        None,
        or_null(_REPLICAS),
        "on how many servers all that the network keeps lies; null: 3 if at least three servers answer, else 1",
    )
    wait: bool = key(
        False,
        flag,
        "true: a node that reaches no server at its start waits until one answers; false: it does not start",
    )
    timeout: float = key(
        2.0, duration(), "how long one request to the servers may take that changes or reads what is kept"
    )
    max_payload: int = key(
        16 * 1024 * 1024,
        size(1000),
        "the largest event or answer that goes to another node. What is larger than the servers take in one message "
        "(`max_payload` of NATS, 1 MB) goes through their object store",
    )
    inboxes: str = key(
        STREAM,
        one_of(*INBOXES),
        "what waits for agents: `stream`: it is kept on the servers too, and outlives the node that the agent is "
        "connected to; `memory`: it is lost with that node",
    )
    allow_mixed: bool = key(
        False,
        flag,
        "true: this node may join although its file or a mod's code differs from the other nodes', for an upgrade "
        "node by node; false: the difference is named, and the node or the mod is refused",
    )


_TABLE = readers_of(ClusterConfig)
_WAYS_IN = ("credentials", "nkey", "user")


def _cluster(value: Any, at: Location) -> Any:
    if value is None:
        return None
    found = read_keys(value, at, _TABLE)
    if not isinstance(value, dict):
        return BROKEN
    _check_ways_in(value, at)
    _check_secret(value, found, at)
    return ClusterConfig(**found)


def _check_ways_in(value: dict[Any, Any], at: Location) -> None:
    given = [name for name in _WAYS_IN if value.get(name) is not None]
    if len(given) > 1:
        (at / given[1]).wrong(f"'{given[0]}' says already how the servers know this node; remove one of them")
    for one, other in (("user", "password"), ("password", "user")):
        if value.get(one) is not None and value.get(other) is None:
            (at / other).wrong(f"the key is missing; '{one}' needs it")


def _check_secret(value: dict[Any, Any], found: dict[str, Any], at: Location) -> None:
    secret = found.get("secret")
    if secret is None:
        if found.get("servers") and value.get("secret") is None:
            (at / "secret").wrong(
                "the key is missing; the nodes seal what they say to each other with it. Make one with "
                "'openssl rand -hex 24', the same for every node"
            )
        return
    try:
        weak = weakness(secret.resolve())
    except ModvisorError:  # reported where the secret is read
        return
    if weak:
        (at / "secret").wrong(f"the secret can be guessed: {weak}. Make one with 'openssl rand -hex 24'")


cluster_section = Reader("mapping, or null", _cluster, schema=lambda: nullable(schema_of(keys_of(ClusterConfig))))
