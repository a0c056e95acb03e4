"""Pythons for the tests, forked from one process that has imported modvisor: each costs 10 ms instead of 500.

`Popen` and `run` are as those of `subprocess`, for commands that begin with this Python and ``-m MODULE`` or ``-c CODE``.
The new process is a real one and our own child; only its start differs. So tests of the start itself (what it imports,
how long it takes, which variables of Python it reads) use `subprocess`, and so does a command that cannot be forked:
another Python, other variables that Python reads at its start, descriptors to pass on.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.guardians import is_possible, template_sockets, templates

ROOT = Path(__file__).parent.parent
READ_AT_START = ("PYTHON", "LC_", "LANG", "MALLOC_")
TAKEN_OVER = ("PYTHONUNBUFFERED", "PYTHONDONTWRITEBYTECODE")  # a fork does as they say, too
HOW = {"stdin", "stdout", "stderr", "cwd", "env"}


class Template:
    """The process that Pythons are forked from, and the way to it."""

    def __init__(self) -> None:
        self._sock, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        template_sockets.add(self._sock.fileno())
        self.variables = read_at_start(os.environ)
        with theirs:
            command = [sys.executable, "-m", "tests.warm_template", str(theirs.fileno())]
            self._process = subprocess.Popen(command, pass_fds=[theirs.fileno()], cwd=ROOT, stdin=subprocess.DEVNULL)
        templates.add(self._process.pid)

    def fork(self, words: list[str], folder: str, environment: Mapping[str, str], fds: list[int]) -> int:
        order = {"words": words, "folder": folder, "environment": dict(environment)}
        try:
            socket.send_fds(self._sock, [json.dumps(order).encode()], fds)
            return int(self._sock.recv(100))
        except BaseException:  # a test's timeout, say: the next command would take this one's answer for its own
            close()
            raise

    def close(self) -> None:
        self._sock.shutdown(socket.SHUT_RDWR)  # a forked process may hold a copy of this end
        template_sockets.discard(self._sock.fileno())
        self._sock.close()
        self._process.wait()
        templates.discard(self._process.pid)


_template: list[Template] = []


def the_template() -> Template:
    """The template, which the first command starts."""
    if not _template:
        _template.append(Template())
    return _template[0]


def close() -> None:
    """End the template, if one was started."""
    while _template:
        _template.pop().close()


def read_at_start(environment: Mapping[str, str]) -> dict[str, str]:
    """The variables that Python or its C library reads when it starts. Without LANG it is as below (PEP 538)."""
    read = {name: value for name, value in environment.items() if name.startswith(READ_AT_START)}
    return {"LANG": "C.UTF-8"} | {name: value for name, value in read.items() if name not in TAKEN_OVER}


class Popen(subprocess.Popen[str]):
    """As `subprocess.Popen` in text mode; forked where that gives the same process."""

    def __init__(self, args: list[Any], **how: Any) -> None:
        can_fork = is_possible() and args[0] == sys.executable and args[1] in ("-m", "-c") and set(how) <= HOW
        environment = dict(os.environ if how.get("env") is None else how["env"])
        self._template = the_template() if can_fork else None
        if self._template is not None and self._template.variables != read_at_start(environment):
            self._template = None
        self._order = ([str(word) for word in args[1:]], os.path.abspath(how.get("cwd") or "."), environment)
        super().__init__(args, text=True, **how)

    def _execute_child(self, *given: Any) -> None:
        """Fork in place of starting; the pipes are made and closed by the class above."""
        if self._template is None:
            super()._execute_child(*given)  # type: ignore[misc]
            return
        p2cread, _, _, c2pwrite, _, errwrite = pipes = given[10:16]
        fds = [own if fd == -1 else fd for own, fd in enumerate((p2cread, c2pwrite, errwrite))]
        self.pid = self._template.fork(*self._order, fds)
        self._child_created = True
        self._close_pipe_fds(*pipes)  # type: ignore[attr-defined]


def run_pytest(*words: str, folder: Path, timeout: float) -> subprocess.CompletedProcess[str]:
    """Run pytest with these words in a folder. Its plugin of anyio is there before its assertions can be rewritten."""
    options = ["-q", "-p", "no:cacheprovider", "-W", "ignore::pytest.PytestAssertRewriteWarning"]
    return run([sys.executable, "-m", "pytest", *words, *options], cwd=folder, timeout=timeout)


def run(args: list[str], *, timeout: float, **how: Any) -> subprocess.CompletedProcess[str]:
    """As `subprocess.run` in text mode with captured output."""
    with Popen(args, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **how) as process:
        try:
            out, err = process.communicate(timeout=timeout)
        finally:
            process.kill()
    return subprocess.CompletedProcess(args, process.returncode, out, err)
