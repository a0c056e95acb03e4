"""One end of a pipe in a test."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

from modvisor.ipc.errors import ModvisorError
from modvisor.ipc.messages import Notification, Request
from modvisor.ipc.pipe import Pipe


class Peer:
    """One end: answers requests by their method, and remembers notifications."""

    def __init__(self, sock: socket.socket, **caps: Any) -> None:
        self.notes: list[Notification] = []
        self.ended: asyncio.Future[ModvisorError] = asyncio.get_running_loop().create_future()
        self.unanswered: asyncio.Queue[Request] = asyncio.Queue()
        self.pipe = Pipe(
            sock, on_request=self.take, on_notification=self.notes.append, on_close=self.ended.set_result, **caps
        )

    def take(self, request: Request) -> None:
        match request.method:
            case "echo":
                self.pipe.respond(request.id, request.params)
            case "fail":
                self.pipe.refuse(request.id, "no_such_mod", "none of that name", {"mod": "x", "message": "hidden"})
            case _:
                self.unanswered.put_nowait(request)
