"""Spare workers: processes that were started ahead, and wait for a mod.

A spare is a worker like any other: forked below a warden of its own, in a cgroup and a session of
its own, with a lifeline and a file for stack dumps. It has said hello and waits for `load`. So the
load of a mod takes as long as the mod's own code, and nothing of a mod has run in the spare before.

- A spare becomes the worker of one mod, and only of a mod that would get such a process anyway:
  under the network's own Python, forked where workers are forked.
- The next spare is started when no worker was asked for in the last `REST` seconds, so that it
  takes no time of the load that took the previous one, nor of the start of the network.
- A spare that ends, or is stopped, while it waits is replaced after a pause that grows.
- Spares end with the network, as all workers do: also when the supervisor is killed.
"""

from __future__ import annotations

import asyncio
import logging
import os
from dataclasses import dataclass
from itertools import count

import anyio

from ...ipc.cell import Cell
from ...ipc.errors import ModvisorError
from ..config import FORK, ModConfig
from ..limits import Cgroup, Enforcement
from ..process import Exit, Launch, Launcher, WorkerProcess, worker_environment

logger = logging.getLogger("modvisor.spares")

NAME = "spare"  # of their cgroups, with a number

REST = 0.05
"""Seconds without a start of a worker after which the next spare is started."""

FIRST_PAUSE, LONGEST_PAUSE = 1.0, 60.0
"""Seconds until a spare that ended by itself, or could not be started, is replaced. The pause doubles each time, up to
the second figure; a spare that a mod takes ends that."""

MAX_SAID = 16 * 1024
"""Bytes kept of what a spare prints before a mod takes it."""


@dataclass(eq=False, slots=True)
class Spare:
    """A process that waits for a mod.

    Attributes:
        cgroup: the cgroup that it began in, without limits so far; None: it is in none of its own.
        environment: the variables that it was started with.
        said: what it has printed, up to `MAX_SAID` bytes.
        cell: whose namespaces it is in.
    """

    process: WorkerProcess
    cgroup: Cgroup | None
    environment: dict[str, str]
    said: bytearray
    cell: Cell
    is_taken: bool = False

    async def become(self, launch: Launch) -> WorkerProcess:
        """Be the worker of ``launch``, and return the process. What it has printed goes to that log."""
        await self.process.become(launch)
        if self.said:
            launch.on_output(bytes(self.said))
        return self.process

    def kill(self) -> None:
        self.process.kill(cgroup=None if self.cgroup is None else str(self.cgroup.path))


@dataclass(frozen=True, slots=True)
class SpareCounts:
    """How many spares the config wants, how many wait, how many became workers of mods, how many were lost."""

    wanted: int
    waiting: int
    taken: int
    lost: int


class Spares:
    """Keeps as many spare workers as the config wants. `run` starts them, `take` gives them away."""

    def __init__(self, launcher: Launcher, enforcement: Enforcement, wanted: int, cell: Cell | None = None) -> None:
        self._launcher = launcher
        self._cell = cell or Cell()
        self._enforcement = enforcement
        self._wanted = wanted
        self._waiting: list[Spare] = []  # the oldest first
        self._numbers = count(1)
        self._taken = self._lost = 0
        self._pause = 0.0
        self._not_before = 0.0  # loop time
        self._missing = asyncio.Event()  # perhaps
        self._scope = anyio.CancelScope()
        self._stopped = asyncio.Event()
        self._stopped.set()

    @property
    def counts(self) -> SpareCounts:
        return SpareCounts(self._wanted, len(self._waiting), self._taken, self._lost)

    def want(self, number: int) -> None:
        """Keep so many spares from now on."""
        self._wanted = number
        for spare in self._waiting[number:]:
            spare.kill()
        del self._waiting[number:]
        self._missing.set()

    def take(self, config: ModConfig, cell: Cell) -> Spare | None:
        """Return a spare that can become the worker of this mod; None: the mod needs a new process."""
        self._rest(REST)
        if config.python is not None or config.command is not None or config.launch != FORK:
            return None
        if not cell.is_alike(self._cell):
            return None
        environment = worker_environment(os.environ) if self._waiting else {}
        while self._waiting:
            spare = self._waiting.pop(0)
            if spare.environment == environment and spare.process.can_run():
                spare.is_taken = True
                self._taken += 1
                self._pause = 0.0
                return spare
            self._lost += 1
            spare.kill()
        return None

    # -- start

    async def run(self) -> None:
        """Start a spare whenever one is missing, until `close`."""
        self._stopped.clear()
        try:
            with self._scope:
                while not self._scope.cancel_called:
                    await self._quiet()
                    if len(self._waiting) < self._wanted:
                        await self._start()
                    else:
                        self._missing.clear()
                        await self._missing.wait()
        finally:
            self._stopped.set()

    async def _quiet(self) -> None:
        """Wait until no worker is being started, and the pause after a failure is over."""
        while (left := self._not_before - asyncio.get_running_loop().time()) > 0:  # noqa: ASYNC110 - loads move it
            await asyncio.sleep(left)

    def _rest(self, seconds: float) -> None:
        """Start no spare for so many seconds; then look whether one is missing."""
        self._not_before = max(self._not_before, asyncio.get_running_loop().time() + seconds)
        self._missing.set()

    async def _start(self) -> None:
        cgroup = self._enforcement.cgroups.create(f"{NAME}.{next(self._numbers)}")
        said, environment = bytearray(), worker_environment(os.environ)
        folder = None if cgroup is None else cgroup.path
        launch = Launch(
            lambda data: said.extend(data[: MAX_SAID - len(said)]), cgroup=folder, is_ahead=True, cell=self._cell
        )
        try:
            process = await self._launcher.launch(launch)
        except (OSError, ModvisorError) as error:
            self._remove(cgroup)
            self._retry_later(f"no spare worker could be started: {error}")
            return
        except BaseException:
            self._remove(cgroup)
            raise
        spare = Spare(process, cgroup, environment, said, self._cell)
        process.exited.add_done_callback(lambda exit: self._ended(spare, exit.result()))
        self._waiting.append(spare)
        self.want(self._wanted)  # fewer may be wanted than when its start began

    def _retry_later(self, why: str) -> None:
        self._pause = min(max(FIRST_PAUSE, 2 * self._pause), LONGEST_PAUSE)
        logger.warning("%s; another one is started in %g s", why, self._pause)
        self._rest(self._pause)

    # -- end

    def _ended(self, spare: Spare, exit: Exit) -> None:
        """Clear up after a spare that no mod has taken."""
        if spare.is_taken:  # its incarnation does that
            return
        spare.process.sock.close()
        self._remove(spare.cgroup)
        if spare in self._waiting:
            self._waiting.remove(spare)
            self._lost += 1
            self._retry_later(f"the spare worker (pid {spare.process.pid}) ended while it waited: {exit}")

    def _remove(self, cgroup: Cgroup | None) -> None:
        if cgroup is not None:
            self._enforcement.gone(cgroup)

    async def close(self) -> None:
        """Start no more, and kill those that wait: the launcher waits for their ends."""
        self._scope.cancel()
        self.want(0)
        await self._stopped.wait()
