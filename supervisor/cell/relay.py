"""The way out of a mod's network namespace: connects to the hosts that the mod may reach.

The mod sees an HTTP proxy (``HTTPS_PROXY``) that knows ``CONNECT host:port`` alone. The relay looks
the name up, checks name and address (`hosts`), connects to that very address, and passes bytes on.
What it passes on it does not read. The listening socket was made in the mod's namespace, so only the
mod's processes reach it; the relay ends with the worker.

Everything is bounded: connections at once, bytes of a request, bytes that wait in either direction,
and the time to ask, to connect and to be silent. A mod that floods its relay waits for itself.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any

import anyio
import anyio.to_thread

from ...ipc.cell import RELAY_PORT
from ..config import RelayConfig
from ..process import is_shortage
from .hosts import Hosts, IPAddress, Refused, plain, target

logger = logging.getLogger("modvisor.relay")

MAX_HEAD = 8 * 1024
"""Bytes of a request with its headers. Clients send some hundred."""

CHUNK = 64 * 1024
"""Bytes that wait in one direction of a connection, and are passed on in one turn of the loop."""

LOOKUPS = 4
"""Names of one mod that are looked up at once. A lookup takes a thread, and may take long."""

ADDRESSES = 4
"""Addresses of one host that are tried."""

ANNOUNCED = 64
"""Refused hosts of one mod that are named in the log; more are only counted. A mod can make up any number."""

_PAUSE = 0.1  # seconds before the next attempt to accept, when there are no descriptors left

_ESTABLISHED = b"HTTP/1.1 200 Connection established\r\n\r\n"
_REASONS = {400: "Bad Request", 403: "Forbidden", 405: "Method Not Allowed", 502: "Bad Gateway", 504: "Gateway Timeout"}

OnRefused = Callable[[str, str, str], None]


def proxy_environment() -> dict[str, str]:
    """Return the variables that tell a mod's libraries of its relay."""
    proxy, direct = f"http://127.0.0.1:{RELAY_PORT}", "localhost,127.0.0.1,::1"
    return {"HTTPS_PROXY": proxy, "https_proxy": proxy, "NO_PROXY": direct, "no_proxy": direct}


@dataclass(slots=True)
class Traffic:
    """What went through a relay so far."""

    connections: int = 0
    refused: int = 0
    bytes_out: int = 0
    bytes_in: int = 0


