"""``python -m tests.warm_template FD``: fork Pythons as asked on the socket FD. See `tests.warm`, which starts it."""

from __future__ import annotations

import gc
import importlib
import io
import os
import pkgutil
import runpy
import signal
import socket
import sys
import types
from functools import cache
from typing import Any

import typer.main

from modvisor.supervisor import cli
from modvisor.supervisor.cli.app import app
from modvisor.worker.guardian.forked import leave

from .guardian_template import serve

STANDARD = (0, 1, 2)
NEEDED_LATE = ("anyio._backends._asyncio", "httpx", "uvloop", "watchfiles")


def main() -> None:
    import_all()
    sock = socket.socket(fileno=int(sys.argv[1]))
    sock.set_inheritable(False)
    ours = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]
    usual = {signum: signal.signal(signum, signal.SIG_IGN) for signum in ours}  # those of a terminal: the tests end us
    work = serve(sock)
    if work is not None:
        order, fds = work
        for signum, handler in usual.items():
            signal.signal(signum, handler)
        become(order, fds)
        finish(run(order["words"], order["folder"]))


def import_all() -> None:
    """Import once what the command and a network import, and build the command."""
    for found in pkgutil.walk_packages(cli.__path__, f"{cli.__name__}."):
        if not found.name.endswith("__main__"):
            importlib.import_module(found.name)
    for name in NEEDED_LATE:
        importlib.import_module(name)
    typer.main.get_command = cache(typer.main.get_command)  # typer builds the program anew for each command
    typer.main.get_command(app)
    gc.collect()
    gc.freeze()


def become(order: dict[str, Any], fds: list[int]) -> None:
    """Take over the streams, the working directory and the variables that a new process would have."""
    for fd, standard in zip(fds, STANDARD, strict=True):
        os.dup2(fd, standard)
        os.close(fd)
    os.environ.clear()
    os.environ.update(order["environment"])
    os.chdir(order["folder"])
    sys.dont_write_bytecode = bool(os.environ.get("PYTHONDONTWRITEBYTECODE"))
    sys.stdin = open(0, closefd=False)  # noqa: SIM115 - open as long as the process lives
    sys.stdout = _stream(1, "strict", by_line=os.isatty(1))
    sys.stderr = _stream(2, "backslashreplace", by_line=True)
    sys.__stdin__, sys.__stdout__, sys.__stderr__ = sys.stdin, sys.stdout, sys.stderr


def _stream(fd: int, errors: str, *, by_line: bool) -> io.TextIOWrapper:
    at_once = bool(os.environ.get("PYTHONUNBUFFERED"))
    raw = open(fd, "wb", 0 if at_once else -1, closefd=False)  # noqa: SIM115 - as above
    return io.TextIOWrapper(raw, errors=errors, line_buffering=by_line, write_through=at_once)


def run(words: list[str], folder: str) -> int:
    """Run what follows ``python`` on a command line: ``-m MODULE …`` or ``-c CODE …``. Return its status."""
    how, what, *rest = words
    sys.argv = [how, *rest]
    sys.path[0] = folder if how == "-m" else ""
    try:
        if how == "-m":
            runpy.run_module(what, run_name="__main__", alter_sys=True)
        else:
            main_module = types.ModuleType("__main__")
            sys.modules["__main__"] = main_module
            exec(compile(what, "<string>", "exec"), main_module.__dict__)
    except SystemExit as end:
        if isinstance(end.code, str):
            raise
        return int(end.code or 0)
    return 0


def finish(status: int) -> None:
    """End as a worker does that was forked: finalizing would copy all memory that is shared with the template.

    What the collector would end, and complain of, at the end of a program is ended before.
    """
    gc.collect()
    try:
        sys.stdout.flush()
    except (OSError, ValueError):
        sys.exit(status)
    leave(status)


if __name__ == "__main__":
    main()
