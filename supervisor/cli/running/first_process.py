"""What the first process of a container owes the others: to take in orphans, and to pass signals on.

Whoever loses its parent becomes a child of process 1, which must collect it when it ends. A network
could not tell such children from its own. So process 1 stays as small as `tini`, and a child of it
runs the network. A container needs no init of its own then.
"""

from __future__ import annotations

import os
import signal
import sys
from contextlib import suppress
from typing import NoReturn

PASSED_ON = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2)
_FROM_TERMINAL = 0x80  # SI_KERNEL: Ctrl-C, which the terminal sends to the child as well


def fork_from_first() -> None:
    """Return in a child, if this is process 1. Process 1 never returns: it ends as its child ends.

    Call it before there are threads.
    """
    if os.getpid() != 1:
        return
    waited = {signal.SIGCHLD, *PASSED_ON}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, waited)
    sys.stdout.flush()
    child = os.fork()
    if child:
        _serve_others(child, waited)
    signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _serve_others(child: int, waited: set[signal.Signals]) -> NoReturn:
    while True:
        came = signal.sigwaitinfo(waited)
        if came.si_signo == signal.SIGCHLD:
            _collect(child)
        elif came.si_code != _FROM_TERMINAL:
            with suppress(ProcessLookupError):
                os.kill(child, came.si_signo)


def _collect(child: int) -> None:
    """Collect every process that has ended; end as the network did if it is one of them."""
    with suppress(ChildProcessError):
        while (ended := os.waitpid(-1, os.WNOHANG))[0]:
            if ended[0] == child:
                code = os.waitstatus_to_exitcode(ended[1])
                os._exit(code if code >= 0 else 128 - code)