class Failed(Exception):
    """A request that gets an answer with this HTTP status, and this text."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


class Relay:
    """Connects one worker with its hosts.

    Args:
        mod_id: the mod's, for the log.
        listener: listens in the worker's network namespace; the relay closes it.
        rules: the hosts, as the config has them.
        limits: bounds of one relay.
        on_refused: called with mod, host and reason for each refused host that the log names.
    """

    def __init__(
        self,
        mod_id: str,
        listener: socket.socket,
        rules: tuple[str, ...],
        limits: RelayConfig,
        on_refused: OnRefused = lambda _mod_id, _where, _why: None,
    ) -> None:
        self.traffic = Traffic()
        self._mod_id = mod_id
        self._listener = listener
        self._hosts = Hosts(rules)
        self._limits = limits
        self._on_refused = on_refused
        self._announced: set[str] = set()
        self._open = asyncio.Semaphore(limits.connections)
        self._lookups = anyio.CapacityLimiter(LOOKUPS)
        self._tasks: set[asyncio.Task[None]] = set()
        listener.setblocking(False)
        self._accepting = self._run(self._accept())

    def close(self) -> None:
        """Close the socket and all connections."""
        for task in self._tasks:
            task.cancel()

    async def closed(self) -> None:
        """Wait until `close` has ended everything."""
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _run(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        with self._listener:
            while True:
                await self._open.acquire()
                try:
                    client, _ = await loop.sock_accept(self._listener)
                except OSError as error:  # it was reset before it was accepted, or there is no descriptor left
                    self._open.release()
                    if is_shortage(error):
                        await asyncio.sleep(_PAUSE)
                    elif error.errno in (errno.EBADF, errno.EINVAL):
                        return
                    continue
                self._run(self._serve(client))

    async def _serve(self, client: socket.socket) -> None:
        try:
            with client:
                client.setblocking(False)
                await self._connect(client)
        except (OSError, TimeoutError) as error:  # one of the ends is gone, or silent for too long
            logger.debug("mod %s: relay: %s", self._mod_id, error)
        finally:
            self._open.release()

    async def _connect(self, client: socket.socket) -> None:
        """Read a request, connect, and pass bytes on until both ends are done."""
        loop = asyncio.get_running_loop()
        host, port = "", 0
        try:
            async with asyncio.timeout(self._limits.connect_timeout):
                line, rest = await _request(client)
                host, port = _asked(line)
                far = await self._reach(host, port)
        except Refused as error:
            self._refuse(f"{host}:{port}", str(error))
            return await loop.sock_sendall(client, _answer(403, f"{host}: {error}"))
        except Failed as error:
            return await loop.sock_sendall(client, _answer(error.status, str(error)))
        except TimeoutError:
            text = f"{host or 'the request'} took longer than {self._limits.connect_timeout:g} s"
            return await loop.sock_sendall(client, _answer(504, text))
        self.traffic.connections += 1
        logger.debug("mod %s: relay: connected to %s:%d", self._mod_id, host, port)
        with far:
            await loop.sock_sendall(far, rest)
            await loop.sock_sendall(client, _ESTABLISHED)
            await self._pass_on(client, far)

    # -- connecting

    async def _reach(self, host: str, port: int) -> socket.socket:
        """Return a connection with the host; raise `Refused`, `Failed`."""
        known = self._hosts.check_name(host, port)
        addresses = [known] if known is not None else await self._addresses(host)
        for address in addresses:  # all are checked before one is tried: a name is listed whole or not at all
            self._hosts.check_address(address, port)
        last: OSError | None = None
        for address in addresses[:ADDRESSES]:
            try:
                return await self._connected(address, port)
            except OSError as error:
                last = error
        raise Failed(502, f"cannot connect to {host}:{port}: {last.strerror if last else 'it has no address'}")

    async def _addresses(self, host: str) -> list[IPAddress]:
        try:
            found = await anyio.to_thread.run_sync(_look_up, host, limiter=self._lookups, abandon_on_cancel=True)
        except (OSError, UnicodeError) as error:
            raise Failed(502, f"{host} is not known: {error}") from None
        return list(dict.fromkeys(plain(ip_address(address.partition("%")[0])) for address in found))

    async def _connected(self, address: IPAddress, port: int) -> socket.socket:
        family = socket.AF_INET if address.version == 4 else socket.AF_INET6
        far = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
        try:
            await asyncio.get_running_loop().sock_connect(far, (str(address), port))
            if far.getsockname()[0] == far.getpeername()[0]:
                self._hosts.check_own(address, port)
        except BaseException:
            far.close()
            raise
        return far

    def _refuse(self, where: str, why: str) -> None:
        self.traffic.refused += 1
        if where not in self._announced and len(self._announced) < ANNOUNCED:
            self._announced.add(where)
            logger.warning("mod %s may not connect to %s: %s (see 'sandbox.network')", self._mod_id, where, why)
            self._on_refused(self._mod_id, where, why)

    # -- passing on

    async def _pass_on(self, client: socket.socket, far: socket.socket) -> None:
        """Pass bytes on in both directions; raise TimeoutError when both are silent for too long."""
        loop, silence = asyncio.get_running_loop(), self._limits.idle_timeout
        async with asyncio.timeout(silence) as idle:

            async def one_way(source: socket.socket, goal: socket.socket, count: Callable[[int], None]) -> None:
                buffer = bytearray(CHUNK)
                view = memoryview(buffer)
                while size := await loop.sock_recv_into(source, buffer):
                    await loop.sock_sendall(goal, view[:size])
                    count(size)
                    idle.reschedule(loop.time() + silence)
                with suppress(OSError):
                    goal.shutdown(socket.SHUT_WR)

            async with asyncio.TaskGroup() as both:
                both.create_task(one_way(client, far, self._count_out))
                both.create_task(one_way(far, client, self._count_in))

    def _count_out(self, size: int) -> None:
        self.traffic.bytes_out += size

    def _count_in(self, size: int) -> None:
        self.traffic.bytes_in += size


async def _request(client: socket.socket) -> tuple[bytes, bytes]:
    """Return the first line of a request, and what came after its headers; raise `Failed`."""
    loop, head = asyncio.get_running_loop(), b""
    while (end := head.find(b"\r\n\r\n")) < 0 and len(head) <= MAX_HEAD:
        data = await loop.sock_recv(client, MAX_HEAD)
        if not data:
            raise OSError(errno.ECONNRESET, "closed within a request")
        head += data
    if not 0 <= end <= MAX_HEAD:
        raise Failed(400, f"the request has more than {MAX_HEAD} bytes")
    lines, _, rest = head.partition(b"\r\n\r\n")
    return lines.split(b"\r\n", 1)[0], rest


def _asked(line: bytes) -> tuple[str, int]:
    """Return host and port; raise `Failed`."""
    words = line.decode("latin-1").split(" ")
    if words[0] != "CONNECT":
        raise Failed(405, "only CONNECT host:port is known here: use https")
    try:
        if len(words) != 3 or not words[2].startswith("HTTP/1."):
            raise ValueError("expected CONNECT host:port HTTP/1.1")
        return target(words[1])
    except ValueError as error:
        raise Failed(400, str(error)) from None


def _answer(status: int, text: str) -> bytes:
    body = f"modvisor: {text}\n".encode()
    head = f"HTTP/1.1 {status} {_REASONS[status]}\r\nContent-Type: text/plain; charset=utf-8\r\n"
    return f"{head}Content-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode() + body


def _look_up(host: str) -> list[str]:
    return [str(found[4][0]) for found in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)]
