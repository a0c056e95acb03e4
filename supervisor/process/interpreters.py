"""The interpreters that mods ask for: tried once before a worker is started under one, and how a worker is started there.

A virtual environment of a mod's own needs nothing of modvisor: see ``worker/bootstrap.py``.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

import anyio.to_thread

from ...ipc.errors import Code, ModvisorError

OLDEST = (3, 11)
OLDEST_MSGPACK = (1, 0)
"""Below it, times do not travel as they do here."""

TRIAL = 20.0
"""Seconds an interpreter has to say what it is: a cold start from a slow disk takes some."""

# Python 2 runs it as well, to say that it is one.
_PROBE = """
import json, sys
try:
    import msgpack
    packs = list(msgpack.version)[:2]
except ImportError:
    packs = None
print(json.dumps([list(sys.version_info[:3]), packs]))
"""

BOOTSTRAP = Path(__file__).parents[2] / "worker" / "bootstrap.py"


# What a worker inherits of the supervisor's environment: enough to run Python, nothing that may hold a secret.
_INHERITED = frozenset({
    "HOME", "LANG", "LANGUAGE", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "LOGNAME", "PATH", "SSL_CERT_DIR", "SSL_CERT_FILE",
    "TEMP", "TERM", "TMP", "TMPDIR", "TZ", "USER", "VIRTUAL_ENV",
})  # fmt: skip
_INHERITED_PREFIXES = ("LC_", "PYTHON")


class BadPython(ModvisorError):
    """An interpreter that cannot run a worker."""

    code = Code.BAD_PYTHON


@dataclass(frozen=True, slots=True)
class Interpreter:
    """An interpreter that can run a worker: its path and its version."""

    path: Path
    version: str

    @property
    def command(self) -> list[str]:
        """Of a worker, but for the numbers of its descriptors."""
        # -P: the folder of the bootstrap file is no place to import from
        return [str(self.path), "-P", str(BOOTSTRAP), "modvisor.worker", msgpack_folder()]


def command_and_environment(own: str, other: Interpreter | None) -> tuple[list[str], dict[str, str]]:
    """How a worker is started: under the network's ``own`` interpreter, or under the mod's."""
    if other is None:
        return worker_command(own), worker_environment(os.environ)
    return other.command, foreign_environment(os.environ)


def worker_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """The part of ``environ`` that workers inherit. A mod's own ``env`` reaches it over the pipe, and nobody else."""
    return {
        name: value for name, value in environ.items() if name in _INHERITED or name.startswith(_INHERITED_PREFIXES)
    }


# What is meant for the network's own interpreter, and leads another one astray.
_OF_OURS = frozenset(
    {"PYTHONHOME", "PYTHONPATH", "PYTHONUSERBASE", "PYTHONPLATLIBDIR", "PYTHONEXECUTABLE", "VIRTUAL_ENV"}
)


def foreign_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """The part that a worker under an interpreter of its own inherits."""
    return {name: value for name, value in worker_environment(environ).items() if name not in _OF_OURS}


def worker_command(python: str = sys.executable) -> list[str]:
    """The command of a worker, but for the numbers of its descriptors."""
    # -P: neither the working directory nor a stray modvisor/ in it decides what the worker runs
    return [python, "-P", "-m", "modvisor.worker"]


async def probe(python: Path) -> Interpreter:
    """Ask an interpreter what it is; what is known of one that has not changed since is not asked again.

    Raises:
        BadPython: it does not run, is too old, or has a msgpack that is.
    """
    return await anyio.to_thread.run_sync(_probe, python)


def _probe(python: Path) -> Interpreter:
    try:
        return _examined(python, _mark(python), _mark(python.parent.parent / "pyvenv.cfg", missing=True))
    except OSError as error:
        raise BadPython(f"the interpreter {python} cannot be run: {error.strerror}") from None


def _mark(file: Path, *, missing: bool = False) -> tuple[int, int, int]:
    """Which file it is, and of when."""
    try:
        found = os.stat(file)
    except FileNotFoundError:
        if missing:
            return 0, 0, 0
        raise
    return found.st_dev, found.st_ino, found.st_mtime_ns


@lru_cache(maxsize=256)
def _examined(python: Path, _mark: tuple[int, int, int], _venv: tuple[int, int, int]) -> Interpreter:
    version, packs = _answer(python)
    shown = ".".join(map(str, version))
    if version < (*OLDEST, 0):
        raise BadPython(
            f"the interpreter {python} is Python {shown}; a mod needs {'.'.join(map(str, OLDEST))} or newer",
            python=shown,
        )
    if packs is not None and packs < OLDEST_MSGPACK:
        raise BadPython(
            f"the environment of {python} has msgpack {'.'.join(map(str, packs))}; a mod needs "
            f"{'.'.join(map(str, OLDEST_MSGPACK))} or newer there, or none at all (then it gets the network's)"
        )
    return Interpreter(python, shown)


def _answer(python: Path) -> tuple[tuple[int, ...], tuple[int, ...] | None]:
    """Its version, and that of its msgpack."""
    try:
        done = subprocess.run(
            [str(python), "-c", _PROBE],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=TRIAL,
            cwd="/",
            env=foreign_environment(os.environ),
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise BadPython(f"the interpreter {python} did not answer within {TRIAL:g} s") from None
    try:
        version, packs = json.loads(done.stdout.splitlines()[-1])
        return tuple(map(int, version)), None if packs is None else tuple(map(int, packs))
    except (ValueError, TypeError, IndexError):  # no Python, or one that falls over its own environment
        how = f"exit code {done.returncode}" if done.returncode >= 0 else f"signal {-done.returncode}"
        said = (done.stderr or done.stdout).strip()[-1000:]
        raise BadPython(f"{python} is no Python that runs ({how}): {said or 'it said nothing'}", log=said) from None


@lru_cache(maxsize=1)
def msgpack_folder() -> str:
    """The folder that holds the network's own msgpack."""
    spec = find_spec("msgpack")
    assert spec is not None
    assert spec.origin is not None
    return str(Path(spec.origin).parent.parent)
