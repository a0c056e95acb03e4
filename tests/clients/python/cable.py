"""A cable between a client and its network: real sockets, which tests cut, or let no byte through."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

import anyio
from anyio.abc import ByteStream, SocketAttribute, SocketStream


class Cable:
    """Passes bytes on between a port of its own and the network's.

    Attributes:
        tries: how many connections were asked for.
        plugged: how many connections were made over it.
        passed: how many pieces went through, in both directions.
    """

    def __init__(self, port: int) -> None:
        self.target = port
        self.port = 0
        self.tries = self.plugged = self.passed = 0
        self._flows, self._answers_flow = anyio.Event(), anyio.Event()
        self.let_go()
        self._ends: set[ByteStream] = set()

    async def _plug_in(self, near: SocketStream) -> None:
        self.tries += 1
        try:
            far = await anyio.connect_tcp("127.0.0.1", self.target)
        except OSError:
            await anyio.aclose_forcefully(near)
            return
        self.plugged += 1
        self._ends |= {near, far}
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._pass_on, near, far, lambda: self._flows)
            tasks.start_soon(self._pass_on, far, near, lambda: self._answers_flow)
        self._ends -= {near, far}

    async def _pass_on(self, source: ByteStream, sink: ByteStream, flows: Callable[[], anyio.Event]) -> None:
        with suppress(anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError):
            while True:
                data = await source.receive()
                await flows().wait()
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
        self._flows = self._answers_flow = anyio.Event()

    def hold_answers(self) -> None:
        """Let nothing through that the network says; connections stand."""
        self._answers_flow = anyio.Event()

    def let_go(self) -> None:
        self._flows.set()
        self._answers_flow.set()


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
