"""What the HTTP server takes from strangers: whom it trusts, and how much of everything it holds."""

from __future__ import annotations

from dataclasses import dataclass

from ..values.addresses import IPNetwork, host_name, ip_addresses, web_origin
from ..values.basic import duration, list_of, number, or_null, size, whole
from ..values.keys import key


@dataclass(frozen=True, slots=True)
class HttpConfig:
    """The doors of the TCP port. Times in seconds, sizes in bytes."""

    trusted_proxies: tuple[IPNetwork, ...] = key(
        (),
        list_of(ip_addresses, "[10.0.0.5, 10.1.0.0/16]"),
        "proxies whose header `X-Forwarded-For` says which address a request comes from; each must append the address "
        "that it sees. From anybody else the header says nothing",
    )
    trusted_addresses: tuple[IPNetwork, ...] = key(
        (),
        list_of(ip_addresses, "[10.0.0.5, 10.1.0.0/16]"),
        "addresses for which no count per address holds; the bounds in all hold for them, too",
    )
    hosts: tuple[str, ...] = key(
        (),
        list_of(host_name, "[agents.example.com]"),
        "names under which the network is reached, as the header `Host` has them; `*.example.com`: every name below, "
        "`*`: every name at all. Addresses, names without a dot, `network.host` and the machine's own name need not "
        "be listed",
    )
    origins: tuple[str, ...] = key(
        (),
        list_of(web_origin, "[https://app.example.com]"),
        "web pages that may call the network from a browser, as the header `Origin` has them; pages that come from "
        "the network's own name may",
    )
    connections: int = key(
        4096,
        whole(8),
        "connections at once; an eighth of the descriptors of the network's process is never used for them. When all "
        "are taken, a newcomer gets the place of a client that is waited for: strangers go before agents, agents "
        "before members of a group with a password",
    )
    connections_per_address: int = key(
        100,
        whole(1),
        "connections of one address whose clients have not proved who they are, by a secret or a group's password; "
        "those above are closed after `stranger_timeout`",
    )
    stranger_timeout: float = key(
        5.0, duration(), "how long a client may take to prove who it is before its connection counts for its address"
    )
    stranger_share: float = key(
        0.25,
        number(0.01, 1),
        "the part of the time of the network's event loop that requests of clients may take that have not proved who "
        "they are; the rest is kept for agents and mods",
    )
    guest_share: float = key(
        0.5,
        number(0.01, 1),
        "the same for requests of agents that have not joined a group with its password, while an agent is connected "
        "that has; 1: they may take all of it",
    )
    connections_per_agent: int = key(
        100,
        whole(1),
        "connections of one agent that has not joined a group with its password; when it opens one more, the oldest of "
        "those that wait for it, or for an event, is closed",
    )
    header_timeout: float = key(10.0, duration(), "how long a client may take to send a request without its body")
    body_timeout: float = key(120.0, duration(), "how long a client may take to send the body of a request")
    keep_alive: float = key(
        75.0,
        duration(),
        "how long a connection may wait for its next request; longer than clients and proxies keep idle connections, so "
        "that none sends into a closing one",
    )
    stop_timeout: float = key(
        1.0,
        duration(),
        "how long requests may take to end by themselves when the network stops; long polls and streams end at once",
    )
    min_rate: int = key(
        1000, size(1), "bytes per second that a client must send of a body, or read of an answer, over 10 s"
    )
    anonymous_body: int = key(
        64 * 1024,
        size(1000),
        "the largest body from a sender that has not proved who it is; at least what an agent needs to register",
    )
    bodies: int = key(
        128 * 1024 * 1024,
        size(1_000_000),
        "how large all bodies that are being read may be together; a large one waits until there is room for all of it",
    )
    json_values: int = key(
        100_000, whole(1000), "items of arrays and keys of objects in one body; a larger body is refused while it comes"
    )
    ws_ping: float | None = key(
        20.0,
        or_null(duration()),
        "a WebSocket connection that has said nothing for so long is pinged, and closed if it says nothing for as long "
        "again. null: never",
    )
    ws_credit: int = key(
        1024,
        whole(1),
        "the most events that the network may push on one WebSocket connection before the agent gives it more credit; "
        "what an agent gives above it is cut off",
    )
    ws_in_flight: int = key(
        64,
        whole(1),
        "events that one WebSocket connection may have sent that are not answered; what it sends behind them is read "
        "when one of them is",
    )
