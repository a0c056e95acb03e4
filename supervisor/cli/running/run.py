"""``modvisor run``: run one network in the foreground, handle its signals, and say what happens."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

import anyio
import psutil
from anyio.abc import TaskGroup

from ....ipc.errors import Code, ModvisorError
from ...audit import acting
from ...causes import cause
from ...clock import new_loop
from ...config import AUTO, JSON, ConfigError, NetworkConfig, check_open, load_config, port_url
from ...fleet import Changes, Saved
from ...journal import StateDirBusy
from ...lifecycle import State
from ...limits import favour_events
from ...network import AgentNetwork
from ...runtime import NoUvloop, ease_collector, loop_name, share_interpreter
from ...sources import HOW_TO_INSTALL, can_watch
from ..render.ready import ready_text
from ..terminal.exits import CliError, ExitCode, mistakes
from ..terminal.output import Output, printable
from ..terminal.streams import detach
from .announcing import announce, take_pipe
from .first_process import fork_from_first
from .service import ServiceManager

logger = logging.getLogger("modvisor.run")

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)
SHOWN_FILES = 3  # names of saved files in one message
LOG_FORMAT = "%(asctime)s %(levelname)-7s %(name)s: %(message)s"


@dataclass(frozen=True, slots=True)
class NetworkFile:
    """The network file and the options that override it. Read again at every SIGHUP."""

    path: Path
    host: str | None = None
    port: int | None = None
    watch: bool = False
    log_format: str | None = None
    node: str | None = None
    allow_mixed: bool = False

    def read(self) -> NetworkConfig:
        """Raises `ConfigError` with every mistake."""
        config = load_config(self.path, node=self.node)
        for warning in config.warnings:
            logger.warning("%s", warning)
        config = replace(
            config,
            host=config.host if self.host is None else self.host,
            port=config.port if self.port is None else self.port,
            watch=config.watch or self.watch,
            log_format=self.log_format or config.log_format,
            cluster=config.cluster
            and replace(config.cluster, allow_mixed=config.cluster.allow_mixed or self.allow_mixed),
        )
        check_open(config)
        return config


def run_network(file: NetworkFile, output: Output, log_level: str, *, fresh: bool = False) -> None:
    """Run the network until it is told to stop.

    Args:
        fresh: see `AgentNetwork.initialize`.

    Raises:
        CliError: BAD_CONFIG, ALREADY_RUNNING or START_FAILED; nothing is left running.
    """
    fork_from_first()
    pipe = take_pipe()
    logging.basicConfig(stream=sys.stderr, level=log_level.upper(), format=LOG_FORMAT)
    logging.getLogger("watchfiles").setLevel(logging.WARNING)  # it logs every change of every file
    if file.watch and not can_watch():
        raise CliError(ExitCode.START_FAILED, f"--watch: {HOW_TO_INSTALL}")
    try:
        config = file.read()
    except ConfigError as error:
        raise CliError(ExitCode.BAD_CONFIG, mistakes(file.path, error)) from None
    service = ServiceManager()
    network = AgentNetwork(config)
    network.read_file = file.read
    formatter = _formatter(network)
    for handler in logging.getLogger().handlers:
        handler.setFormatter(formatter)
    detach(network.lost_output)
    serve = _Run(file, network, Reporter(output, pipe), service, fresh).serve
    share_interpreter()
    if config.scheduling == AUTO:
        favour_events()
    make_loop = partial(new_loop, config.event_loop)
    try:
        anyio.run(serve, backend="asyncio", backend_options={"loop_factory": make_loop})
    except NoUvloop as error:
        raise CliError(ExitCode.START_FAILED, f"{file.path}: network.event_loop: {error}") from None


def _formatter(network: AgentNetwork) -> logging.Formatter:
    """Return what writes the network's own messages. Raises `CliError` if it is not installed."""
    if network.config.log_format != JSON:
        return _Masking(network)
    if find_spec("structlog") is None:
        text = "the log format 'json' needs structlog; install modvisor[logs], or use the format 'console'"
        raise CliError(ExitCode.START_FAILED, text)
    from .json_lines import json_formatter

    return json_formatter(lambda text: network.redaction.text(text))


