"""Find the running network: its admin socket, from the network file, or a URL."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from ..journal import StateDir
from .exits import CliError, ExitCode
from .settings import Settings

if TYPE_CHECKING:
    from ..config import ConfigError

DEFAULT_STORAGE = ".modvisor"


@dataclass(frozen=True, slots=True)
class Target:
    """How to reach a network. One of ``socket`` and ``url`` is set.

    Attributes:
        storage: the state directory, if the network was found by its file.
        what: how people call it; ``start``: how they get a network there.
    """

    socket: Path | None = None
    url: str | None = None
    token: str | None = None
    storage: Path | None = None
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
        return Target(socket=Path(os.path.abspath(settings.socket)), what=f"socket {settings.socket}")
    if settings.url:
        return _url_target(settings.url, settings)
    if settings.file is None and (url := os.environ.get("MODVISOR_URL")):
        return _url_target(url, settings)
    return _file_target(settings.network_file)


def _url_target(url: str, settings: Settings) -> Target:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise CliError(ExitCode.USAGE, f"--url {url}: expected a URL such as http://127.0.0.1:8700")
    token = settings.token or os.environ.get("MODVISOR_TOKEN")
    return Target(url=url.rstrip("/"), token=token, start="check the address; 'modvisor run' prints it")


def _file_target(file: Path) -> Target:
    storage = storage_of(file)
    return Target(
        socket=StateDir(storage).admin_socket,
        storage=storage,
        what=str(file),
        start=f"start it with: modvisor run {file}",
    )


def storage_of(file: Path) -> Path:
    """Return the state directory of the network in ``file``.

    Only ``network.storage`` is read: a mistake elsewhere in the file must not keep anybody from stopping the network.

    Raises:
        CliError: there is no such file, or what it says of its storage cannot be read.
    """
    base = Path(os.path.abspath(file)).parent
    if not file.exists():
        raise CliError(
            ExitCode.NO_NETWORK,
            f"no network file {file}; name the network with --file FILE, --socket PATH or --url URL",
        )
    if _says_nothing_of_storage(file) and _has_socket(base / DEFAULT_STORAGE):
        return base / DEFAULT_STORAGE
    return _written_storage(file, base)


def _says_nothing_of_storage(file: Path) -> bool:
    """Return whether the key cannot be in the file, which spares most commands the import of YAML (20 ms).

    Without escapes a word is written as it is.
    """
    try:
        data = file.read_bytes()
    except OSError:
        return False
    return not any(mark in data for mark in (b"storage", b"\\"))


def _has_socket(storage: Path) -> bool:
    return StateDir(storage).admin_socket.exists()


def _written_storage(file: Path, base: Path) -> Path:
    from ..config import BROKEN, ConfigError, Location, Source, absolute_path, load_yaml

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
