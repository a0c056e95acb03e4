"""A running network's admin API, over its unix socket or HTTP."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import struct
from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from ..terminal.exits import CliError, ExitCode, request_failed, request_refused
from .exchange import Answer, Broken, exchange
from .target import Target

PREFIX = "/admin/v1"
CONNECT_TIMEOUT = 5.0  # seconds
ANSWER_TIMEOUT = 30.0  # seconds, for requests that the supervisor answers from memory
TAKE_LONG = ("/mods", "/reconfigure", "/backup")  # paths of requests that tell how far they are
AS_LONG_AS_IT_TAKES = None  # for requests that wait for a mod: the network has its own deadlines
MAX_SOCKET_PATH = 107  # bytes a unix socket's address holds, without the final NUL
NEW_TOKEN = "A lost one cannot be shown again; make a new one on its machine: modvisor token create NAME --scope SCOPE"
MAX_LINE = 64 * 1024 * 1024  # bytes of one streamed JSON line; an event is far smaller


class Client:
    """Asks one network, over a connection per request: the server closes idle ones, and a unix socket opens at once.

    Attributes:
        waiting: what a person sees while a request takes as long as it takes; None: nothing.
    """

    def __init__(self, target: Target) -> None:
        self.target = target
        self.waiting: Callable[[Client], AbstractContextManager[None]] | None = None

    def get(self, path: str, *, timeout: float | None = ANSWER_TIMEOUT, **query: Any) -> Any:
        return self.request("GET", path, query=query, timeout=timeout)

    def post(self, path: str, body: Any = None, *, timeout: float | None = AS_LONG_AS_IT_TAKES) -> Any:
        return self.request("POST", path, body=body, timeout=timeout)

    def request(
        self,
        method: str,
        path: str,
        *,
        query: dict[str, Any] | None = None,
        body: Any = None,
        timeout: float | None = AS_LONG_AS_IT_TAKES,
    ) -> Any:
        """Send a request and return the decoded answer.

        Raises:
            CliError: NO_NETWORK, NOT_ALLOWED, NO_ANSWER, or FAILED when the answer is a failure.
        """
        takes_long = timeout is None and path.startswith(TAKE_LONG)
        shown = self.waiting(self) if self.waiting is not None and takes_long else nullcontext()
        with shown, self._exchange(method, path, query, body, timeout) as answer:
            document = self._decode(answer.read())
        if isinstance(document, dict) and document.get("success") is False:
            raise request_failed(document)
        return document

    def stream(
        self,
        path: str,
        *,
        timeout: float | None = None,
        on_connected: Callable[[socket.socket], None] = lambda _: None,
        **query: Any,
    ) -> Generator[dict[str, Any], None, None]:
        """Yield the JSON lines of an endless answer as they arrive. Raises `CliError` as `request` does.

        Args:
            timeout: seconds without a byte after which the network counts as hanging; None: it may be silent.
            on_connected: called with the connection; shutting that down from another thread ends the answer.
        """
        with self._exchange("GET", path, query, None, timeout, on_connected) as answer:
            for line in _lines(answer):
                if line.strip():
                    yield self._decode(line)

    @contextlib.contextmanager
    def _exchange(
        self,
        method: str,
        path: str,
        query: dict[str, Any] | None,
        body: Any,
        timeout: float | None,
        on_connected: Callable[[socket.socket], None] = lambda _: None,
    ) -> Iterator[Answer]:
        with self._connect() as connection, self._explained(timeout):
            connection.settimeout(timeout)
            on_connected(connection)
            answer = exchange(connection, method, self._target_path(path, query), self._headers(), _encode(body))
            if answer.status >= 400:
                raise self._refused(answer.status, answer.read())
            yield answer

    def _connect(self) -> socket.socket:
        try:
            return _connected(self.target)
        except FileNotFoundError:
            raise self._no_network(f"no socket at {self.target.socket}") from None
        except ConnectionRefusedError:
            raise self._no_network(f"nobody listens at {self.target.url or self.target.socket}") from None
        except PermissionError:
            raise CliError(
                ExitCode.NOT_ALLOWED, f"{self.target.socket} belongs to another user; run this as the network's user"
            ) from None
        except OSError as error:
            where = self.target.url or self.target.socket
            raise self._no_network(f"{where}: {error.strerror or error}") from None

    @contextlib.contextmanager
    def _explained(self, timeout: float | None) -> Iterator[None]:
        """Turn a network that goes away or hangs during an exchange into a `CliError`."""
        try:
            yield
        except TimeoutError:
            raise CliError(
                ExitCode.NO_ANSWER, f"the network of {self.target} did not answer within {timeout:g} seconds"
            ) from None
        except (ConnectionError, Broken) as error:
            raise CliError(
                ExitCode.NO_ANSWER, f"the network of {self.target} went away before it had answered ({error!r})"
            ) from None

    def _no_network(self, why: str) -> CliError:
        return CliError(ExitCode.NO_NETWORK, f"no network is running for {self.target} ({why}); {self.target.start}")

    def _refused(self, status: int, body: bytes) -> CliError:
        try:
            document = json.loads(body)
        except ValueError:
            document = None
        if not isinstance(document, dict) or document.get("success") is not False:
            text = body.decode("utf-8", "replace").strip()
            return CliError(ExitCode.FAILED, f"{self.target} answered HTTP {status}: {text[:500] or 'nothing more'}")
        if status == 401:
            hint = f"{self.target} wants an operator's token: give --token or MODVISOR_TOKEN. {NEW_TOKEN}"
            return CliError(ExitCode.NOT_ALLOWED, hint, document)
        if self.target.url and "routes" in (document.get("data") or {}):
            hint = f"{self.target} serves operators only with a token, and has none. {NEW_TOKEN}"
            return CliError(ExitCode.NOT_ALLOWED, hint, document)
        return request_refused(document)

    def _decode(self, body: bytes) -> Any:
        try:
            return json.loads(body)
        except ValueError:
            raise CliError(
                ExitCode.FAILED, f"{self.target} answered with something else than JSON; is it a modvisor network?"
            ) from None

    def _target_path(self, path: str, query: dict[str, Any] | None) -> str:
        base = urlsplit(self.target.url).path if self.target.url else ""
        given = {name: value for name, value in (query or {}).items() if value is not None}
        return f"{base}{PREFIX}{path}" + (f"?{urlencode(given)}" if given else "")

    def _headers(self) -> dict[str, str]:
        headers = {"Host": _host(self.target), "Connection": "close"}
        headers |= {"Content-Type": "application/json", "Accept": "application/json"}
        return headers | ({"Authorization": f"Bearer {self.target.token}"} if self.target.token else {})


def _lines(answer: Answer) -> Iterator[bytes]:
    held = b""
    for data in answer.body:
        *lines, held = (held + data).split(b"\n")
        yield from lines
        if len(held) > MAX_LINE:
            raise Broken(f"a line longer than {MAX_LINE} bytes")
    yield held


def segment(text: str) -> str:
    """Quote ``text`` as one part of a path: a mod may be named by its mod_path."""
    return quote(text, safe="")


def peer_pid(path: Path) -> int | None:
    """Return the pid of the process that listens on a unix socket; None where the kernel does not tell."""
    if not hasattr(socket, "SO_PEERCRED"):
        return None
    try:
        with connect_unix(path) as peer:
            pid, _, _ = struct.unpack("3i", peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    except OSError:
        return None
    return pid or None  # 0: the process lives in another process namespace


def connect_unix(path: Path) -> socket.socket:
    """Connect to a unix socket; a path too long for an address is reached through its folder's descriptor."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.settimeout(CONNECT_TIMEOUT)
    try:
        if len(os.fsencode(path)) <= MAX_SOCKET_PATH:
            connection.connect(os.fspath(path))
        else:
            _connect_below(connection, path)
    except BaseException:
        connection.close()
        raise
    return connection


def _connect_below(connection: socket.socket, path: Path) -> None:
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        connection.connect(f"/proc/self/fd/{folder}/{path.name}")
    finally:
        os.close(folder)


def _connected(target: Target) -> socket.socket:
    if target.url is None:
        assert target.socket is not None
        return connect_unix(target.socket)
    parts = urlsplit(target.url)
    assert parts.hostname is not None
    is_secure = parts.scheme == "https"
    connection = socket.create_connection((parts.hostname, parts.port or (443 if is_secure else 80)), CONNECT_TIMEOUT)
    return _secured(connection, parts.hostname) if is_secure else connection


def _secured(connection: socket.socket, host: str) -> socket.socket:
    import ssl  # 6 ms, which commands over the socket do not have to wait for

    try:
        return ssl.create_default_context().wrap_socket(connection, server_hostname=host)
    except BaseException:
        connection.close()
        raise


def _host(target: Target) -> str:
    """Return the value of the header; a name in other letters as DNS has it."""
    if target.url is None:
        return "localhost"
    return urlsplit(target.url).netloc.rpartition("@")[2].encode("idna").decode()


def _encode(body: Any) -> bytes | None:
    return None if body is None else json.dumps(body).encode("ascii")
