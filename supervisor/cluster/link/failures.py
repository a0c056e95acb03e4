"""Which failure of nats-py is which of ours, and what to do about it."""

from __future__ import annotations

import ssl

from nats import errors as nats
from nats.js import errors as js

from ...config import ClusterConfig
from .errors import (
    ClusterError,
    Gone,
    JetStreamOff,
    NoQuorum,
    NotNats,
    OutOfSpace,
    TlsFailed,
    TooLarge,
    Unreachable,
    WrongCredentials,
)

_WRONG_SEQUENCE = (10071, 10164)
_OFF = (10039, 10076)
_NO_LEADER = (10008, 10009, 10118)
_NO_STREAM = 10059
_FULL = (10002, 10023, 10028, 10047, 10077)
_TOO_LARGE = (10054, 10097)
"""Numbers of JetStream's errors (`err_code`; server/errors.json of nats-server)."""


_ENDINGS = (ConnectionResetError, ConnectionAbortedError, BrokenPipeError, nats.UnexpectedEOF)
"""What the end of a connection looks like, depending on how far it had come."""


def of_connecting(error: BaseException, url: str, config: ClusterConfig) -> ClusterError:
    """Return what a failed attempt to connect to a server means."""
    text = str(error).removeprefix("nats: ").strip("'\" ")
    lower = text.lower()
    if isinstance(error, nats.SecureConnWantedError) or "secure connection" in lower:
        return TlsFailed(
            f"the NATS server {url} does not ask for TLS, but 'cluster.tls' is set or its URL begins with "
            "tls://; switch TLS on at the server, or take it out of the file"
        )
    if isinstance(error, ssl.SSLError):
        return TlsFailed(f"no TLS with the NATS server {url}: {_tls_text(error)}; check 'cluster.tls'{_ca(config)}")
    if config.tls is not None and (isinstance(error, _ENDINGS) or lower == "connection lost"):
        return TlsFailed(
            f"no TLS with the NATS server {url}: it ended the connection; if it asks for a certificate ('verify: true'), "
            "set 'cluster.tls.cert' and 'cluster.tls.key' to one that it trusts"
        )
    if type(error).__module__.startswith(("nkeys", "binascii", "nacl")):
        return WrongCredentials(
            f"cannot use {_way_in(config)}: {error or type(error).__name__}; expected what nsc or nk made"
        )
    if "authorization" in lower or "authentication" in lower or "nkey" in lower or "user jwt" in lower:
        return WrongCredentials(
            f"the NATS server {url} refused {_way_in(config)}: {text}; check it against the users "
            "in the server's configuration"
        )
    if isinstance(error, nats.Error) and ("info message" in lower or "protocol" in lower):
        return NotNats(
            f"what answers at {url} is not a NATS server; check the address and the port in 'cluster.servers'"
        )
    return Unreachable(f"no NATS server answers at {url}: {_plain(error, text)}")


def _tls_text(error: ssl.SSLError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate was refused ({error.verify_message})"
    return f"{error.reason or error}".lower().replace("_", " ")


def _ca(config: ClusterConfig) -> str:
    ca = config.tls.ca if config.tls is not None else None
    return f" (certificates that are trusted: {ca or 'those of the system'})"


def _way_in(config: ClusterConfig) -> str:
    if config.credentials is not None:
        return f"the credentials of 'cluster.credentials' ({config.credentials})"
    if config.nkey is not None:
        return f"the key of 'cluster.nkey' ({config.nkey})"
    if config.user is not None:
        return f"the user {config.user!r} of 'cluster.user'"
    return "a node without credentials ('cluster.credentials', 'cluster.nkey' and 'cluster.user' are not set)"


def _plain(error: BaseException, text: str) -> str:
    if isinstance(error, TimeoutError):
        return "timed out"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return text or type(error).__name__


def is_taken(error: Exception) -> bool:
    """Return whether a write failed since somebody else wrote first."""
    return isinstance(error, js.APIError) and error.err_code in _WRONG_SEQUENCE


def of_jetstream(error: Exception, what: str) -> ClusterError:
    """Return what a failed request to JetStream means.

    Args:
        what: what was asked for, such as "write the key 'a' of the bucket MV_net_nodes".
    """
    number = getattr(error, "err_code", None)
    said = getattr(error, "description", None) or str(error)
    if isinstance(error, ClusterError):
        return error
    if isinstance(error, TimeoutError):  # asyncio's is the same class
        return NoQuorum(
            f"could not {what}: the NATS servers did not answer in time; more than half of them must be up "
            "and reach each other ('cluster.timeout' is how long a request may take)"
        )
    if number in _OFF or (isinstance(error, js.ServiceUnavailableError) and number is None):
        return JetStreamOff(
            f"could not {what}: JetStream is off at the NATS servers or for this account; put "
            "'jetstream { store_dir: /var/lib/nats }' into the servers' configuration"
        )
    if number in _NO_LEADER:
        return NoQuorum(f"could not {what}: JetStream has no leader ({said}); more than half of the servers must be up")
    if number == _NO_STREAM or isinstance(error, js.NotFoundError):
        return Gone(
            f"could not {what}: it is gone, somebody deleted it; restart one node, which makes it again, without "
            "what was in it"
        )
    if number in _FULL or "no space" in said or "maximum bytes" in said or "insufficient" in said:
        return OutOfSpace(
            f"could not {what}: JetStream is out of space ({said}); free disk or raise 'max_file_store' of "
            "the servers, or the limits of the account"
        )
    if number in _TOO_LARGE or isinstance(error, nats.MaxPayloadError):
        return TooLarge(f"could not {what}: it is larger than the servers take ({said}); raise their 'max_payload'")
    return ClusterError(f"could not {what}: {said}")
