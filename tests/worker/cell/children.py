"""Runs a function in a forked child, whose confinement ends with it, and returns what it returned."""

from __future__ import annotations

import ctypes
import encodings.idna  # noqa: F401 - as another user a child may not be able to import
import os
import pickle
import signal
import sys
from collections.abc import Callable
from typing import Any

import pytest

from modvisor.worker.guardian.clone import fork_apart

NOBODY = 65534
_PR_SET_DUMPABLE, _PR_SET_NO_NEW_PRIVS = 4, 38

_HOOKS = (
    ("opentelemetry.sdk._shared_internal", "BatchProcessor", "_at_fork_reinit"),
    ("opentelemetry.sdk.trace", "TracerProvider", "_handle_fork"),
)

_libc = ctypes.CDLL(None, use_errno=True)


def in_child(step: Callable[[], Any], *, user: int = 0) -> Any:
    """Return what ``step`` returns in a child of its own, which has one thread; raise what it raises.

    Args:
        user: the user that the child is, if this process is root.
    """
    _keep_telemetry_from_threads()
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.close(reading)
            _become(user)
            answer = True, step()
        except pytest.skip.Exception as skipped:
            answer = None, str(skipped)
        except BaseException as error:  # noqa: BLE001 - the parent raises it
            answer = False, error
        try:
            os.write(writing, pickle.dumps(answer))
        except BaseException as error:  # noqa: BLE001 - what cannot be told as it is
            os.write(writing, pickle.dumps((False, AssertionError(f"{answer!r} cannot be told: {error!r}"))))
        finally:
            os._exit(0)
    os.close(writing)
    with open(reading, "rb") as file:
        data = file.read()
    _, status = os.waitpid(pid, 0)
    if not data:
        return os.waitstatus_to_exitcode(status)
    good, found = pickle.loads(data)
    if good is None:
        pytest.skip(found)
    if not good:
        raise found
    return found


def _keep_telemetry_from_threads() -> None:
    """Have OpenTelemetry start no threads in forked children.

    It starts some for each provider and each processor that there ever was in this process, closed ones
    included. With a second thread unshare(2) gives no user namespace, and a fork past the C library finds
    a lock that nobody opens.
    """
    for module, kind, hook in _HOOKS:
        if module in sys.modules:
            getattr(getattr(sys.modules[module], kind), hook).__code__ = _do_nothing.__code__


def _do_nothing(provider: object) -> None: ...


def _become(user: int) -> None:
    if user and os.geteuid() == 0:
        os.setgroups([])
        os.setgid(user)
        os.setuid(user)
        _libc.prctl(_PR_SET_DUMPABLE, 1, 0, 0, 0)  # as a process that was started by this user


def live_apart(flags: int) -> None:
    """Go on as a child in namespaces of its own, as a warden begins; the error says why the system gives this user none."""
    pid = fork_apart(flags, hooks=True)
    if not pid:
        return
    end = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if end < 0:
        signal.signal(-end, signal.SIG_DFL)
        os.kill(os.getpid(), -end)
    os._exit(end)


def no_new_privs() -> None:
    _libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)


def errno_of(step: Callable[[], Any]) -> int:
    """Return with which errno a step fails; 0: it does not."""
    try:
        step()
    except OSError as error:
        return error.errno or -1
    return 0


def call(number: int, *arguments: int) -> int:
    """Make a system call. Return its errno; 0: it was made."""
    ctypes.set_errno(0)
    result = _libc.syscall(ctypes.c_long(number), *(ctypes.c_long(each) for each in arguments))
    return ctypes.get_errno() if result == -1 else 0
