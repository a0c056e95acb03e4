"""Signals as a fresh process has them, whatever the supervisor was started with.

A process inherits ignored signals and its mask from the one that starts it: ``nohup`` ignores SIGHUP, and a shell that
starts a command in the background ignores SIGINT and SIGQUIT. A mod must not depend on how its network was started.
"""

from __future__ import annotations

import signal

_KEPT = {signal.SIGKILL, signal.SIGSTOP, signal.SIGPIPE, signal.SIGXFSZ}
"""Two that cannot be changed, and two that Python itself ignores in every program."""


def restore_defaults() -> None:
    """Give every signal the handler of a fresh interpreter, and block none."""
    signal.set_wakeup_fd(-1)
    for signum in signal.valid_signals() - _KEPT:
        if signal.getsignal(signum) not in (signal.SIG_DFL, None):  # None: faulthandler's, which stays
            signal.signal(signum, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
