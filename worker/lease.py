"""``python lease.py ORDERS LINE``: the lease keeper, whose death ends the exclusive mods of a node.

A node of a cluster may run an exclusive mod only as long as its lease is renewed. The supervisor
renews it, but a supervisor that is stopped (SIGSTOP, a suspended machine) stops nothing. So the end
of the lease is left to the kernel:

- The lease keeper holds the only write end of a pipe, LINE, and never writes.
- For each exclusive worker the supervisor holds a read end that is set up to send SIGKILL to the
  worker's process group when the write end closes (`supervisor.process.leases`).
- The keeper has a timer of CLOCK_BOOTTIME, which counts the time of a suspended machine. The timer
  sends SIGKILL to the keeper. The supervisor sends the new deadline over ORDERS after each renewal.

When the deadline passes, the kernel kills the keeper, closes its write end, and kills the workers.
No process has to run for that, and a stopped process dies of SIGKILL, too.

Linux only. It imports little and is run by its path, so that it stays small. It imports nothing of
the house.
"""

import ctypes
import os
import signal
import struct
import sys

CLOCK_BOOTTIME = 7
TIMER_ABSTIME = 1

DEADLINE = struct.Struct("=d")
"""An order: the deadline in seconds of CLOCK_BOOTTIME. The latest order counts."""

ARMED = b"armed"
"""The answer to the first order. A text that begins otherwise says why there is no timer."""

_IGNORED = (signal.SIGINT, signal.SIGTERM, signal.SIGQUIT, signal.SIGHUP)  # meant for the supervisor, which ends us


class _Event(ctypes.Structure):
    """``struct sigevent``"""

    _fields_ = [
        ("value", ctypes.c_void_p), ("signo", ctypes.c_int), ("notify", ctypes.c_int), ("rest", ctypes.c_char * 64)
    ]  # fmt: skip


class _Times(ctypes.Structure):
    """``struct itimerspec``"""

    _fields_ = [(name, ctypes.c_long) for name in ("every_s", "every_ns", "first_s", "first_ns")]


class Timer:
    """Sends SIGKILL to this process at a time of CLOCK_BOOTTIME. Raises OSError."""

    def __init__(self):
        self._libc = ctypes.CDLL(None, use_errno=True)
        if not hasattr(self._libc, "timer_create"):  # glibc before 2.34
            self._libc = ctypes.CDLL("librt.so.1", use_errno=True)
        self._id = ctypes.c_void_p()
        event = _Event(signo=signal.SIGKILL)
        self._check(self._libc.timer_create(CLOCK_BOOTTIME, ctypes.byref(event), ctypes.byref(self._id)))

    def set(self, deadline):
        """Send the signal at ``deadline``, at once if that has passed."""
        nanoseconds = max(1, int(deadline * 1e9))  # 0 would disarm the timer
        times = _Times(first_s=nanoseconds // 10**9, first_ns=nanoseconds % 10**9)
        self._check(self._libc.timer_settime(self._id, TIMER_ABSTIME, ctypes.byref(times), None))

    def _check(self, result):
        if result != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))


def main(orders):
    """Obey until the supervisor closes the socket or is gone."""
    for signum in _IGNORED:
        signal.signal(signum, signal.SIG_IGN)
    timer = None
    while order := os.read(orders, DEADLINE.size):
        (deadline,) = DEADLINE.unpack(order)
        if timer is None:
            timer = Timer()
            timer.set(deadline)
            os.write(orders, ARMED)
        else:
            timer.set(deadline)


if __name__ == "__main__":
    if len(sys.argv) != 3 or not all(number.isdigit() for number in sys.argv[1:]):
        sys.exit("usage: python lease.py ORDERS LINE   (started by modvisor, with a connected socket and a pipe)")
    try:
        main(int(sys.argv[1]))
    except OSError as error:
        os.write(int(sys.argv[1]), f"no timer of CLOCK_BOOTTIME: {error.strerror}".encode())
        sys.exit(1)
