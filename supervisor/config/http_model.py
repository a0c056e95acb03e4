"""What the HTTP server takes from strangers: whom it trusts, and how much of everything it holds."""

from __future__ import annotations

from dataclasses import dataclass

from .address_values import IPNetwork, ip_addresses
from .keys import key
from .values import list_of


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
