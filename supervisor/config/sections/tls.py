"""What the network file says of TLS, and which addresses need it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..values.basic import absolute_path, flag, or_null, read_keys
from ..values.keys import key as setting
from ..values.keys import keys_of, readers_of, schema_of
from ..values.reader import Location, Reader
from ..values.schema_parts import nullable
from ..values.token_strength import is_open
from ..yaml.source import BROKEN


@dataclass(frozen=True, slots=True)
class TlsConfig:
    """The certificate of the TCP port. Changed files are read again within seconds."""

    cert: Path = setting(
        Path(), absolute_path, "the certificate in PEM, with those between it and its CA", shown="required"
    )
    key: Path = setting(
        Path(), absolute_path, "the private key of the certificate in PEM, without a password", shown="required"
    )
    client_ca: Path | None = setting(
        None, or_null(absolute_path), "certificates in PEM; a client's certificate must be signed by one of them"
    )
    client_required: bool = setting(
        False, flag, "true: a client without a certificate of `client_ca` is not let in; false: it may have none"
    )


_TABLE = readers_of(TlsConfig)


def _tls(value: Any, at: Location) -> Any:
    if value is None:
        return None
    found = read_keys(value, at, _TABLE)
    if not isinstance(value, dict):
        return BROKEN
    for needed in ("cert", "key"):
        if needed not in value:
            (at / needed).wrong("the key is missing; name a file in PEM")
    if found.get("client_required") and "client_ca" not in value:
        (at / "client_ca").wrong("the key is missing; 'client_required' needs to know who signs clients' certificates")
    return TlsConfig(**found)


tls_section = Reader("mapping, or null", _tls, schema=lambda: nullable(schema_of(keys_of(TlsConfig))))


def bare_bind(host: str, tls: TlsConfig | None, insecure: bool) -> str | None:
    """Return why a network must not listen on an address as it is; None if it may."""
    if tls is not None or insecure or not is_open(host):
        return None
    return (
        f"other machines can reach {host}, and without TLS anybody on the way reads secrets and events; give "
        "'network.tls' a certificate, listen on 127.0.0.1 behind a proxy that has one, or accept it with "
        "'network.insecure: true'"
    )
