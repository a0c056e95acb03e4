"""Makes the cell of a mod from what the network file says of it."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from ...ipc.cell import ALL, LISTED, Cell
from ..config import ModConfig, NetworkConfig, Sandbox, resolved_sandbox
from .readable import readable

ROOTS_DOORS = (
    "/run/systemd/private", "/run/dbus", "/run/docker.sock", "/run/docker", "/run/containerd", "/run/podman", "/run/crio",
    "/run/snapd.socket", "/run/snapd-snap.socket", "/run/libvirt",
)  # fmt: skip
"""Sockets of services that do for root whatever it asks: a mod of root would leave its cell through them."""


def sandbox_of(config: ModConfig, network: NetworkConfig) -> Sandbox:
    """Return what a mod of this network may reach."""
    return resolved_sandbox(config.sandbox, network.sandbox, config.sandbox_fallback or network.sandbox_fallback)


def cell_of(
    config: ModConfig,
    network: NetworkConfig,
    *,
    state: Path,
    storage: Path,
    mark: Path | None = None,
    code: Iterable[Path] = (),
    user: int = -1,
) -> Cell:
    """Return the cell of one worker of a mod.

    Args:
        state: the state folder of the network.
        storage: the worker's own folder in it.
        mark: the file in which the worker marks whose handler runs.
        code: folders that it imports from, which may lie in a hidden one.
        user: the user id that it takes; -1: that of the network.
    """
    sandbox = sandbox_of(config, network)
    if sandbox.files == ALL:
        return _cell(sandbox, user)
    # The arguments of a program are relative to the folder of the network file.
    folder = storage if config.command is None else network.base_dir
    write = (*sandbox.write, *([] if mark is None else [mark]))
    hidden = _paths(hidden_paths(network, state))
    if sandbox.files == LISTED:  # with the links that lead there
        read = (*sandbox.read, *readable(config, network.base_dir, code))
        return _cell(sandbox, user, hidden, _path(storage), _path(folder), _with_links(read), _with_links(write))
    read = (*sandbox.read, *code)
    return _cell(sandbox, user, hidden, _path(storage), _path(folder), _paths(read), _paths(write))


def spare_cell(network: NetworkConfig) -> Cell:
    """Return the cell of a worker that waits for a mod which says nothing of its sandbox."""
    hidden = _paths(hidden_paths(network, network.storage))
    return _cell(resolved_sandbox(None, network.sandbox, network.sandbox_fallback), hidden=hidden)


def hidden_paths(network: NetworkConfig, state: Path) -> list[Path]:
    """Return what holds secrets, or leads to processes that do what they are told.

    These are the state folder, the network file and the files that its values come from, and the
    sockets of this user's, or the machine's, services.
    """
    secrets = [network.admin.token, *(value for mod in network.mods for value in mod.env.values())]
    files = [value.file for value in secrets if value is not None and value.file is not None]
    runtime = Path(f"/run/user/{os.geteuid()}")
    doors = map(Path, ROOTS_DOORS) if os.geteuid() == 0 else ()
    found = [state, *([network.file] if network.file is not None else []), *files, runtime, *doors]
    return [path for path in dict.fromkeys(found) if path.exists()]


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


def _path(path: Path) -> bytes:
    """Return where a path leads: a mount hides a place, whatever the links to it."""
    return os.fsencode(os.path.realpath(path))
