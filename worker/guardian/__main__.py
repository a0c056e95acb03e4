"""``python -m modvisor.worker.guardian FD PID [MODULE...]``: start workers for the supervisor PID.

The guardian is a small process that does nothing but fork. Its orders come over the socket FD. For
each order it forks a warden (see `warden`). The warden forks the worker, for which all that it
needs was imported here, once; or it starts the worker under an interpreter of its own. The warden
is the worker's parent, and talks to the supervisor over a socket of its own. It outlives the
guardian: the guardian's death disturbs no worker, and the supervisor starts a new guardian when it
needs one. A fork from here costs a millisecond, and inherits none of the supervisor's memory,
descriptors, locks and threads.

The guardian is the subreaper above the wardens. When a warden is killed, the processes of its tree
that the lifeline does not reach become children of the guardian. So a child of the guardian that is
not a warden is left over from a dead warden, and the guardian kills it.

The guardian ends when its socket or the supervisor ends, but after its wardens. They have noticed
the same end, and kill their trees.
"""

from __future__ import annotations

from . import openssl  # noqa: F401 - for its effect, before anything below imports hashlib

# isort: split
import gc
import importlib
import os
import select
import signal
import socket
import sys
import threading
import time
import traceback
from array import array
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from functools import lru_cache
from pathlib import Path

from ...ipc.cell import HIDDEN
from ...ipc.launching import (
    AHEAD,
    MAX_SIZE,
    ORDER_FDS,
    SUPERVISOR_NICE,
    Hide,
    Imported,
    Importing,
    Order,
    decode,
    encode,
)
from .. import marking
from ..ahead import import_ahead
from ..cell import seccomp
from ..cell.capabilities import leave_bounding_set
from ..cell.mounts import devices
from ..signals import restore_defaults
from ..sources import installed_folders
from . import tree
from .arrivals import Arrivals
from .clone import adopt_orphans, continue_with_parent, fork_without_hooks
from .forked import Forked, leave, of_the_guardian, run
from .rehearsal import OPENAGENTS, rehearse
from .spaces import Spaces
from .warden import Deaths, not_started, serve

PATIENCE = 1.0
"""Seconds that wardens have to end their trees when the supervisor is gone. A warden that can run
at all needs less."""

_PASS = 0.05  # seconds between two looks at what is left

HOST = "modvisor.worker.hosts.openagents.host"
"""What hosts mods of OpenAgents. It is imported here if the network has such mods."""

COMMON = (
    "difflib", "json", "sqlite3", "unicodedata",
    *(f"modvisor.mods.workspace.{name}" for name in ("announce", "database", "fields", "paging", "store_mod")),
)  # fmt: skip
"""Modules that many mods import and no worker needs itself, imported here for all forked workers.
They are of the standard library (some builds of Python lack some), or shared by the bundled mods.
A mod's own code is never among them: each worker imports it afresh."""


