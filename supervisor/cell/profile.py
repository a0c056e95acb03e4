"""Makes the cell of a mod from what the network file says of it."""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress
from functools import lru_cache
from pathlib import Path

from ...ipc.cell import ALL, LISTED, Cell
from ..config import NODES, ModConfig, NetworkConfig, Sandbox, resolved_sandbox
from .readable import besides_python, own_python, runs_on_own

ROOTS_DOORS = (
    "/run/systemd/private", "/run/dbus", "/run/docker.sock", "/run/docker", "/run/containerd", "/run/podman", "/run/crio",
    "/run/snapd.socket", "/run/snapd-snap.socket", "/run/libvirt",
)  # fmt: skip
"""Sockets of services that obey root in everything: a mod that runs as root would leave its cell through them."""


def sandbox_of(config: ModConfig, network: NetworkConfig) -> Sandbox:
    """Return what a mod of this network may reach."""
    return resolved_sandbox(config.sandbox, network.sandbox, config.sandbox_fallback or network.sandbox_fallback)


def cell_of(
    config: ModConfig,
    network: NetworkConfig,
    *,
    sandbox: Sandbox | None = None,
    state: Path,
    storage: Path,
    mark: Path | None = None,
    code: Iterable[Path] = (),
    secrets: Iterable[Path] = (),
    user: int = -1,
) -> Cell:
    """Return the cell of one worker of a mod.

    Args:
        sandbox: what the mod may reach, if the caller knows it already.
        state: the state folder of the network.
        storage: the worker's own folder in it.
        mark: the file in which the worker marks whose handler runs.
        code: folders that it imports from, which may lie in a hidden one.
        secrets: files with secrets of mods that the network file does not name.
        user: the user id that it takes; -1: that of the network.
    """
    sandbox = sandbox or sandbox_of(config, network)
    if sandbox.files == ALL:
        return _cell(sandbox, user)
    # The arguments of a program are relative to the folder of the network file.
    folder = storage if config.command is None else network.base_dir
    write = (*sandbox.write, *([] if mark is None else [mark]))
    hidden = _paths(hidden_paths(network, state, secrets))
    if sandbox.files == LISTED:  # with the links that lead there
        read = _with_links((*sandbox.read, *besides_python(config, network.base_dir, code)))
        if runs_on_own(config):
            read = tuple(dict.fromkeys((*read, *_python())))
        return _cell(sandbox, user, hidden, _path(storage), _path(folder), read, _with_links(write))
    read = (*sandbox.read, *code)
    return _cell(sandbox, user, hidden, _path(storage), _path(folder), _paths(read), _paths(write))


def spare_cell(network: NetworkConfig) -> Cell:
    """Return the cell of a worker that waits for a mod which says nothing of its sandbox."""
    hidden = _paths(hidden_paths(network, network.storage))
    return _cell(resolved_sandbox(None, network.sandbox, network.sandbox_fallback), hidden=hidden)


def secret_files(config: ModConfig) -> list[Path]:
    """Return the files that values of a mod's environment come from."""
    return [value.file for value in config.env.values() if value.file is not None]


_last_secrets: list[tuple[NetworkConfig, list[Path]]] = []


def _secrets_of_mods(network: NetworkConfig) -> list[Path]:
    """Return the files with secrets of all mods of a network file: looked for once, not for each mod that starts."""
    if not _last_secrets or _last_secrets[0][0] is not network:
        _last_secrets[:] = [(network, [file for mod in network.mods for file in secret_files(mod)])]
    return _last_secrets[0][1]


def hidden_paths(network: NetworkConfig, state: Path, secrets: Iterable[Path] = ()) -> list[Path]:
    """Return what holds secrets, or leads to processes that do what they are told.

    These are the state folder (with a cluster, those of all nodes here), the network file, the
    files that its values come from, its private keys, and the sockets of this user's, or the
    machine's, services.

    Args:
        secrets: further files with secrets.
    """
    token = network.admin.token
    files = [*(() if token is None or token.file is None else (token.file,)), *secrets]
    files += _secrets_of_mods(network)
    keys = [network.audit.key_file, None if network.tls is None else network.tls.key]
    files += [key for key in (*keys, *_of_cluster(network)) if key is not None]
    folder = state.parent.parent if state.parent.name == NODES and network.cluster is not None else state
    found = [folder, *([network.file] if network.file is not None else []), *files, *_doors(os.geteuid())]
    # What the network's user may not look at (systemd's ProtectHome, say), its mods cannot reach.
    return [path for path in dict.fromkeys(found) if os.path.exists(path)]


def _of_cluster(network: NetworkConfig) -> list[Path | None]:
    """Return the files by which a node is known to the others and to the servers."""
    cluster = network.cluster
    if cluster is None:
        return []
    values = [value.file for value in (cluster.secret, cluster.password) if value is not None]
    return [*values, cluster.credentials, cluster.nkey, None if cluster.tls is None else cluster.tls.key]


@lru_cache(maxsize=2)
def _doors(user: int) -> tuple[Path, ...]:
    """Return the paths of the sockets of services that obey this user in everything."""
    return Path(f"/run/user/{user}"), *(map(Path, ROOTS_DOORS) if user == 0 else ())


def _cell(
    sandbox: Sandbox,
    user: int = -1,
    hidden: tuple[bytes, ...] = (),
    storage: bytes = b"",
    folder: bytes = b"",
    read: tuple[bytes, ...] = (),
    write: tuple[bytes, ...] = (),
) -> Cell:
    return Cell(
        profile=sandbox.profile,
        required=sandbox.required,
        processes=sandbox.processes,
        files=sandbox.files,
        hidden=hidden,
        storage=storage,
        folder=folder,
        read=read,
        write=write,
        network=sandbox.network,
        exec=sandbox.exec,
        syscalls=sandbox.syscalls,
        user=user,
        tmp=sandbox.tmp,
    )


def _paths(paths: Iterable[Path]) -> tuple[bytes, ...]:
    return tuple(dict.fromkeys(map(_path, paths)))


def _with_links(paths: Iterable[Path]) -> tuple[bytes, ...]:
    """Return the paths, and where they lead."""
    return tuple(dict.fromkeys(found for path in paths for found in (os.fsencode(path.absolute()), _path(path))))


@lru_cache(maxsize=1)
def _python() -> tuple[bytes, ...]:
    """Return the folders of the network's own interpreter, looked up once: it runs from them."""
    return _with_links(own_python())


def _path(path: Path) -> bytes:
    """Return where a path leads: a mount hides a place, whatever the links to it.

    The kernel knows in three calls. `os.path.realpath` asks for each part of the path.
    """
    with suppress(OSError):
        fd = os.open(path, _LOOK)
        try:
            found = os.readlink(b"/proc/self/fd/%d" % fd)
        finally:
            os.close(fd)
        if found.startswith(b"/") and not found.endswith(b" (deleted)"):
            return found
    return os.fsencode(os.path.realpath(path))


_LOOK = os.O_CLOEXEC | getattr(os, "O_PATH", os.O_RDONLY | os.O_NONBLOCK)
