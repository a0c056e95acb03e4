"""``python -m modvisor.worker FD``: serve one mod on the inherited socket FD. Started by the supervisor's launcher."""

from __future__ import annotations

import socket
import sys

from .serve import main

if __name__ == "__main__":
    if len(sys.argv) != 2 or not sys.argv[1].isdigit():
        sys.exit("usage: python -m modvisor.worker FD   (started by modvisor, with a connected socket as FD)")
    sys.exit(main(socket.socket(fileno=int(sys.argv[1]))))