class _Masking(logging.Formatter):
    """Masks the secrets in the network's own messages, tracebacks included."""

    def __init__(self, network: AgentNetwork) -> None:
        super().__init__(LOG_FORMAT)
        self._network = network

    def format(self, record: logging.LogRecord) -> str:
        return self._network.redaction.text(super().format(record))


class _Run:
    """One network from its start to its end."""

    def __init__(
        self, file: NetworkFile, network: AgentNetwork, reporter: Reporter, service: ServiceManager, fresh: bool
    ) -> None:
        self._file = file
        self._fresh = fresh
        self._network = network
        self._reporter = reporter
        self._service = service
        self._stopping = False
        self._serving = False

    async def serve(self) -> None:
        failure: CliError | None = None
        async with anyio.create_task_group() as tasks:
            self._obey_signals(tasks)
            failure = await self._serve(tasks)
            tasks.cancel_scope.cancel()
        if failure is not None:
            raise failure
        self._reporter.stopped()

    async def _serve(self, tasks: TaskGroup) -> CliError | None:
        """Run the network; returns why it could not start, or None."""
        try:
            await self._network.initialize(admin=True, fresh=self._fresh)
        except (ModvisorError, OSError) as error:
            return self._explained(error)
        self._serving = True
        try:
            tasks.start_soon(self._tell_saves)
            self._reporter.ready(self._network)
            self._service.ready()
            tasks.start_soon(self._service.keep_told, self._network)
            ease_collector()
            await self._network.wait_stopped()
        finally:
            self._serving = False
            self._service.stopping()
            with anyio.CancelScope(shield=True):
                await self._network.shutdown()
        return None

    async def _tell_saves(self) -> None:
        with self._network.follow_saves() as saves:
            while True:
                self._reporter.saved(await saves.get(), self._network.config.base_dir)

    def _explained(self, error: Exception) -> CliError | None:
        """Start the network; returns None if a signal stopped the start."""
        if isinstance(error, StateDirBusy):
            return CliError(ExitCode.ALREADY_RUNNING, str(error))
        if self._stopping and getattr(error, "code", None) == Code.NOT_RUNNING:
            return None
        file = error.filename if isinstance(error, OSError) else None
        why = f"{file}: {cause(error, file)}" if isinstance(error, OSError) and file else error
        return CliError(ExitCode.START_FAILED, f"{self._file.path} did not start: {why}")

    # -- signals

    def _obey_signals(self, tasks: TaskGroup) -> None:
        loop = asyncio.get_running_loop()
        for signum in STOP_SIGNALS:
            loop.add_signal_handler(signum, self._stop, signum)
        loop.add_signal_handler(signal.SIGHUP, lambda: tasks.start_soon(self._reconfigure))

    def _stop(self, signum: signal.Signals) -> None:
        """Shut down in order at the first signal; end at once at the next one, even if the loop hangs."""
        self._stopping = True
        loop = asyncio.get_running_loop()
        for each in STOP_SIGNALS:
            loop.remove_signal_handler(each)
            signal.signal(each, _die)
        self._service.stopping()
        self._network.request_stop()
        self._reporter.stopping(signum.name)

    async def _reconfigure(self) -> None:
        if not self._serving:
            logger.warning("SIGHUP came before the network was ready; nothing is changed")
            return
        self._service.reloading()
        try:
            with acting("signal:SIGHUP"):
                changes = await self._network.read_file_again()
        except ConfigError as error:
            logger.error("nothing is changed: %s", mistakes(self._file.path, error))
            self._reporter.kept(error)
        except ModvisorError as error:  # the network is stopping
            logger.error("the changed file was not taken over: %s", error)
        else:
            self._reporter.reconfigured(changes)
        finally:
            self._service.ready()


def _die(signum: int, _: FrameType | None) -> NoReturn:
    """Kill every worker and this process. A worker leads its own session, so the terminal does not signal it."""
    for worker in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            worker.kill()
    with contextlib.suppress(OSError):
        os.write(2, b"killed\n")
    os._exit(128 + signum)


