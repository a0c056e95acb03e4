"""Guardians for the tests, forked from one process that has imported all they need: each costs 5 ms instead of 150.

A network starts a guardian of its own, so nearly every test with a mod waited for the start of a Python and its imports.
Here a template does that once for each process of the tests. A guardian that is forked from it is one like any other: a
process of its own and a child of the network's process, since the kernel makes it a sibling of the template
(``CLONE_PARENT``). Guardians that preload something for mods of OpenAgents, a second's work, come from a template that has
imported all of these mods. A guardian that begins otherwise is started as usual: one that preloads other modules, runs under
another interpreter or has other variables for Python. Tests about guardians ask for ``started_guardians``; networks in
processes of their own use none of this.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from modvisor.ipc.launching import AHEAD
from modvisor.worker.guardian import clone
from tests.openagents.script import MODS

TEMPLATE = Path(__file__).with_name("guardian_template.py")
COMMAND = [sys.executable, "-P", "-m", "modvisor.worker.guardian"]

OPENAGENTS = (f"{AHEAD}modvisor.worker.hosts.openagents.warm", *(f"{AHEAD}{path}.mod" for path in MODS))
"""What guardians preload if a network file names all mods of OpenAgents."""

templates: set[int] = set()
"""The templates' pids: children of this process that no network started."""

template_sockets: set[int] = set()
"""The descriptors of the ways to templates. They stay open, whichever test needs a template first."""

stand_ins: set[str] = set()
"""Programs of tests that stand in for this Python, and start a guardian as it does."""


class Template:
    """The process that guardians are forked from, and the way to it.

    Args:
        modules: what it imports besides, as a guardian that preloads them.
    """

    def __init__(self, modules: tuple[str, ...] = ()) -> None:
        self._sock, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        template_sockets.add(self._sock.fileno())
        self._turn = threading.Lock()
        self._variables = _of_python(os.environ)
        with theirs:
            # The last words are what a guardian's own arguments would be: workers write over them.
            command = [sys.executable, "-P", str(TEMPLATE), str(theirs.fileno()), *modules, "modvisor.worker.guardian"]
            self._process = subprocess.Popen(command, pass_fds=[theirs.fileno()], start_new_session=True)

    @property
    def pid(self) -> int:
        return self._process.pid

    def fits(self, environment: Mapping[str, str]) -> bool:
        return _of_python(environment) == self._variables

    def fork(self, args: list[str], control: int, stderr: int, environment: Mapping[str, str]) -> int:
        with self._turn:
            modules = args[len(COMMAND) + 2 :]
            order = json.dumps({"supervisor": os.getpid(), "environment": dict(environment), "modules": modules})
            socket.send_fds(self._sock, [order.encode()], [control, stderr])
            return int(self._sock.recv(100))

    def close(self) -> None:
        self._sock.shutdown(socket.SHUT_RDWR)  # a forked process may hold a copy of this end
        template_sockets.discard(self._sock.fileno())
        self._sock.close()
        self._process.wait()


def _of_python(environment: Mapping[str, str]) -> dict[str, str]:
    """Variables that Python reads when it starts."""
    return {name: value for name, value in environment.items() if name.startswith("PYTHON")}


class Templates:
    """The templates of this process, by what they have imported. Each is started when it is first needed."""

    def __init__(self) -> None:
        self._turn = threading.Lock()
        self._found: dict[tuple[str, ...], Template] = {}

    def for_guardian(self, args: list[str], environment: Mapping[str, str]) -> Template | None:
        """Return the template for a guardian with these arguments; None if it must be started as usual."""
        asked = args[len(COMMAND) + 2 :]
        is_usual = args[0] in {COMMAND[0], *stand_ins} and args[1 : len(COMMAND)] == COMMAND[1:]
        if not (is_usual and all(name.startswith((AHEAD, "openagents")) for name in asked)):
            return None
        modules = OPENAGENTS if asked else ()
        with self._turn:
            if modules not in self._found:
                self._found[modules] = Template(modules)
                templates.add(self._found[modules].pid)
        template = self._found[modules]
        return template if template.fits(environment) else None

    def close(self) -> None:
        for template in self._found.values():
            template.close()


class ForkedPopen(subprocess.Popen[bytes]):
    """As of a program that was started, for a process that was forked."""

    def __init__(self, template: Template, args: list[str], control: int, environment: Mapping[str, str]) -> None:
        read, write = os.pipe()
        try:
            self.pid = template.fork(args, control, write, environment)
        finally:
            os.close(write)
        self.args = args
        self.returncode = None
        self.stdin = self.stdout = None
        self.stderr = open(read, "rb")  # noqa: SIM115 - whoever has the process closes it
        self._child_created = True
        self._waitpid_lock = threading.Lock()


@contextmanager
def forked_guardians() -> Iterator[None]:
    """Have the networks of this process get their guardians from a template."""
    found = Templates()

    def popen(args: list[str], *, pass_fds: list[int], env: Mapping[str, str], **how: Any) -> subprocess.Popen[bytes]:
        if (template := found.for_guardian(args, env)) is not None:
            return ForkedPopen(template, args, pass_fds[0], env)
        return subprocess.Popen(args, pass_fds=pass_fds, env=env, **how)

    stand_in = SimpleNamespace(Popen=popen, DEVNULL=subprocess.DEVNULL, PIPE=subprocess.PIPE)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("modvisor.supervisor.process.guardian_process.subprocess", stand_in)
        yield
    found.close()


def is_possible() -> bool:
    """Whether this system can fork siblings as it is done here."""
    return sys.platform == "linux" and clone._is_glibc() and os.uname().machine in clone._ROBUST_LIST
