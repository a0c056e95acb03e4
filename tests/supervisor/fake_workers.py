"""Workers that are not processes: they live in the loop of the test and do what they are told.

They speak the real protocol over a real socket pair. A keeper sees of them what it sees of
processes: a pipe, output, a stack dump, an exit.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from modvisor.ipc import messages
from modvisor.ipc.errors import Code, ModvisorError
from modvisor.ipc.messages import Hello, Notification, Request
from modvisor.ipc.pipe import Pipe
from modvisor.supervisor.process.launch import Launch
from modvisor.supervisor.process.process import DumpFile, Exit, WorkerProcess

STARTS = (
    "refused", "slow launch", "exits", "mute", "stranger", "import fails", "imports forever", "slow import", "dies importing",
    "no manifest", "activate fails", "activates forever", "slow activate", "dies activating", "no snapshot",
    "closes pipe when active", "dies when active",
)  # fmt: skip
"""Faults of the next start. A slow one takes `SLOW` seconds and serves."""

SLOW = 0.4
FIRST_PID = 10_000_001  # above what a kernel gives to processes

DEADLY = ("poison", "poison cleanly", "poison later", "spin", "garbage", "close pipe", "nest poison")
"""What a handler may do that ends its process each time."""

HARMLESS = ("answer", "pass", "raise", "slow", "nest", "answer and die once")

_GARBAGE = b"\x00\x00\x00\x03\xc1\xc1\xc1"
_MANIFEST = {
    "mod_class": "work.mod:Work",
    "version": "1.0",
    "description": "",
    "patterns": ["work.*"],
    "file": "/mod.py",
}


@dataclass
class Conduct:
    """How the workers of one mod behave from now on."""

    starts: deque[str] = field(default_factory=deque)  # of `STARTS`, for each of the next starts
    hand_over: str = "answers"  # get_state: or refuses, hangs, dies
    shutdown: str = "ends"  # or hangs, dies, fails
    heeds_sigterm: bool = True
    heeds_cancel: bool = True  # else a handler goes on, as one in a thread does
    exit_lag: float = 0.0  # seconds from the end of a worker until its supervisor is told
    holds_pipe: bool = False  # something it started keeps its end of the pipe open
    observes: bool = False
    resumable: bool = False  # it can be activated again after a deactivate
    side_by_side: bool = False  # two of them may handle events at once


@dataclass
class Handling:
    """One event in a handler."""

    event: dict[str, Any]
    began: float

    @property
    def id(self) -> str:
        return self.event["event_id"]

    @property
    def attempt(self) -> int:
        return self.event.get("attempt", 1)

    @property
    def nested(self) -> bool:
        return "cause" in self.event


class FakeProcess(WorkerProcess):
    """The supervisor's side of a fake worker."""

    def __init__(self, worker: FakeWorker, sock: socket.socket, output: int, launch: Launch) -> None:
        super().__init__(worker.pid, sock, output, DumpFile(), launch)
        self.worker = worker

    def kill(self, signum: int = signal.SIGKILL, *, cgroup: str | None = None) -> None:
        if not self.exited.done():
            self.worker.signalled(signum)

    def dump_stacks(self) -> None:
        if self._dump is not None:
            os.pwrite(self._dump.fd, b"Current thread 0x1:\n", 0)

    def stopped_by(self) -> str | None:
        return None  # its pid is none of this system

    def ended(self, exit: Exit) -> None:
        self._finish(exit)