class Guardian:
    """Forks wardens, reaps them, kills what dead wardens left."""

    def __init__(self, control: socket.socket, supervisor: int, fork: Callable[[], int], spaces: Spaces) -> None:
        self._control = control
        self._new_process = fork
        self._spaces = spaces
        self._supervisor = supervisor
        self._deaths = Deaths()
        self._arrivals = Arrivals()
        self._poll = select.poll()
        self._wardens: set[int] = set()
        self._environment: dict[bytes, bytes] | None = None  # of the workers forked last

    def serve(self) -> None:
        """Obey until the supervisor is gone or closes the socket."""
        for fd in (self._control.fileno(), self._deaths.fd, self._supervisor):
            if fd >= 0:
                self._poll.register(fd, select.POLLIN)
        while True:
            for fd, _ in self._poll.poll(None if self._clean() else 1000 * _PASS):
                if fd == self._arrivals.fd:
                    self._tell_wardens()
                elif fd == self._supervisor or (fd == self._control.fileno() and not self._take()):
                    return

    def _take(self) -> bool:
        """Carry out one order. Return False at the end of the socket."""
        data, fds = _receive(self._control)
        if not data:
            return False
        try:
            message = decode(data)
            if isinstance(message, Hide):
                self._watch(message.paths)
            else:
                assert isinstance(message, Order)
                self._obey(message, fds)
        finally:
            for fd in fds:
                os.close(fd)
        return True

    def _obey(self, order: Order, fds: list[int]) -> None:
        if not order.argv:
            self._have_environment(order.env)
        if order.cell is not None and order.cell.files == HIDDEN:
            self._watch(order.cell.hidden)
        self._fork(order, fds)

    def _watch(self, hidden: Sequence[bytes]) -> None:
        if self._arrivals.watch(hidden):
            self._poll.register(self._arrivals.fd, select.POLLIN)

    def _tell_wardens(self) -> None:
        self._arrivals.forget()
        for warden in self._wardens:
            with suppress(ProcessLookupError):
                os.kill(warden, signal.SIGHUP)

    def _have_environment(self, wanted: dict[bytes, bytes]) -> None:
        """Set the variables here for all workers that are forked, instead of in each of them."""
        if wanted != self._environment:
            os.environb.clear()
            os.environb.update(wanted)
            self._environment = wanted

    def _fork(self, order: Order, fds: list[int]) -> None:
        try:
            space = self._spaces.of(order.cell)
            warden = self._spaces.fork(space) if space.flags else self._new_process()
        except OSError as error:
            with socket.socket(fileno=os.dup(fds[0])) as warden:
                warden.send(encode(not_started(error)))
            return
        if warden:
            self._wardens.add(warden)
            return
        status = 1
        try:
            self._control.close()
            self._deaths.close()
            self._arrivals.close()
            serve(order, fds, self._supervisor, space)
            status = 0
        except Forked:
            fds.clear()  # the warden has closed them
            raise
        except BaseException:  # noqa: BLE001 - a warden must never return into the guardian's loop
            with suppress(BaseException):  # the supervisor, which reads it, may be gone
                traceback.print_exc()
        os._exit(status)

    def _clean(self) -> bool:
        """Reap children, and kill what dead wardens left. Return whether nothing was left."""
        self._deaths.forget()
        try:
            while ended := os.waitpid(-1, os.WNOHANG)[0]:
                self._wardens.discard(ended)
        except ChildProcessError:
            return True
        if not self._left():
            return True
        tree.kill(lambda: [pid for root in self._left() for pid in (root, *tree.below(root))])
        return False

    def _left(self) -> list[int]:
        return [child for child in tree.children(os.getpid()) if child not in self._wardens]

    def end(self) -> None:
        """Wait for the wardens to end, then kill what is left."""
        for warden in self._wardens:
            os.kill(warden, signal.SIGCONT)  # in case it was stopped
        deadline = time.monotonic() + PATIENCE
        while not self._clean() or self._wardens:
            if time.monotonic() > deadline:
                for warden in self._wardens:
                    os.kill(warden, signal.SIGKILL)
            self._deaths.wait(_PASS)


def _receive(control: socket.socket) -> tuple[bytes, list[int]]:
    """Return a message and its descriptors. Unlike `socket.recv_fds`, close them on exec."""
    size = socket.CMSG_LEN(ORDER_FDS * array("i").itemsize)
    data, ancillary, _, _ = control.recvmsg(MAX_SIZE, size, socket.MSG_CMSG_CLOEXEC)
    fds = array("i")
    for level, kind, content in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            fds.frombytes(content[: len(content) - len(content) % fds.itemsize])
    return data, fds.tolist()


def _take_the_usual_share() -> None:
    """Give up the larger share of the processor that the supervisor took for itself."""
    if os.getpriority(os.PRIO_PROCESS, 0) == SUPERVISOR_NICE:
        os.setpriority(os.PRIO_PROCESS, 0, 0)


