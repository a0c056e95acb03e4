"""The URL of a network's port, as somebody on its machine opens it. Pure."""

from __future__ import annotations

from ipaddress import ip_address


def port_url(host: str, port: int, *, tls: bool) -> str:
    """Return the URL of a port on ``host``: a network that listens on every address is reached by loopback."""
    return f"{'https' if tls else 'http'}://{_reached(host)}:{port}"


def listens_everywhere(host: str) -> bool:
    """Whether ``host`` stands for every address of the machine."""
    try:
        return ip_address(host).is_unspecified
    except ValueError:
        return False


def _reached(host: str) -> str:
    try:
        address = ip_address(host)
    except ValueError:
        return host
    if address.is_unspecified:
        return "127.0.0.1" if address.version == 4 else "[::1]"
    return host if address.version == 4 else f"[{host}]"
