"""``python -m modvisor.worker FD LIFELINE DUMP``: serve one mod on the inherited socket FD.

Started by the supervisor.
"""

from __future__ import annotations

import os
import socket
import sys

from . import crash, lifeline
from .endings import end_objects_at_exit, run_exit_handlers
from .serve import main
from .signals import restore_defaults
from .sources import own_modules

if __name__ == "__main__":
    if len(sys.argv) != 4 or not all(number.isdigit() for number in sys.argv[1:]):
        sys.exit(
            "usage: python -m modvisor.worker FD LIFELINE DUMP\n"
            "(started by modvisor, with a connected socket, a pipe and a file for stack dumps)"
        )
    sock, pipe, dump = map(int, sys.argv[1:])
    for fd in (sock, pipe, dump):
        os.set_inheritable(fd, False)  # the mod's own child processes must not hold them
    restore_defaults()
    lifeline.hold(pipe)
    crash.install(dump)
    end_objects_at_exit(own_modules)
    status = main(socket.socket(fileno=sock))
    run_exit_handlers()
    sys.exit(status)