def main(control: socket.socket, supervisor: int, modules: list[str]) -> None:
    """Serve the supervisor whose pid is ``supervisor``. Its workers find ``modules`` imported."""
    restore_defaults()
    _take_the_usual_share()
    for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGQUIT):
        signal.signal(signum, signal.SIG_IGN)  # meant for the supervisor, which ends us
    Deaths.listen()
    os.chdir("/")
    adopt_orphans()
    continue_with_parent()
    watched = os.pidfd_open(supervisor) if os.getppid() == supervisor else -1
    if os.getppid() != supervisor:
        return  # the supervisor has died already
    prepare()
    leave_bounding_set()
    if modules:
        control.send(encode(import_all(modules, lambda name: control.send(encode(Importing(name))))))
        if HOST in sys.modules:
            rehearse(module=OPENAGENTS)
        settle()
    of_the_guardian()
    marking.wrap()  # here, because what each worker made anew would be memory of its own
    gc.collect()
    gc.freeze()  # the collector would touch, and so copy, every page that a warden shares with us
    gc.disable()
    # A module may have threads or locks that its own hooks take care of.
    hooks = bool(modules)
    guardian = Guardian(control, watched, os.fork if hooks else fork_without_hooks, Spaces(hooks=hooks))
    guardian.serve()
    guardian.end()


@lru_cache(maxsize=1)  # once for each process
def prepare() -> None:
    """Do what every worker would do, so that it is done before they are forked."""
    import_common()
    installed_folders()
    if os.geteuid() == 0:  # workers of root see some of them alone
        devices()
    seccomp.prepare()
    rehearse()


def import_common() -> None:
    for name in COMMON:
        with suppress(ImportError):
            importlib.import_module(name)


def import_all(names: Iterable[str], begin: Callable[[str], object] = lambda name: None) -> Imported:
    """Import modules that the config names. Return those that failed, and those that left threads.

    Args:
        begin: called with the name of each module before its import, which may never end.
    """
    failures, left = {}, {}
    for name in names:
        begin(name)
        before = threads()
        try:
            if name.startswith(AHEAD):
                import_ahead(name.removeprefix(AHEAD))
            else:
                importlib.import_module(name)
        except BaseException as error:  # noqa: BLE001 - importing runs their code
            if name.startswith(AHEAD):  # a load of the mod says what is wrong with it
                continue
            failures[name] = f"{type(error).__name__}: {error}"[:1000].encode("utf-8", "backslashreplace").decode()
        if started := {thread: text for thread, text in threads().items() if thread not in before}:
            left[name] = ", ".join(sorted(started.values()))[:1000]
    return Imported(failures, left)


def settle() -> None:
    """Fork once, into a child that ends at once, so that libraries have done what they do before a fork.

    OpenBLAS, say, stops its threads. A fork into namespaces or a cgroup is a system call of ours, of
    which the C library knows nothing: what libraries registered there (pthread_atfork(3)) does not run.
    """
    if (child := os.fork()) == 0:
        os._exit(0)
    os.waitpid(child, 0)


_SAFE = b"openblas"
"""Part of the name of a library that stops its threads before a fork, and starts them again later."""


def threads() -> dict[int, str]:
    """Return the threads that a fork would leave behind, by their number, with a name for people."""
    named = {thread.native_id: thread.name for thread in threading.enumerate()}
    numbers = {int(number) for number in os.listdir("/proc/self/task")} - {os.getpid()}
    native = numbers - named.keys()
    if native and _SAFE in Path("/proc/self/maps").read_bytes():
        numbers -= native
    return {number: named.get(number) or "a thread of native code" for number in numbers}


if __name__ == "__main__":
    if len(sys.argv) < 3 or not all(number.isdigit() for number in sys.argv[1:3]):
        sys.exit(
            "usage: python -m modvisor.worker.guardian FD PID [MODULE...]   (started by modvisor, with a connected socket)"
        )
    os.set_inheritable(int(sys.argv[1]), False)
    control = socket.socket(fileno=int(sys.argv[1]))
    try:
        main(control, int(sys.argv[2]), sys.argv[3:])
    except Forked as fresh:  # the warden has closed the socket
        forked = fresh
    else:
        control.close()
        leave(0)
    run(forked)
