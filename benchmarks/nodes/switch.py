"""``python -m benchmarks.nodes.switch FD…``: carry frames between hosts, each behind one TAP device, as orders say.

An order is a line of JSON on stdin: the faults from now on, by pair of hosts (``"1>2"``: from host 1 to host 2).
A fault: ``loss`` (the part of the frames that is lost, 1: all) and ``delay`` (seconds). The kernel's own means for
that, netem, is a module that many machines do not have.
"""

from __future__ import annotations

import heapq
import json
import os
import random
import selectors
import sys
import time
from typing import Any

MAX_FRAME = 2048
STDIN = 0


def mac_of(host: int) -> str:
    """The address of a host's card, which tells the switch where a frame goes."""
    return f"02:00:00:00:00:{host:02x}"


def main() -> None:
    taps = [int(fd) for fd in sys.argv[1:]]
    faults: dict[tuple[int, int], dict[str, Any]] = {}
    late: list[tuple[float, int, int, bytes]] = []
    chance, number = random.Random("switch"), 0
    selector = selectors.DefaultSelector()
    for host, tap in enumerate(taps):
        os.set_blocking(tap, False)
        selector.register(tap, selectors.EVENT_READ, host)
    selector.register(STDIN, selectors.EVENT_READ, None)
    while True:
        wait = None if not late else max(0.0, late[0][0] - time.monotonic())
        for key, _ in selector.select(wait):
            if key.data is None:
                line = sys.stdin.readline()
                if not line:
                    return
                faults = {(int(pair[0]), int(pair[2])): fault for pair, fault in json.loads(line).items()}
                continue
            try:
                frame = os.read(key.fd, MAX_FRAME)
            except OSError:  # its host has ended
                selector.unregister(key.fileobj)
                continue
            for to in _receivers(frame, key.data, len(taps)):
                fault = faults.get((key.data, to), {})
                if chance.random() < fault.get("loss", 0.0):
                    continue
                number += 1
                heapq.heappush(late, (time.monotonic() + fault.get("delay", 0.0), number, to, frame))
        while late and late[0][0] <= time.monotonic():
            _, _, to, frame = heapq.heappop(late)
            try:
                os.write(taps[to], frame)
            except OSError:
                continue  # its queue is full, or it is down: the frame is lost, as on a wire


def _receivers(frame: bytes, sender: int, hosts: int) -> list[int]:
    if frame[0] & 1:  # for many
        return [host for host in range(hosts) if host != sender]
    return [frame[5]] if frame[5] < hosts and frame[5] != sender else []


if __name__ == "__main__":
    main()
