"""Find the running network: its admin socket, from the network file, or a URL."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from ...config import NODES
from ...journal import StateDir
from ..settings import DEFAULT_FILE, Settings
from ..terminal.exits import CliError, ExitCode, mistakes

if TYPE_CHECKING:
    from ...config import AuditConfig, ConfigError

DEFAULT_STORAGE = ".modvisor"


@dataclass(frozen=True, slots=True)
class Target:
    """How to reach a network. One of ``socket`` and ``url`` is set.

    Attributes:
        storage: the state directory, if the network was found by its file.
        node: the one node of a cluster that is asked for; None: all of them.
        what: how people call it; ``start``: how they get a network there.
    """

    socket: Path | None = None
    url: str | None = None
    token: str | None = None
    storage: Path | None = None
    node: str | None = None
    what: str = ""
    start: str = "start it with: modvisor run"

    def __str__(self) -> str:
        return self.what or str(self.url or self.socket)


def find_target(settings: Settings) -> Target:
    """Find the network. Options win over the environment, a socket or URL over a file.

    Raises:
        CliError: two means at once, no network file, or one whose ``storage`` cannot be read.
    """
    if settings.socket and settings.url:
        raise CliError(ExitCode.USAGE, "--socket and --url name two networks; give one of them")
    if settings.socket:
        socket = Path(os.path.abspath(settings.socket))
        return Target(socket=socket, node=settings.named_node, what=f"socket {settings.socket}")
    if settings.url:
        return _url_target(settings.url, settings)
    if settings.file is None and (url := os.environ.get("MODVISOR_URL")):
        return _url_target(url, settings)
    return _file_target(settings.network_file, settings.named_node)


def _url_target(url: str, settings: Settings) -> Target:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise CliError(ExitCode.USAGE, f"--url {url}: expected a URL such as http://127.0.0.1:8700")
    token = settings.token or os.environ.get("MODVISOR_TOKEN")
    start = "check the address; 'modvisor run' prints it"
    return Target(url=url.rstrip("/"), token=token, node=settings.named_node, start=start)


def _file_target(file: Path, node: str | None) -> Target:
    storage = asked = storage_of(file, node)
    if node is not None and not StateDir(asked).is_taken:
        storage = storage_of(file)  # every node answers for all of them
    is_node = storage.parent.name == NODES
    return Target(
        socket=StateDir(storage if is_node else asked).admin_socket,
        storage=storage if is_node else asked,
        node=node,
        what=f"{file}, node {storage.name}" if is_node else str(file),
        start=f"start it with: modvisor run {file}" + (f" --node {storage.name}" if is_node else ""),
    )


def storage_of(file: Path, node: str | None = None) -> Path:
    """Return the state directory of the network in ``file``; with a cluster, that of one of its nodes here.

    Args:
        node: None: a node that runs, else any that has run.

    Raises:
        CliError: there is no such file, or what it says of its storage cannot be read.
    """
    whole = network_storage(file)
    nodes = whole / NODES
    if node is not None:
        return nodes / node
    if not nodes.is_dir() or StateDir(whole).is_taken:
        return whole
    here = sorted(each for each in nodes.iterdir() if each.is_dir())
    return next((each for each in here if StateDir(each).is_taken), next(iter(here), whole))


def storage_at_start(file: Path, node: str | None) -> Path:
    """Return the state directory that a network will have which is started from ``file``.

    Raises:
        CliError: as `storage_of` does, or the file has mistakes, or it has no such node.
    """
    storage = network_storage(file)
    if node is None and not _may_say(file, b"cluster"):
        return storage
    from ...config import ConfigError, load_config

    try:
        return load_config(file, node=node).storage
    except ConfigError as error:
        raise CliError(ExitCode.BAD_CONFIG, mistakes(file, error)) from None


def network_storage(file: Path) -> Path:
    """Return what ``file`` says is ``network.storage``.

    Only ``network.storage`` is read: a mistake elsewhere in the file must not keep anybody from stopping the network.

    Raises:
        CliError: there is no such file, or what it says of its storage cannot be read.
    """
    base = Path(os.path.abspath(file)).parent
    if not file.exists():
        raise CliError(ExitCode.NO_NETWORK, _no_file(file))
    if not _may_say(file, b"storage") and _has_socket(base / DEFAULT_STORAGE):
        return base / DEFAULT_STORAGE
    return _written_storage(file, base)


def _no_file(file: Path) -> str:
    from ...causes import similar_file

    text = f"no network file {file}; name the network with --file FILE, --socket PATH or --url URL"
    if meant := similar_file(file.absolute()):
        return f"{text}; did you mean {meant!r}?"
    return f"{text}, or make one with: modvisor init" if file == Path(DEFAULT_FILE) else text


def _may_say(file: Path, word: bytes) -> bool:
    """Return whether a key can be in the file; if not, most commands need not import YAML (20 ms).

    Without escapes a word is written as it is.
    """
    try:
        data = file.read_bytes()
    except OSError:
        return True
    return any(mark in data for mark in (word, b"\\"))


def _has_socket(storage: Path) -> bool:
    return StateDir(storage).admin_socket.exists() or (storage / NODES).is_dir()


def _written_storage(file: Path, base: Path) -> Path:
    from ...config import BROKEN, ConfigError, Location, Source, absolute_path, load_yaml

    source = Source(str(file))
    data = load_yaml(str(file), source)
    network = data.get("network") if isinstance(data, dict) else None
    written = network.get("storage") if isinstance(network, dict) else None
    storage = BROKEN if data is BROKEN else base / DEFAULT_STORAGE
    if written is not None:
        storage = absolute_path(written, Location(source, base, ("network", "storage")))
    if storage is not BROKEN:
        return storage
    return _guessed_storage(base, ConfigError(source.problems))


def _guessed_storage(base: Path, error: ConfigError) -> Path:
    """Return the default place, for a file that cannot be read: most networks keep their state there."""
    if _has_socket(base / DEFAULT_STORAGE):
        return base / DEFAULT_STORAGE
    raise CliError(
        ExitCode.BAD_CONFIG,
        f"the file does not say where the network keeps its state; mend it, or name the socket with --socket PATH\n{error}",
    )


def audit_config(settings: Settings, why: str) -> AuditConfig:
    """Return what the network file says of the audit.

    Args:
        why: what is missing if the file has mistakes, for people.

    Raises:
        CliError: it has.
    """
    from ...config import ConfigError, load_config

    try:
        return load_config(settings.network_file).audit
    except ConfigError as error:
        raise CliError(ExitCode.BAD_CONFIG, f"the file does not say {why}\n{error}") from None
