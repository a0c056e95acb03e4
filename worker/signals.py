"""Give a worker the signal handlers of a fresh process, however its network was started.

A process inherits ignored signals and the signal mask from its parent. ``nohup`` ignores SIGHUP,
and a shell that starts a command in the background ignores SIGINT and SIGQUIT. A mod must not
depend on that.
"""

from __future__ import annotations

import signal
from collections.abc import Iterable

_KEPT = {signal.SIGKILL, signal.SIGSTOP, signal.SIGPIPE, signal.SIGXFSZ}
"""Two signals that cannot be handled, and two that Python itself ignores in every program."""


def handled() -> tuple[int, ...]:
    """Return the signals that are handled, or ignored, in another way than in a fresh process."""
    others = signal.valid_signals() - _KEPT
    # None: faulthandler's; it stays.
    return tuple(signum for signum in others if signal.getsignal(signum) not in (signal.SIG_DFL, None))


def restore_defaults(which: Iterable[int] | None = None) -> None:
    """Give every signal the handler of a fresh interpreter, and block none.

    Args:
        which: what `handled` returned, if that is known.
    """
    signal.set_wakeup_fd(-1)
    for signum in handled() if which is None else which:
        signal.signal(signum, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
