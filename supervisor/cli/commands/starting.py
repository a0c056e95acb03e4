"""``modvisor start``: run a network in the background, and wait until it is ready."""

from __future__ import annotations

import json
import os
import select
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from ...causes import cause
from ...journal import StateDir
from ..options.arguments import age
from ..running.announcing import VARIABLE
from ..settings import Settings
from ..terminal.exits import CliError, ExitCode
from ..terminal.output import Output, printable
from .life import AllowMixed, File, Fresh, Host, LogFormatOption, LogLevel, LogLevelOption, Port, Watch, run

LOG_FILE = "network.log"
MAX_LOG = 10_000_000
"""Bytes. A larger log is put aside at the next start, as network.log.1."""
MAX_TOLD = 4000
"""Bytes of the log that a failed start repeats."""


def start(
    settings: Settings,
    path: File = None,
    detach: Annotated[
        bool, typer.Option("--detach/--foreground", "-d", help="In the background, or like 'modvisor run'.")
    ] = True,
    host: Host = None,
    port: Port = None,
    fresh: Fresh = False,
    watch: Watch = False,
    allow_mixed: AllowMixed = False,
    log_level: LogLevelOption = LogLevel.INFO,
    log_format: LogFormatOption = None,
    log: Annotated[
        Path | None,
        typer.Option(
            "--log", metavar="FILE", help="Where its output goes. [dim](default: network.log in storage)[/dim]"
        ),
    ] = None,
    timeout: Annotated[
        str, typer.Option("--timeout", metavar="TIME", help="How long to wait until it is ready.")
    ] = "2m",
) -> None:
    """Run a network in the background, wait until it is ready, and say where it is. 'modvisor stop' ends it."""
    if not detach:
        run(
            settings, path, host, port, fresh=fresh, watch=watch, allow_mixed=allow_mixed, log_level=log_level,
            log_format=log_format,
        )  # fmt: skip
        return
    patience = age(timeout, "--timeout")
    options = [
        *(["--host", host] if host is not None else []),
        *(["--port", str(port)] if port is not None else []),
        *(["--fresh"] if fresh else []),
        *(["--watch"] if watch else []),
        *(["--allow-mixed"] if allow_mixed else []),
        *(["--node", node] if (node := settings.named_node) is not None else []),
        *("--log-level", log_level.value),
        *(["--log-format", log_format.value] if log_format is not None else []),
    ]
    started = _start(path or settings.network_file, settings.named_node, options, log)
    ready = {**_when_ready(started, patience), "success": True, "log": str(started.log)}
    Output(as_json=settings.json).document(ready, lambda: print(printable(_text(ready))))


@dataclass(frozen=True, slots=True)
class _Started:
    """A network that is starting. ``begins`` is where its output begins in the log."""

    pid: int
    pipe: int
    file: Path
    log: Path
    begins: int


def _start(file: Path, node: str | None, options: list[str], log: Path | None) -> _Started:
    storage = _storage(file, node)
    log = storage / LOG_FILE if log is None else log.absolute()
    output = _open(log)
    read, write = os.pipe()
    os.set_inheritable(write, True)
    command = [sys.executable, "-m", "modvisor.supervisor.cli", "run", str(file), *options]
    try:
        pid = _spawn(command, output, {**os.environ, VARIABLE: str(write)})
        return _Started(pid, read, file, log, os.fstat(output).st_size)
    finally:
        os.close(write)
        os.close(output)


def _spawn(command: list[str], output: int, environ: dict[str, str]) -> int:
    """Start a program in a session of its own, so that no terminal signals it; return its pid.

    Not by `subprocess`, which warns of a program that outlives the one that has started it.
    """
    files = [
        (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
        (os.POSIX_SPAWN_DUP2, output, 1),
        (os.POSIX_SPAWN_DUP2, output, 2),
    ]
    return os.posix_spawn(command[0], command, environ, file_actions=files, setsid=True)


def _storage(file: Path, node: str | None) -> Path:
    """Return the folder of the network's state, which is made if it is missing.

    Raises:
        CliError: BAD_CONFIG, ALREADY_RUNNING, or the folder cannot be made.
    """
    from ..client.target import storage_at_start
    from ..client.wanted import want_file

    want_file(file)
    storage = storage_at_start(file, node)
    if StateDir(storage).is_taken:
        text = f"the network of {file} runs already; 'modvisor status' tells of it, 'modvisor stop' ends it"
        raise CliError(ExitCode.ALREADY_RUNNING, text)
    try:
        if not storage.exists():
            storage.mkdir(parents=True, mode=0o700)
    except OSError as error:
        raise CliError(ExitCode.START_FAILED, f"cannot make {storage}: {cause(error, storage)}") from None
    return storage


def _open(log: Path) -> int:
    """Open the log at its end; a large one is put aside."""
    try:
        if log.exists() and log.stat().st_size > MAX_LOG:
            log.replace(log.with_name(f"{log.name}.1"))
        return os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise CliError(ExitCode.START_FAILED, f"cannot write the log {log}: {cause(error, log)}") from None


def _when_ready(started: _Started, patience: float) -> dict[str, Any]:
    """Return what the network says of itself when it is ready.

    Raises:
        CliError: as the network ended, or NO_ANSWER if it takes longer. It goes on starting then.
    """
    line = _line(started.pipe, time.monotonic() + patience)
    if line:
        return json.loads(line)
    if line is None:
        text = f"the network of {started.file} (pid {started.pid}) is still starting; its log: {started.log}"
        raise CliError(ExitCode.NO_ANSWER, f"{text}; wait longer with --timeout")
    code = os.waitstatus_to_exitcode(os.waitpid(started.pid, 0)[1])
    told = _told(started)
    known = code in list(ExitCode) and code != ExitCode.DONE
    raise CliError(ExitCode(code) if known else ExitCode.START_FAILED, told or f"it ended at once; see {started.log}")


def _line(pipe: int, deadline: float) -> bytes | None:
    """Return all that comes through a pipe; None if its end does not come in time."""
    found = b""
    while (left := deadline - time.monotonic()) > 0 and select.select([pipe], [], [], left)[0]:
        data = os.read(pipe, 65536)
        if not data:
            return found
        found += data
    return None


def _told(started: _Started) -> str:
    """Return what the network printed before it ended, without the mark of an error."""
    with open(started.log, "rb") as log:
        log.seek(started.begins)
        text = log.read().decode("utf-8", "replace").strip()
    return text[text.rfind("error: ") :].removeprefix("error: ")[-MAX_TOLD:]


def _text(ready: dict[str, Any]) -> str:
    from ..render.ready import ready_text

    return ready_text(ready, "'modvisor stop'")
