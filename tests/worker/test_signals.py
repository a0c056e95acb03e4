"""A worker begins with the signals of a fresh interpreter, in a real process."""

from __future__ import annotations

import subprocess
import sys

RESTORES = """
import signal
signal.signal(signal.SIGHUP, signal.SIG_IGN)
signal.signal(signal.SIGINT, signal.SIG_IGN)
signal.signal(signal.SIGTERM, lambda *_: None)
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
from modvisor.worker.signals import restore_defaults
restore_defaults()
print(signal.getsignal(signal.SIGHUP).name, signal.getsignal(signal.SIGTERM).name, signal.getsignal(signal.SIGPIPE).name)
print(signal.getsignal(signal.SIGINT) is signal.default_int_handler, signal.pthread_sigmask(signal.SIG_BLOCK, []))
"""


def test_inherited_signals_are_restored() -> None:
    done = subprocess.run([sys.executable, "-c", RESTORES], capture_output=True, text=True, timeout=30, check=True)
    assert done.stdout == "SIG_DFL SIG_DFL SIG_IGN\nTrue set()\n"
