"""What the next worker process of a mod must know, gathered from config, files, limits and code.

A `Recipe` goes down: the network makes one, every keeper uses it, and it knows no keeper. What a
start needs besides (whether required mods are loaded) is asked between its two steps:

1. `Recipe.find` finds the code to run, and completes the config with what the mod's files say;
2. `Recipe.order` puts the rest together and prepares the limits.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...ipc import shared_memory
from ...ipc.cell import Cell
from ...ipc.errors import ModvisorError
from ...ipc.spinning import Spinner
from ..calls import Traces
from ..cell import (
    OnRefused,
    Uids,
    belongs_to,
    cell_of,
    check_author,
    check_code,
    give_once,
    may_be_run,
    proxy_environment,
    sandbox_of,
    secret_files,
    without_authors,
)
from ..config import AUTO, ModConfig, NetworkConfig, Redaction, Sandbox, with_mod_file
from ..journal import StateDir
from ..limits import Enforcement
from ..process import Interpreter, ModLog, Program, is_shortage, probe, unprobed
from ..sources import CompiledCode, Home, SnapshotStore, has_home, in_thread, read_home, search_path
from .incarnation import StartFailed, StartOrder
from .spares import Spares

if TYPE_CHECKING:
    from ..process import Leases

SPIN = 100e-6
"""Seconds to stay awake for the answer to an event, see `ipc.spinning`.

Most quick answers come within.
"""


LeaseOf = Callable[[ModConfig], "Leases | None"]

_as_path = lru_cache(maxsize=256)(Path)  # the folders that Python searches are the same for each mod

JUST = 0.05
"""Seconds within which one load does not read the mod's files twice."""


@dataclass(frozen=True, slots=True)
class Found:
    """The code that a worker is to run.

    Attributes:
        config: the mod's config, completed by its mod.yaml and its class.
        home: where the code was found.
        modules: the kept sources of the last good version; None: the working files are imported.
    """

    config: ModConfig
    home: Home
    modules: dict[str, Any] | None = None


