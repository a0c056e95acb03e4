"""Readers of what is written of the network's neighbours: IP addresses, host names, web origins."""

from __future__ import annotations

import re
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Any
from urllib.parse import urlsplit

from ..yaml.source import BROKEN
from .basic import text
from .reader import Location, got, reader

IPNetwork = IPv4Network | IPv6Network

_LABEL = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
_HOST = re.compile(rf"(?:\*\.)?{_LABEL}(?:\.{_LABEL})*", re.IGNORECASE)
_WEB = ("http", "https")


@reader("IP address", "string")
def ip_addresses(value: Any, at: Location) -> Any:
    """Read one IP address, or the addresses that a prefix such as ``10.0.0.0/8`` names."""
    found = text(value, at)
    if found is BROKEN:
        return BROKEN
    try:
        return ip_network(found)
    except ValueError as error:
        if str(error).endswith("has host bits set"):
            return at.wrong(f"{found} is an address within a network; write {ip_network(found, strict=False)}")
        return at.wrong(f"expected an address such as 10.0.0.5 or a prefix such as 10.0.0.0/8, got {got(found)}")


@reader("host name", "string")
def host_name(value: Any, at: Location) -> Any:
    """Read a host name; ``*.example.com`` is every name below example.com, ``*`` every name."""
    found = text(value, at)
    if found is BROKEN:
        return BROKEN
    if is_host_name(found):
        return found.lower()
    return at.wrong(f"expected a host name without port, such as agents.example.com or *.example.com, got {got(found)}")


def is_host_name(found: str) -> bool:
    """Return whether it is a name, or a pattern of names, as `host_name` reads it."""
    return found == "*" or (_HOST.fullmatch(found) is not None and len(found) <= 253)


@reader("web origin", "string")
def web_origin(value: Any, at: Location) -> Any:
    """Read the origin of web pages: scheme, host, and port unless it is the scheme's own."""
    found = text(value, at)
    if found is BROKEN:
        return BROKEN
    try:
        parts = urlsplit(found)
        is_origin = parts.scheme in _WEB and parts.hostname and found == f"{parts.scheme}://{parts.netloc}"
        is_origin = is_origin and "@" not in parts.netloc and (parts.port is None or parts.port > 0)
    except ValueError:  # a port that is no number
        is_origin = False
    if not is_origin:
        return at.wrong(f"expected an origin such as https://app.example.com, without a path, got {got(found)}")
    return found.lower()
