"""Which machine a request comes from, and whether the counts per address hold for it. Pure.

The peer of a connection may be a proxy. Only the proxies of `http.trusted_proxies` are believed:
each appends the address that it sees to `X-Forwarded-For`, so the last entry that no trusted proxy
wrote about another trusted proxy is the client. What stands before it may be forged.
"""

from __future__ import annotations

from collections.abc import Collection
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

from starlette.datastructures import Headers
from starlette.types import Scope

from ...config import HttpConfig, IPNetwork

IPAddress = IPv4Address | IPv6Address

_SITE = 64  # bits of an IPv6 address that one customer of a provider cannot choose


def client_address(scope: Scope, http: HttpConfig) -> IPAddress | None:
    """Return the address that a request comes from; None for the unix socket.

    Args:
        scope: the ASGI scope of the request (`request.scope`).
    """
    peer = peer_address(scope)
    if peer is None or not http.trusted_proxies:
        return peer
    return behind_proxies(peer, Headers(scope=scope).getlist("x-forwarded-for"), http)


def behind_proxies(peer: IPAddress | None, forwarded: list[str], http: HttpConfig) -> IPAddress | None:
    """Return the address for which the proxies speak, the peer's own if it is no trusted proxy.

    Args:
        forwarded: the values of `X-Forwarded-For`.
    """
    if peer is None or not is_in(peer, http.trusted_proxies):
        return peer
    entries = [entry for line in forwarded for entry in line.split(",")]
    while entries and is_in(peer, http.trusted_proxies):
        named = parsed(entries.pop())
        if named is None:  # the proxy does not say whom it speaks for
            break
        peer = named
    return peer


def peer_address(scope: Scope) -> IPAddress | None:
    """Return the address of the other end of the connection; None for a unix socket."""
    client = scope.get("client")
    return None if client is None else peer_named(client[0])


@lru_cache(maxsize=4096)
def peer_named(host: str) -> IPAddress | None:
    """Return the address of a peer by the text that the kernel has for it."""
    return parsed(host)


def is_exempt(address: IPAddress | None, http: HttpConfig) -> bool:
    """Return whether no count per address holds for this address (`http.trusted_addresses`).

    The operator's unix socket has no address, and no count.
    """
    return address is None or is_in(address, http.trusted_addresses)


@lru_cache(maxsize=4096)
def counted_as(address: IPAddress) -> str:
    """Return the name under which an address is counted.

    A client has one IPv4 address, but may choose among all IPv6 addresses of its network.
    """
    if isinstance(address, IPv4Address):
        return str(address)
    return str(ip_network((int(address) >> _SITE << _SITE, _SITE)))


def is_in(address: IPAddress, networks: Collection[IPNetwork]) -> bool:
    return bool(networks) and any(address in network for network in networks)


def parsed(text: str) -> IPAddress | None:
    """Return the address that a text says, with or without a port; None if it says none."""
    text = text.strip().strip('"')
    if text.startswith("["):  # [2001:db8::1]:443
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:  # 10.0.0.5:443
        text = text.partition(":")[0]
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address