class Recipe:
    """Turns a mod's config into the order for its next worker.

    Args:
        network: the config of the network; assign `network` when its file was changed.
        state: says where storage and logs of a mod lie.
        snapshots: the kept sources of the last good versions.
        enforcement: prepares the limits of a worker.
        spares: the workers that wait for a mod.

    Attributes:
        tokens: by the id of a mod or of its copy, the fencing tokens of the claims under which they run; none
            without a cluster.
        redaction: what is masked; it learns the variables that mods are given.
        on_refused: called with mod, host and reason when a mod may not reach a host.
        lease_of: returns the lease that the worker of a mod lives by; None: it needs none.
    """

    def __init__(
        self,
        network: NetworkConfig,
        state: StateDir,
        snapshots: SnapshotStore,
        enforcement: Enforcement,
        spares: Spares,
    ) -> None:
        self.network = network
        self.spares = spares
        self.snapshots = snapshots
        self.compiled = CompiledCode()
        self.tokens: dict[str, int] = {}
        self.redaction = Redaction(network.redact)
        self._state = state
        self.on_refused: OnRefused = lambda _mod_id, _where, _why: None
        self.lease_of: LeaseOf = lambda _config: None
        self._uids = Uids(state.root, *network.sandbox_uids)
        self._enforcement = enforcement
        self._told: set[str] = set()
        self._secrets: dict[Path, None] = {}  # files with secrets of all mods that were started
        self._just_read: tuple[ModConfig, tuple[ModConfig, Home], float] | None = None
        self._spinner = Spinner(SPIN) if network.polling == AUTO else None

    # -- places

    @property
    def search_path(self) -> list[str]:
        """All folders in which a mod may be found, best first."""
        return [*self._python_path(), *sys.path]

    async def read_home(self, config: ModConfig) -> tuple[ModConfig, Home]:
        """Find the mod in the version asked for, and complete its config by its files.

        The load that asks for it here goes on with what was read (`_read_home_once`).

        Raises:
            ModvisorError: it is not there, or its mod.yaml has mistakes.
        """
        found = await self._read_home(config)
        self._just_read = config, found, asyncio.get_running_loop().time()
        return found

    async def _read_home_once(self, config: ModConfig) -> tuple[ModConfig, Home]:
        """Read the home, unless the very load that goes on here has just read it to see what the mod requires."""
        just, self._just_read = self._just_read, None
        if just is not None and just[0] is config and asyncio.get_running_loop().time() - just[2] < JUST:
            return just[1]
        return await self._read_home(config)

    async def _read_home(self, config: ModConfig) -> tuple[ModConfig, Home]:
        place = config, self.network.base_dir, self.search_path
        if not has_home(*place):
            return read_home(*place)  # nothing to read, so it needs no thread
        return await in_thread(read_home, *place)

    def log_of(self, mod_id: str) -> ModLog:
        """Make the log that the output of a mod goes to."""
        logs = self.network.log
        file, mask = self._state.log_file(mod_id), self.redaction.text
        return ModLog(file, max_bytes=logs.max_bytes, backups=logs.backups, mask=mask)

    def _python_path(self) -> list[str]:
        return [*search_path(self.network), *self._state.python_path]

    # -- the order

    async def find(self, config: ModConfig, *, from_snapshot: bool) -> Found:
        """Find the code to run: the kept sources of the last good version, or the working files.

        Raises:
            StartFailed: the mod is not there, or its mod.yaml has mistakes.
        """
        with naming(config.mod_id):
            snapshot = await self.snapshots.read(config.mod_id) if from_snapshot else None
            if snapshot is None:
                return Found(*await self._read_home_once(config))
            completed = await _completed(config, snapshot.home)
            return Found(completed, snapshot.home, snapshot.modules)

    async def order(self, found: Found, number: int) -> StartOrder:
        """Put together all that incarnation ``number`` must know, and prepare its limits.

        Raises:
            StartFailed: its interpreter does not run, a value of its env is missing, or its storage
                folder cannot be made.
        """
        config = found.config
        sandbox = sandbox_of(config, self.network)
        with naming(config.mod_id):
            check_author(config, sandbox, found.home.folder)
            python = await _runs_under(config, sandbox)
            storage = self._state.storage_of(config.mod_id)
            user = await self._user_of(config, sandbox, storage)
            if user >= 0 and found.home.folder is not None:
                check_code(found.home.folder, user)
            params = self._load_params(config, found.home, storage)
        if token := self.tokens.get(config.mod_id) or self.tokens.get(config.name):
            params["fencing_token"] = token
        if found.modules is not None:
            params["snapshot"] = found.modules
        if python is None:  # another Python has another code
            params["compiled"] = self.compiled.of((config.path, found.home.folder))
        traces = Traces(self._state.marks / f"{config.mod_id}.{number}", durable=config.durable)
        if traces.has_mark:
            params["mark"], params["network_pid"] = str(traces.mark_file), os.getpid()
            if user >= 0:
                with naming(config.mod_id):
                    os.chown(traces.mark_file, user, user)
        cell = self._cell_of(config, sandbox, found.home, storage, traces, params["sys_path"], user)
        if cell.network:
            params["env"] = proxy_environment() | params["env"]
        spare = self.spares.take(config, cell)
        limits_in_force = self._enforcement.prepare(config, number, storage, None if spare is None else spare.cgroup)
        params["limits"] = limits_in_force.worker_limits()
        return StartOrder(
            config,
            number,
            params,
            limits_in_force,
            found.home,
            python,
            self._spinner,
            traces,
            spare,
            cell,
            self.network.relay,
            self.on_refused,
            self._told,
            self.lease_of(config),
        )

    async def _user_of(self, config: ModConfig, sandbox: Sandbox, storage: Path) -> int:
        """Return the user id that the mod's processes take, or -1: that of the network. Its storage belongs to it then."""
        if os.geteuid() != 0:
            return -1
        user = self._uids.of(config.name) if sandbox.user else -1
        if not belongs_to(storage, max(user, 0)):
            await in_thread(give_once, config.mod_id, storage, max(user, 0))
        return user

    def _cell_of(
        self, config: ModConfig, sandbox: Sandbox, home: Home, storage: Path, traces: Traces, path: list[str], user: int
    ) -> Cell:
        """Return what the worker is confined to. It imports from ``path``, and from the mod's own folder."""
        code = [_as_path(each) for each in path if each]
        code += [folder for folder in (home.folder, config.python and config.python.parent.parent) if folder]
        code = without_authors(config, sandbox, code)
        self._secrets |= dict.fromkeys(secret_files(config))
        return cell_of(
            config,
            self.network,
            sandbox=sandbox,
            state=self._state.root,
            storage=storage,
            mark=traces.mark_file,
            code=code,
            secrets=self._secrets,
            user=user,
        )

    def _load_params(self, config: ModConfig, home: Home, storage: Path) -> dict[str, Any]:
        """The `load` parameters, see ``docs/protocol.md``, without snapshot and limits.

        Raises `ConfigError`, OSError.
        """
        # Another interpreter has its own libraries and must not see those of the network's.
        path = self._python_path() if config.python is config.command is None else search_path(self.network)
        env = {name: value.resolve() for name, value in config.env.items()}
        self.redaction.learn(config, env)  # before the mod can print any of it
        return {
            "mod_id": config.name,
            "replica": config.replica,
            "mod_path": config.path,
            "version": config.declared,
            "folder": str(home.folder) if home.by_folder else None,
            "sys_path": [*map(str, config.paths), *path],
            "config": config.config,
            "config_schema": config.config_schema,
            "env": env,
            "storage_path": str(storage),
            "network_name": self.network.name,
            "network_id": self.network.network_id,
            "concurrency": config.limits.concurrency,
            "checkpoint_every": config.checkpoint_every,
            "polling": self.network.polling == AUTO,
            "shelf": shared_memory.is_possible,
        }


async def _runs_under(config: ModConfig, sandbox: Sandbox) -> Interpreter | Program | None:
    """Return what the worker runs under, if not the network's own interpreter."""
    if config.command is not None:
        program = Program(config.command)
        program.check()
        return program
    if config.python is None:
        return None
    return await probe(config.python) if may_be_run(config, sandbox) else await in_thread(unprobed, config.python)


async def _completed(config: ModConfig, home: Home) -> ModConfig:
    if home.file is None:  # nothing to parse, so it needs no thread
        return with_mod_file(config, None, home.said)
    return await in_thread(with_mod_file, config, home.file, home.said)


@contextmanager
def naming(mod_id: str) -> Iterator[None]:
    """Raise what goes wrong inside as a `StartFailed` that names the mod."""
    try:
        yield
    except ModvisorError as error:
        raise StartFailed(f"mod {mod_id}: {error}", code=error.code, **error.details) from None
    except OSError as error:  # a folder cannot be made: the disk is full, or not ours to write
        raise StartFailed(f"mod {mod_id}: {error}").for_want(error) from None
    except RuntimeError as error:
        if not is_shortage(error):  # a bug
            raise
        raise StartFailed(f"mod {mod_id}: {error}").for_want(error) from None
