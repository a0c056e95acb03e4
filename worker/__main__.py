"""``python -m modvisor.worker FD LIFELINE``: serve one mod on the inherited socket FD. Started by the supervisor's launcher."""

from __future__ import annotations

import os
import socket
import sys

from . import lifeline
from .serve import main

if __name__ == "__main__":
    if len(sys.argv) != 3 or not all(number.isdigit() for number in sys.argv[1:]):
        sys.exit(
            "usage: python -m modvisor.worker FD LIFELINE   (started by modvisor, with a connected socket and a pipe)"
        )
    for number in sys.argv[1:]:
        os.set_inheritable(int(number), False)  # what the mod starts must not hold the pipe
    lifeline.hold(int(sys.argv[2]))
    sys.exit(main(socket.socket(fileno=int(sys.argv[1]))))