class FakeWorker:
    """The far end of the pipe. It notes what it does with its `FakeLauncher`."""

    def __init__(self, launcher: FakeLauncher, pid: int, sock: socket.socket, output: int, fault: str) -> None:
        self.launcher = launcher
        self.conduct = launcher.conduct
        self.pid = pid
        self.fault = fault
        self.alive = True
        self._awake = asyncio.Event()  # cleared while it hangs
        self._awake.set()
        self.faults: set[str] = set()  # what it did for which a supervisor may end it
        self.ended_by: str | None = None  # an event's id, "outside" or "the supervisor"
        self.ended_at: float | None = None  # when its supervisor was told
        self.active_since: float | None = None
        self.handling: dict[int, Handling] = {}
        self._loop = asyncio.get_running_loop()
        self._output = output
        self._waiting: list[Request | Notification] = []  # unread, while it hangs
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._held: int | None = None
        self._sock = sock
        self.pipe = Pipe(
            sock, on_request=self._take, on_notification=self._take, on_close=lambda _reason: self._end_of_pipe()
        )
        self.process: FakeProcess

    # -- what is done to it

    def run(self) -> None:
        """Say hello, unless its fault is another one."""
        if self.fault == "exits":
            self.die(Exit(1, None))
        elif self.fault != "mute":
            protocol = 99 if self.fault == "stranger" else messages.PROTOCOL
            self.pipe.notify(messages.HELLO, Hello(protocol, self.pid, "3.11", "0").to_dict())

    def signalled(self, signum: int) -> None:
        if self.alive and (signum == signal.SIGKILL or (signum == signal.SIGTERM and self.conduct.heeds_sigterm)):
            self.launcher.on_signal(self, signum)
            self.die(Exit(None, signum), by="the supervisor")

    def die(self, exit: Exit, by: str = "outside") -> None:
        """End. The supervisor notices when the pipe closes, and when it is told of the exit."""
        if not self.alive:
            return
        self.alive, self.ended_by = False, by
        self.launcher.on_death(self)
        if self.conduct.holds_pipe and self.pipe.closed is None:
            self._held = os.dup(self._sock.fileno())
        self.pipe.close()
        os.close(self._output)
        for task in list(self._tasks.values()):
            task.cancel()
        self.handling.clear()
        self._loop.call_later(self.conduct.exit_lag, self._told, exit)

    def _told(self, exit: Exit) -> None:
        self.ended_at = self._loop.time()
        self.launcher.on_exit(self)
        self.process.ended(exit)

    def hang(self) -> None:
        self._awake.clear()
        self.faults.add("hung")

    def wake(self) -> None:
        """Go on after `hang`, with what came meanwhile."""
        self._awake.set()
        waiting, self._waiting = self._waiting, []
        for message in waiting:
            self._take(message)

    def close_pipe(self) -> None:
        """Close the pipe and live on."""
        self.faults.add("closed its pipe")
        self.pipe.close()

    def send_garbage(self) -> None:
        if self.alive and self.pipe.closed is None:
            self.faults.add("sent garbage")
            with suppress(BlockingIOError, OSError):
                self._sock.send(_GARBAGE)

    def let_go(self) -> None:
        """End what held the pipe open."""
        if self._held is not None:
            os.close(self._held)
            self._held = None

    # -- what it does

    def _end_of_pipe(self) -> None:
        """End half a second after the supervisor has gone."""
        if self.alive and "closed its pipe" not in self.faults:
            self._loop.call_later(0.5, self.die, Exit(0, None))

    def _take(self, message: Request | Notification) -> None:
        if not self.alive:
            return
        if not self._awake.is_set():
            self._waiting.append(message)
        elif isinstance(message, Notification):
            self._note(message)
        else:
            self._begin(message)

    def _note(self, note: Notification) -> None:
        if note.method == messages.CANCEL and self.conduct.heeds_cancel:
            request_id = note.params["id"]
            self.handling.pop(request_id, None)
            if (task := self._tasks.get(request_id)) is not None:
                task.cancel()

    def _begin(self, request: Request) -> None:
        if request.method == messages.EVENT:
            handling = self.handling[request.id] = Handling(request.params["event"], self._loop.time())
            self.launcher.on_event(self, handling)
        task = self._tasks[request.id] = self._loop.create_task(self._serve(request))
        task.add_done_callback(lambda _: self._done(request.id))

    def _done(self, request_id: int) -> None:
        self._tasks.pop(request_id, None)
        self.handling.pop(request_id, None)

    async def _serve(self, request: Request) -> None:
        try:
            result = await self._answer_to(request)
            await self._awake.wait()
        except asyncio.CancelledError:
            self._refuse(request, Code.TIMEOUT, "cancelled")
        except ModvisorError as error:
            self._refuse(request, error.code, str(error))
        else:
            if self.alive:
                self.handling.pop(request.id, None)
                self.pipe.respond(request.id, result)
                if request.method == messages.ACTIVATE:
                    self._go_wrong()
                if request.method == messages.SHUTDOWN:
                    await self.pipe.flush()
                    self.die(Exit(0, None), by="the supervisor")

    def _refuse(self, request: Request, code: str, text: str) -> None:
        self.handling.pop(request.id, None)
        if self.alive:
            self.pipe.refuse(request.id, code, text)

    async def _answer_to(self, request: Request) -> Any:
        params = request.params or {}
        match request.method:
            case messages.LOAD:
                return await self._load()
            case messages.ACTIVATE:
                await self._activate()
            case messages.EVENT:
                return await self._handle(request.id, params["event"])
            case messages.OBSERVE | messages.NOTIFY:
                await asyncio.sleep(0)
                return {"failed": 0}
            case messages.GET_STATE:
                await self._fail_as(self.conduct.hand_over)
                return {"state": {"of": self.pid}, "version": "1.0"}
            case messages.SNAPSHOT:
                if self.fault == "no snapshot":
                    raise ModvisorError("too large", code=Code.TOO_LARGE)
                return {}
            case messages.SHUTDOWN:
                await self._fail_as(self.conduct.shutdown)
        return None

    async def _load(self) -> Any:
        match self.fault:
            case "import fails":
                raise ModvisorError("SyntaxError", code=Code.IMPORT_FAILED)
            case "imports forever":
                await asyncio.Event().wait()
            case "slow import":
                await asyncio.sleep(SLOW)
            case "dies importing":
                self.die(Exit(None, signal.SIGSEGV))
            case "no manifest":
                return {"hello": "world"}
        return {
            **_MANIFEST,
            "observes": ["work.*"] if self.conduct.observes else [],
            "resumable": self.conduct.resumable,
            "side_by_side": self.conduct.side_by_side,
        }

    async def _activate(self) -> None:
        match self.fault:
            case "activate fails":
                raise ModvisorError("the port is taken", code=Code.INITIALIZE_FAILED)
            case "activates forever":
                await asyncio.Event().wait()
            case "slow activate":
                await asyncio.sleep(SLOW)
            case "dies activating":
                self.die(Exit(1, None))
        self.active_since = self._loop.time()

    def _go_wrong(self) -> None:
        """Carry out a fault of the moment in which it becomes ready."""
        if self.fault == "closes pipe when active":
            self.close_pipe()
        elif self.fault == "dies when active":
            self.die(Exit(1, None))

    async def _fail_as(self, way: str) -> None:
        match way:
            case "refuses" | "fails":
                raise ModvisorError("no", code=Code.STATE_REFUSED)
            case "hangs":
                await asyncio.Event().wait()
            case "dies":
                self.die(Exit(1, None))

    async def _handle(self, request_id: int, event: dict[str, Any]) -> Any:
        payload, by = event["payload"], event["event_id"]
        attempt = event.get("attempt", 1)
        match payload["do"]:
            case "pass":
                return None
            case "raise":
                raise ModvisorError("a bug", code=Code.HANDLER_ERROR)
            case "slow":
                await asyncio.sleep(payload.get("seconds", SLOW))
            case "nest" | "nest poison" as how:
                return await self._ask_itself(request_id, payload["n"], "poison" if how == "nest poison" else "answer")
            case "answer and die once":
                if attempt == 1:
                    self.die(Exit(3, None), by)
            case "poison":
                self.die(Exit(3, None), by)
            case "poison cleanly":
                self.die(Exit(0, None), by)
            case "poison later":
                await asyncio.sleep(payload.get("seconds", SLOW))
                self.die(Exit(None, signal.SIGABRT), by)
            case "spin":
                self.hang()
            case "garbage":
                self.send_garbage()
                await asyncio.Event().wait()
            case "close pipe":
                self.close_pipe()
        return {"response": {"success": True, "data": [payload["n"], attempt]}}

    async def _ask_itself(self, request_id: int, n: int, do: str) -> Any:
        inner = {"event_name": "work.inner", "destination_id": "mod:work", "payload": {"n": n, "do": do}}
        answer = await self.pipe.request(messages.SEND_EVENT, {"event": inner, "cause": request_id})
        return {"response": {**answer, "data": [n, 0] if answer["success"] else answer.get("data")}}


