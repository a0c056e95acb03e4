"""The certificate of the TCP port, read again when its files change."""

from __future__ import annotations

import logging
import ssl
import time
from contextlib import suppress
from pathlib import Path

import anyio.to_thread

from ....ipc.errors import Code, ModvisorError
from ...causes import cause
from ...config import TlsConfig

logger = logging.getLogger("modvisor.http")

LOOK_EVERY = 1.0
"""Seconds between two looks at the files. No key of the network file: a look takes microseconds."""

GOODBYE = 1.0
"""Seconds that a client may take to say goodbye; until then its descriptor is in use. No key of the network
file: nothing is lost without the client's goodbye."""

HANDSHAKE = b"\x16"  # the first byte of a client that speaks TLS


class BadCertificate(ModvisorError):
    """The files of `network.tls` cannot be used. The message names the file and the next step."""

    code = Code.START_FAILED


class Certificate:
    """What the TCP port speaks TLS with.

    Attributes:
        context: for new connections.
        cost: seconds of CPU that a handshake takes.
    """

    def __init__(self, config: TlsConfig) -> None:
        """Read the files. Raises `BadCertificate`."""
        self._config = config
        self._seen = self._stamps()
        self.context = context_of(config)
        self.cost = _cost(self.context)
        self._looked = time.monotonic()

    async def look(self) -> None:
        """Read the files again if they have changed. The certificate of before stays if they cannot be used."""
        if time.monotonic() - self._looked < LOOK_EVERY:
            return
        self._looked = time.monotonic()
        stamps = await anyio.to_thread.run_sync(self._stamps)
        if stamps == self._seen:
            return
        self._seen = stamps
        try:
            self.context = await anyio.to_thread.run_sync(context_of, self._config)
        except BadCertificate as error:
            logger.error("the certificate of before stays in use: %s", error)
        else:
            logger.info("new connections get the changed certificate of %s", self._config.cert)

    def _stamps(self) -> list[tuple[int, int, int] | None]:
        return [_stamp(file) for file in (self._config.cert, self._config.key, self._config.client_ca) if file]


def context_of(config: TlsConfig) -> ssl.SSLContext:
    """Return what a server speaks TLS with.

    Raises:
        BadCertificate: a file cannot be used.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    try:
        context.load_cert_chain(config.cert, config.key, password=_no_password)
        if config.client_ca is not None:
            context.load_verify_locations(config.client_ca)
            context.verify_mode = ssl.CERT_REQUIRED if config.client_required else ssl.CERT_OPTIONAL
    except (OSError, ValueError) as error:
        raise BadCertificate(_told(config, error)) from None
    return context


def _no_password() -> str:
    """OpenSSL would ask for it at the terminal."""
    raise ValueError("the key has a password")


def _told(config: TlsConfig, error: Exception) -> str:
    """Say which file is wrong: OpenSSL does not."""
    for name, file in (("cert", config.cert), ("key", config.key), ("client_ca", config.client_ca)):
        if file is not None and (why := _unreadable(file)):
            return f"network.tls.{name}: {file} {why}"
    reason = getattr(error, "reason", None) or str(error)
    if reason == "KEY_VALUES_MISMATCH":
        return f"network.tls: the key in {config.key} is not that of the certificate in {config.cert}"
    if isinstance(error, ValueError):
        return f"network.tls.key: {config.key} has a password; write one without: openssl pkey -in OLD -out NEW"
    return f"network.tls: {config.cert} and {config.key} cannot be used: {reason}; both must be in PEM"


def _unreadable(file: Path) -> str | None:
    try:
        text = file.read_bytes()
    except OSError as error:
        return f"cannot be read: {cause(error, file)}"
    return None if b"-----BEGIN" in text else "is not in PEM (it has no line '-----BEGIN …')"


def _stamp(file: Path) -> tuple[int, int, int] | None:
    try:
        status = file.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino


def _cost(context: ssl.SSLContext) -> float:
    """Measure the server's part of a handshake up to its signature, which is nearly all of it."""
    client_context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client_context.check_hostname, client_context.verify_mode = False, ssl.CERT_NONE
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = client_context.wrap_bio(to_client, to_server)
    server = context.wrap_bio(to_server, to_client, server_side=True)
    _step(client)
    began = time.thread_time()
    _step(server)
    return time.thread_time() - began


def _step(end: ssl.SSLObject) -> None:
    with suppress(ssl.SSLWantReadError):
        end.do_handshake()
