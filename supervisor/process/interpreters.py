"""The interpreter of a worker: the network's own, or one that the mod asks for, which is probed
first.

A virtual environment of a mod needs nothing of modvisor: see ``worker/bootstrap.py``.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

import anyio.to_thread

from ...ipc.errors import Code, ModvisorError
from .descriptors import is_shortage
from .programs import Program

OLDEST = (3, 11)
OLDEST_MSGPACK = (1, 0)
"""Older ones encode times differently."""

TRIAL = 5.0
"""Seconds an interpreter has to report its version: twenty times what a cold start takes."""

# Python 2 can run it too, so that it reports its version.
_PROBE = """
import json, sys
try:
    import msgpack
    packs = list(msgpack.version)[:2]
except ImportError:
    packs = None
print(json.dumps([list(sys.version_info[:3]), packs]))
"""

_VERSION = re.compile(r"^version(?:_info)?\s*=\s*(\d{1,3}\.\d{1,3}(?:\.\d{1,3})?)", re.MULTILINE)
_NAMED = re.compile(r"python(\d{1,3}\.\d{1,3})")

BOOTSTRAP = Path(__file__).parents[2] / "worker" / "bootstrap.py"


# What a worker inherits of the supervisor's environment: enough to run Python, and no secrets.
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
        """The command of a worker, without the numbers of its descriptors."""
        # -P: do not import from the folder of the bootstrap file
        return [str(self.path), "-P", str(BOOTSTRAP), "modvisor.worker", msgpack_folder()]


def command_and_environment(own: str, other: Interpreter | Program | None) -> tuple[list[str], dict[str, str]]:
    """Return how to start a worker under the network's ``own`` interpreter, the mod's, or as a program of its own."""
    if other is None:
        return worker_command(own), worker_environment(os.environ)
    return other.command, foreign_environment(os.environ)


def worker_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the part of ``environ`` that workers inherit.

    A mod's own ``env`` is not in it: that reaches only this mod, over the pipe.
    """
    # The values of the others are not decoded.
    return {name: environ[name] for name in environ if name in _INHERITED or name.startswith(_INHERITED_PREFIXES)}


# Variables for the network's own interpreter, which would lead another one astray.
_OF_OURS = frozenset(
    {"PYTHONHOME", "PYTHONPATH", "PYTHONUSERBASE", "PYTHONPLATLIBDIR", "PYTHONEXECUTABLE", "VIRTUAL_ENV"}
)


def foreign_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the part that a worker under another interpreter inherits."""
    return {name: value for name, value in worker_environment(environ).items() if name not in _OF_OURS}


def worker_command(python: str = sys.executable) -> list[str]:
    """Return the command of a worker, without the numbers of its descriptors."""
    # -P: do not import from the working directory, where a stray modvisor/ may lie
    return [python, "-P", "-m", "modvisor.worker"]


async def probe(python: Path) -> Interpreter:
    """Run an interpreter to learn its version. The answer is remembered until the file changes.

    Raises:
        BadPython: the interpreter does not run or is too old, or its msgpack is too old.
        OSError: this process has no descriptors, processes or memory left.
    """
    return await anyio.to_thread.run_sync(_probe, python)


def unprobed(python: Path) -> Interpreter:
    """Return an interpreter without running it, for one that is not trusted outside of its mod's cell.

    Its version is what its virtual environment says, or its name; ``?`` if neither does.

    Raises:
        BadPython: it is no executable file.
    """
    if not os.access(python, os.X_OK) or not os.path.isfile(python):
        raise BadPython(f"the interpreter {python} is not an executable file")
    return Interpreter(python, _said_version(python))


def _said_version(python: Path) -> str:
    with suppress(OSError, UnicodeDecodeError):
        text = (python.parent.parent / "pyvenv.cfg").read_text("utf-8")
        if (found := _VERSION.search(text)) is not None:
            return found[1]
    name = _NAMED.fullmatch(os.path.basename(os.path.realpath(python)))
    return name[1] if name is not None else "?"


def _probe(python: Path) -> Interpreter:
    try:
        return _examined(python, _mark(python), _mark(python.parent.parent / "pyvenv.cfg", missing=True))
    except OSError as error:
        if is_shortage(error):  # not the interpreter's fault
            raise
        raise BadPython(f"the interpreter {python} cannot be run: {error.strerror}") from None


def _mark(file: Path, *, missing: bool = False) -> tuple[int, int, int]:
    """Return what identifies a file and its last change."""
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
    """Return its version, and the version of its msgpack or None."""
    code, out, errors = _run(python)
    try:
        version, packs = json.loads(out.splitlines()[-1])
        return tuple(map(int, version)), None if packs is None else tuple(map(int, packs))
    except (ValueError, TypeError, IndexError):  # it is no Python, or its environment breaks it
        how = f"exit code {code}" if code >= 0 else f"signal {-code}"
        said = (errors or out).strip()[-1000:]
        raise BadPython(f"{python} is no Python that runs ({how}): {said or 'it said nothing'}", log=said) from None


def _run(python: Path) -> tuple[int, str, str]:
    """Run the probe. Return its exit code and what it printed. Nothing of one that hangs is left."""
    with subprocess.Popen(
        [str(python), "-c", _PROBE],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        cwd="/",
        env=foreign_environment(os.environ),
        start_new_session=True,
    ) as process:
        try:
            out, errors = process.communicate(timeout=TRIAL)
        except subprocess.TimeoutExpired:
            message = f"the interpreter {python} did not report its version within {TRIAL:g} s"
            raise BadPython(f"{message}; try it by hand: {python} --version") from None
        finally:
            with suppress(ProcessLookupError):  # a script may have started others
                os.killpg(process.pid, signal.SIGKILL)
    return process.returncode, out, errors


@lru_cache(maxsize=1)
def msgpack_folder() -> str:
    """Return the folder that holds the network's own msgpack."""
    spec = find_spec("msgpack")
    assert spec is not None
    assert spec.origin is not None
    return str(Path(spec.origin).parent.parent)