class FakeLauncher:
    """Starts fake workers and remembers all of them."""

    make: type[FakeWorker] = FakeWorker

    def __init__(self, conduct: Conduct) -> None:
        self.conduct = conduct
        self.workers: list[FakeWorker] = []
        self.on_signal: Callable[[FakeWorker, int], None] = lambda _worker, _signum: None
        self.on_death: Callable[[FakeWorker], None] = lambda _worker: None
        self.on_exit: Callable[[FakeWorker], None] = lambda _worker: None
        self.on_event: Callable[[FakeWorker, Handling], None] = lambda _worker, _handling: None

    @property
    def living(self) -> list[FakeWorker]:
        return [worker for worker in self.workers if worker.alive]

    async def start(self) -> None:
        """Do nothing: there is no process to start first."""

    async def launch(self, launch: Launch) -> FakeProcess:
        fault = self.conduct.starts.popleft() if self.conduct.starts else ""
        if fault == "refused":
            raise OSError(11, "no process is left")
        if fault == "slow launch":
            await asyncio.sleep(SLOW)
        sock, far = socket.socketpair()
        output, held = os.pipe()
        far.setblocking(False)
        worker = self.make(self, FIRST_PID + len(self.workers), far, held, fault)
        worker.process = FakeProcess(worker, sock, output, launch)
        self.workers.append(worker)
        worker.run()
        return worker.process

    async def close(self) -> None:
        for worker in self.living:
            worker.process.kill()
        for worker in self.workers:
            await asyncio.shield(worker.process.exited)
            worker.let_go()
