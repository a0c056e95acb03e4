"""Give a worker the signal handlers of a fresh process, however its network was started.

A process inherits ignored signals and the signal mask from its parent. ``nohup`` ignores SIGHUP,
and a shell that starts a command in the background ignores SIGINT and SIGQUIT. A mod must not
depend on that.
"""

from __future__ import annotations

import signal

_KEPT = {signal.SIGKILL, signal.SIGSTOP, signal.SIGPIPE, signal.SIGXFSZ}
"""Two signals that cannot be handled, and two that Python itself ignores in every program."""


def restore_defaults() -> None:
    """Give every signal the handler of a fresh interpreter, and block none."""
    signal.set_wakeup_fd(-1)
    for signum in signal.valid_signals() - _KEPT:
        if signal.getsignal(signum) not in (signal.SIG_DFL, None):  # None: faulthandler's; it stays
            signal.signal(signum, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
