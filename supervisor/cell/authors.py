"""What the author of a mod may ask for: a ``mod.yaml`` comes with the mod, and is trusted as little as its code.

It may name an interpreter, a program and folders to import from. The network's own file may name any;
what a mod.yaml names must not widen the mod's cell.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from ...ipc.cell import LISTED, OFF
from ...ipc.errors import Code, ModvisorError
from ..config import ModConfig, Sandbox

_SYSTEM = ("/bin", "/lib", "/lib32", "/lib64", "/sbin", "/usr")


def names(config: ModConfig, key: str) -> bool:
    """Return whether the mod.yaml of a mod says this, and not the network's file."""
    return bool(getattr(config, key)) and key not in config.given


def may_be_run(config: ModConfig, sandbox: Sandbox) -> bool:
    """Return whether the network itself may run the interpreter of a mod, outside of its cell."""
    return sandbox.profile == OFF or not names(config, "python")


def check_author(config: ModConfig, sandbox: Sandbox, folder: Path | None) -> None:
    """Refuse what a mod.yaml names outside of the mod's folder, for a mod that sees listed files alone.

    Args:
        folder: of the mod's code; None: it has none of its own, and no mod.yaml.

    Raises:
        ModvisorError: code ``not_confined``.
    """
    if sandbox.files != LISTED or folder is None:
        return
    for key, path in _named(config):
        if not _is_inside(path, (str(folder), *_SYSTEM, sys.prefix, sys.base_prefix)):
            text = (
                f"the {key} of its mod.yaml leads to {path}, outside of the mod's folder; a mod that sees only what is "
            )
            raise ModvisorError(text + f"listed gets it if the network file says so: {key}", code=Code.NOT_CONFINED)


def without_authors(config: ModConfig, sandbox: Sandbox, code: Iterable[Path]) -> list[Path]:
    """Return the folders of a mod's code that are shown even if they lie in a hidden one: none that a mod.yaml names.

    What a mod that sees listed files alone may name, `check_author` has seen to.
    """
    if sandbox.files == LISTED:
        return list(code)
    named = {path for _, path in _named(config)}
    return [path for path in code if path not in named]


def _named(config: ModConfig) -> Iterator[tuple[str, Path]]:
    """Yield each path that a mod.yaml names, with its key."""
    if names(config, "paths"):
        yield from (("paths", path) for path in config.paths)
    if config.python is not None and names(config, "python"):
        for python in (config.python, Path(os.path.realpath(config.python))):
            yield "python", python.parent.parent
    if config.command is not None and names(config, "command"):
        yield from (("command", Path(word)) for word in config.command if os.path.isabs(word))


def _is_inside(path: Path, folders: tuple[str, ...]) -> bool:
    real = os.path.realpath(path) + os.sep
    return any(real.startswith(os.path.realpath(folder) + os.sep) for folder in folders)
