"""A worker that is a program of its own: a mod's Python, a worker in another language, `launch: exec`.

It is confined between fork and exec, since its first instruction may be the mod's.
"""

from __future__ import annotations

import os
import signal
from contextlib import suppress

import msgpack

from ...ipc.cell import as_report
from ...ipc.launching import NOT_CONFINED, Order
from ...ipc.messages import pack
from .. import limits
from ..cell.apply import confine
from ..cell.files import Files
from ..cell.last_exec import LastExec
from ..cell.refusal import NotEnforced
from ..signals import restore_defaults

MAX_SAID = 64 * 1024  # bytes


class NotBegun(Exception):
    """The program could not be started, or not be confined: errno and text as of an OSError."""

    def __init__(self, errno: int, text: str) -> None:
        super().__init__(errno, text)
        self.errno, self.text = errno, text


def begin(order: Order, sock: int, lifeline: int, output: int, dump: int, files: Files) -> tuple[int, dict[str, str]]:
    """Start the program in a session of its own, confined. Return its pid and the report.

    Raises:
        NotBegun, OSError: no process is left.
    """
    told, telling = os.pipe()
    try:
        pid = os.fork()
        if not pid:
            _become(order, [sock, lifeline, dump], output, files, telling)
    except OSError:
        os.close(told)
        raise
    finally:
        os.close(telling)
    with open(told, "rb", buffering=0) as file:
        said = file.readall()[:MAX_SAID]
    return pid, _report(pid, said)


def _become(order: Order, fds: list[int], output: int, files: Files, telling: int) -> None:
    """Be the program. Never returns."""
    try:
        os.setsid()
        null = os.open(os.devnull, os.O_RDONLY)
        for fd, standard in ((null, 0), (output, 1), (output, 2)):
            os.dup2(fd, standard)
        for fd in fds:
            os.set_inheritable(fd, True)
        restore_defaults()
        for signum in (signal.SIGPIPE, signal.SIGXFSZ):  # Python ignores them, other programs do not
            signal.signal(signum, signal.SIG_DFL)
        report, program = {}, LastExec(order.argv[0])
        if order.cell is not None:
            if files.space.is_roots:  # whose /proc is read-only from then on
                limits.offer_to_the_oom_killer()
            report = confine(order.cell, files, program)
        os.write(telling, pack({"report": report}))
        program.go([*order.argv, *(b"%d" % fd for fd in fds)], order.env)
    except NotEnforced as error:
        _tell(telling, NOT_CONFINED, str(error))
    except OSError as error:
        _tell(telling, error.errno or 0, f"{error.strerror}: {os.fsdecode(order.argv[0])}")
    finally:
        os._exit(127)


def _tell(telling: int, errno: int, text: str) -> None:
    with suppress(OSError):
        os.write(telling, pack({"errno": errno, "text": text}))


def _report(pid: int, said: bytes) -> dict[str, str]:
    """Return the report in what the child said before it became the program. Raise `NotBegun`."""
    answers = msgpack.Unpacker()
    answers.feed(said)
    report: dict[str, str] = {}
    for answer in answers:
        match answer:
            case {"report": found}:
                report = as_report(found)
            case {"errno": int(errno), "text": str(text)}:
                os.waitpid(pid, 0)
                raise NotBegun(errno, text)
    return report
