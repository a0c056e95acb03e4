"""Readers of hosts that a mod may reach from its cell."""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import ip_network
from typing import Any

from ..yaml.source import BROKEN
from .addresses import IPNetwork, is_host_name
from .basic import text
from .reader import Location, got, reader

HTTPS = 443
"""The port of a host without one: what leaves a cell is encrypted unless the file says otherwise."""

_WITH_PORT = re.compile(r"(?P<host>\[[^\]]*\]|[^:\[\]]*)(?::(?P<port>[0-9]{1,5}|\*))?")
_ADDRESS = re.compile(r"[0-9.]+|[0-9a-f:.]*:[0-9a-f:.]*", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class HostRule:
    """Hosts that a mod may reach.

    Attributes:
        name: a host's name, ``*.example.com`` for those below example.com, ``*`` for every public
            host; "" if the rule names addresses.
        addresses: they may be private ones.
        port: None: any.
    """

    name: str = ""
    addresses: IPNetwork | None = None
    port: int | None = HTTPS


@reader("host", "string")
def host_rule(value: Any, at: Location) -> Any:
    """Read a host, as text that `parsed_host` takes."""
    found = text(value, at)
    if found is BROKEN:
        return BROKEN
    try:
        return found if parsed_host(found) else BROKEN
    except ValueError as error:
        return at.wrong(str(error))


def parsed_host(found: str) -> HostRule:
    """Return the rule for ``api.example.com``, ``*.example.com:8443``, ``10.0.0.0/8:*``, ``[::1]:5432``, ``*``.

    Raises:
        ValueError: it is none. The text says what was expected.
    """
    if found.count(":") > 1 and not found.startswith("["):  # an IPv6 address without a port
        found = f"[{found}]"
    match = _WITH_PORT.fullmatch(found)
    if match is None:
        raise ValueError(_expected(found))
    host, port = match["host"], HTTPS if match["port"] is None else None if match["port"] == "*" else int(match["port"])
    if port is not None and not 0 < port < 65536:
        raise ValueError(f"the port of {found} is not between 1 and 65535")
    if host.startswith("[") or _ADDRESS.fullmatch(host.partition("/")[0]):
        return HostRule("", _addresses(host.strip("[]"), found), port)
    if not is_host_name(host):
        raise ValueError(_expected(found))
    return HostRule(host.lower(), None, port)


def _addresses(host: str, found: str) -> IPNetwork:
    try:
        return ip_network(host)
    except ValueError as error:
        if str(error).endswith("has host bits set"):
            raise ValueError(f"{host} is an address within a network; write {ip_network(host, strict=False)}") from None
        raise ValueError(_expected(found)) from None


def _expected(found: str) -> str:
    return (
        "expected a host such as api.example.com, *.example.com, api.example.com:8443, 10.0.0.0/8:5432 or [::1]:*, "
        f"got {got(found)}"
    )
