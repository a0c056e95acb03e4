"""Decides which hosts a mod reaches from its cell. Pure.

A name must be listed, and an address must be public or listed: a listed name must not lead to the
machine itself, its neighbours or the cloud's metadata, whoever answers for the name.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

from ..config import HostRule, parsed_host

IPAddress = IPv4Address | IPv6Address

_TARGET = re.compile(r"(?P<host>\[[0-9a-fA-F:.]{2,45}\]|[A-Za-z0-9._-]{1,255}):(?P<port>[0-9]{1,5})", re.ASCII)

# Not public, whatever a version of Python says of them.
_NOT_PUBLIC = (
    ip_network("168.63.129.16/32"),  # Azure: metadata and keys of the machine, at a public address
    ip_network("192.0.0.0/24"),  # of protocols, and Oracle's metadata
    ip_network("192.88.99.0/24"),  # relays of 6to4
    ip_network("64:ff9b:1::/48"),  # local translation to IPv4
    ip_network("3fff::/20"),  # documentation
    ip_network("5f00::/16"),  # segment routing
    ip_network("fec0::/10"),  # site-local
)
_NAT64 = ip_network("64:ff9b::/96")


class Refused(Exception):
    """A host that the mod may not reach; the text says why."""


def target(text: str) -> tuple[str, int]:
    """Return host and port of a CONNECT request; raise ValueError."""
    match = _TARGET.fullmatch(text)
    if match is None or not 0 < (port := int(match["port"])) < 65536:
        raise ValueError("expected CONNECT host:port")
    return match["host"].strip("[]").lower().removesuffix("."), port


class Hosts:
    """What one mod may reach.

    Args:
        rules: as the config has them.
    """

    def __init__(self, rules: Iterable[str]) -> None:
        self._rules = [parsed_host(rule) for rule in rules]

    def check_name(self, host: str, port: int) -> IPAddress | None:
        """Return the address if the host is one; raise `Refused`."""
        address = _as_address(host)
        if address is not None:
            if not self._lists(address, port):
                raise Refused("the address is not among its hosts")
            return address
        if not any(_fits(rule, host) and rule.port in (port, None) for rule in self._rules):
            raise Refused(f"the host is not among its hosts{self._other_port(host)}")
        return None

    def _other_port(self, host: str) -> str:
        ports = sorted({rule.port for rule in self._rules if rule.port is not None and _fits(rule, host)})
        return f" with this port, only with {', '.join(map(str, ports))}" if ports else ""

    def check_address(self, address: IPAddress, port: int) -> None:
        """Raise `Refused` if a listed name leads to an address that is neither public nor listed."""
        if not is_public(address) and not self._lists(address, port):
            raise Refused(f"the host is at {address}, which is not public, and not among its hosts")

    def check_own(self, address: IPAddress, port: int) -> None:
        """Raise `Refused` for an address of this machine, unless it is listed."""
        if not self._lists(address, port):
            raise Refused(f"the host is at {address}, which is this machine, and not among its hosts")

    def _lists(self, address: IPAddress, port: int) -> bool:
        return any(
            rule.addresses is not None and address in rule.addresses and rule.port in (port, None)
            for rule in self._rules
        )


def _as_address(host: str) -> IPAddress | None:
    """Return the address that a host is written as. Other notations (0x7f.1, 2130706433) are no names that resolve here."""
    try:
        return plain(ip_address(host))
    except ValueError:
        pass
    if re.fullmatch(r"(0x[0-9a-f]*|[0-9]+)(\.(0x[0-9a-f]*|[0-9]+))*", host):
        raise Refused("an address must have four numbers with dots, or be IPv6")
    return None


def _fits(rule: HostRule, host: str) -> bool:
    if rule.name.startswith("*"):
        return host.endswith(rule.name[1:])
    return bool(rule.name) and rule.name == host


def plain(address: IPAddress) -> IPAddress:
    """Return the IPv4 address that an IPv6 one stands for, else the address itself."""
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


def is_public(address: IPAddress) -> bool:
    """Return whether an address is one of the internet: not private, local, shared, reserved or multicast."""
    address = plain(address)
    if isinstance(address, IPv6Address):
        if address in _NAT64:  # a gateway unpacks the IPv4 address
            return is_public(IPv4Address(int(address) & 0xFFFF_FFFF))
        if not all(map(is_public, (*(address.teredo or ()), *([address.sixtofour] if address.sixtofour else [])))):
            return False
    if address.is_multicast or address.is_reserved or address.is_unspecified or not address.is_global:
        return False
    return not any(address in network for network in _NOT_PUBLIC)
