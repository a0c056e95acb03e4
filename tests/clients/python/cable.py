"""A cable between a client and its network: real sockets, which tests cut, or let no byte through."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import anyio
from anyio.abc import ByteStream, SocketAttribute, SocketStream


class Cable:
    """Passes bytes on between a port of its own and the network's.

    Attributes:
        plugged: how many connections were made over it.
        passed: how many pieces went through, in both directions.
    """

    def __init__(self, port: int) -> None:
        self.target = port
        self.port = 0
        self.plugged = self.passed = 0
        self._flows = anyio.Event()
        self._flows.set()
        self._ends: set[ByteStream] = set()

    async def _plug_in(self, near: SocketStream) -> None:
        try:
            far = await anyio.connect_tcp("127.0.0.1", self.target)
        except OSError:
            await anyio.aclose_forcefully(near)
            return
        self.plugged += 1
        self._ends |= {near, far}
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._pass_on, near, far)
            tasks.start_soon(self._pass_on, far, near)
        self._ends -= {near, far}

    async def _pass_on(self, source: ByteStream, sink: ByteStream) -> None:
        with suppress(anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError):
            while True:
                data = await source.receive()
                await self._flows.wait()
                await sink.send(data)
                self.passed += 1
        await anyio.aclose_forcefully(sink)
        await anyio.aclose_forcefully(source)

    async def cut(self) -> None:
        """Break all connections; new ones go through."""
        for end in list(self._ends):
            await anyio.aclose_forcefully(end)

    def hold(self) -> None:
        """Let nothing through any more; connections stand."""
        self._flows = anyio.Event()

    def let_go(self) -> None:
        self._flows.set()


@asynccontextmanager
async def cable_to(port: int) -> AsyncIterator[Cable]:
    cable = Cable(port)
    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    cable.port = listener.extra(SocketAttribute.local_port)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, cable._plug_in)
        yield cable
        tasks.cancel_scope.cancel()
    await listener.aclose()