class Reporter:
    """Says on stdout what happens: lines for people, or a JSON line each (``{"happened": …}``).

    Args:
        pipe: where `modvisor start` waits until the network is ready.
    """

    def __init__(self, output: Output, pipe: int | None = None) -> None:
        self._output = output
        self._pipe = pipe

    def _say(self, happened: dict[str, Any], text: Callable[[], str]) -> None:
        self._output.item(happened, text)

    def ready(self, network: AgentNetwork) -> None:
        mods = network.get_network_stats()["mods"]
        found = {
            "happened": "ready",
            "name": network.config.name,
            **({} if network.config.node is None else {"node": network.config.node}),
            "pid": os.getpid(),
            "event_loop": loop_name(asyncio.get_running_loop()),
            "host": network.config.host,
            "port": network.port,
            "url": _url(network),
            "admin_socket": str(network.state_dir.admin_socket),
            "storage": str(network.config.storage),
            "seconds": round(network.uptime, 3),
            "mods": list(map(_mod, mods.values())),
            "watched": network.watched_mods if can_watch() else [],
        }
        self._say(found, lambda: ready_text(found))
        if self._pipe is not None:
            announce(self._pipe, found)

    def reconfigured(self, changes: Changes) -> None:
        parts = {part: getattr(changes, part) for part in ("added", "removed", "changed")}
        found: dict[str, Any] = {"happened": "reconfigured", "success": changes.success}
        found |= {part: {mod: each.to_dict() for mod, each in done.items()} for part, done in parts.items()}
        found |= {"applied": changes.applied, "needs_restart": changes.needs_restart, "swapped": changes.swapped}
        self._say(found, lambda: _changes_text(found))

    def kept(self, error: ConfigError) -> None:
        """Report mistakes of the file as JSON; people read them in the log."""
        if self._output.as_json:
            self._say({"happened": "kept", "problems": [str(problem) for problem in error.problems]}, str)

    def saved(self, saved: Saved, base_dir: Path) -> None:
        """Report that files of a mod were saved, and that it was reloaded, or why not."""
        response = saved.response
        files = [os.path.relpath(file, base_dir) for file in saved.files]
        found = {"happened": "saved", "mod_id": saved.mod_id, "files": files, **response.to_dict()}
        self._say(found, lambda: printable(_saved_text(found)))

    def stopping(self, why: str) -> None:
        self._say({"happened": "stopping", "why": why}, lambda: f"{why}: stopping; once more to kill")

    def stopped(self) -> None:
        self._say({"happened": "stopped"}, lambda: "stopped")


def _url(network: AgentNetwork) -> str | None:
    config = network.config
    return None if network.port is None else port_url(config.host, network.port, tls=config.tls is not None)


def _mod(stats: dict[str, Any]) -> dict[str, Any]:
    return {
        "mod_id": stats["mod_id"],
        "version": stats["version"],
        "state": stats["state"],
        "pid": stats["pid"],
        "pids": [worker["pid"] for worker in stats.get("workers", [])],
        "start_ms": stats.get("start_ms"),
        "last_error": None if stats["state"] == State.READY else stats["last_error"],
    }


def _saved_text(found: dict[str, Any]) -> str:
    files = ", ".join(found["files"][:SHOWN_FILES])
    if (more := len(found["files"]) - SHOWN_FILES) > 0:
        files += f" and {more} more"
    return f"{files or found['mod_id']} saved: {found.get('message')}"


def _changes_text(found: dict[str, Any]) -> str:
    lines = [
        f"  {part:<8} {mod}" + ("" if response["success"] else f": {response.get('message')}")
        for part in ("added", "removed", "changed")
        for mod, response in found[part].items()
    ]
    if found["applied"]:
        lines.append(f"  applied  {', '.join(found['applied'])}")
    if found["needs_restart"]:
        lines.append(f"  needs a restart of the network: {', '.join(found['needs_restart'])}")
    return "\n".join(["the file was taken over:", *(lines or ["  nothing changed"])])
