"""The hosts of a run: a network namespace for each where root, else addresses on loopback without faults of the wire.

Host 0 is this process. Namespaces end with the process that holds each of them.
"""

from __future__ import annotations

import asyncio
import ctypes
import fcntl
import json
import os
import struct
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import IO, Any

from .switch import mac_of

_CLONE_NEWNET = 0x40000000
_TUNSETIFF, _IFF_TAP, _IFF_NO_PI = 0x400454CA, 0x0002, 0x1000

Faults = dict[tuple[int, int], dict[str, float]]
"""What happens to frames from one host to another: ``loss``, ``delay``; see `switch`."""


@dataclass(frozen=True)
class Host:
    """Attributes:
    address: of its card.
    enter: what stands before a command to run it there.
    """

    number: int
    address: str
    enter: tuple[str, ...] = ()


class Hosts:
    """Args:
    count: of the hosts besides this process.
    """

    def __init__(self, count: int) -> None:
        self._count = count
        self._holders: list[subprocess.Popen[bytes]] = []
        self._switch: subprocess.Popen[str] | None = None
        self.have_wires = os.geteuid() == 0 and os.path.exists("/dev/net/tun")
        self.hosts: list[Host] = []

    def open(self) -> None:
        """Make the hosts. Call it before this process has threads: it moves to a namespace of its own."""
        if not self.have_wires:
            self.hosts = [Host(number, f"127.0.0.{10 + number}") for number in range(self._count + 1)]
            return
        if ctypes.CDLL(None, use_errno=True).unshare(_CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), "no network namespace could be made")
        _ip("link", "set", "lo", "up")
        taps = []
        for number in range(self._count + 1):
            host, name = self._host(number), f"wire{number}"
            taps.append(_tap(name))
            if number:
                _ip("link", "set", name, "netns", str(self._holders[-1].pid))
            for words in (
                ("link", "set", name, "address", mac_of(number)),
                ("addr", "add", f"{host.address}/24", "dev", name),
                ("link", "set", name, "up"),
                ("link", "set", "lo", "up"),
            ):
                subprocess.run([*host.enter, "ip", *words], check=True)
            self.hosts.append(host)
        command = [sys.executable, "-m", "benchmarks.nodes.switch", *map(str, taps)]
        self._switch = subprocess.Popen(command, stdin=subprocess.PIPE, pass_fds=taps, text=True)
        for tap in taps:
            os.close(tap)

    def _host(self, number: int) -> Host:
        address = f"10.77.0.{10 + number}"
        if not number:
            return Host(number, address)
        holder = subprocess.Popen(["unshare", "--net", "sh", "-c", "echo; exec sleep infinity"], stdout=subprocess.PIPE)
        self._holders.append(holder)
        assert holder.stdout is not None
        holder.stdout.readline()  # it is in its namespace
        return Host(number, address, ("nsenter", f"--net=/proc/{holder.pid}/ns/net"))

    def set_faults(self, faults: Faults) -> None:
        """Have frames go wrong in this way from now on, and in no other."""
        if self._switch is not None:
            assert self._switch.stdin is not None
            orders = {f"{sender}>{to}": fault for (sender, to), fault in faults.items()}
            self._switch.stdin.write(json.dumps(orders) + "\n")
            self._switch.stdin.flush()

    async def start(
        self, host: Host, command: Sequence[str], log: IO[bytes], env: dict[str, str] | None = None
    ) -> asyncio.subprocess.Process:
        """Run a command on a host."""
        return await asyncio.create_subprocess_exec(*host.enter, *command, stdout=log, stderr=log, env=env)

    def close(self) -> None:
        for process in [*self._holders, *([self._switch] if self._switch else [])]:
            process.kill()
            process.wait()


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True)


def _tap(name: str) -> int:
    fd = os.open("/dev/net/tun", os.O_RDWR)
    fcntl.ioctl(fd, _TUNSETIFF, struct.pack("16sH22x", name.encode(), _IFF_TAP | _IFF_NO_PI))
    return fd


def cut(one: int, others: Sequence[int], *, fault: dict[str, Any], back: bool = True) -> Faults:
    """Return the faults of the wires from one host to others, and back unless told otherwise."""
    there = {(one, other): fault for other in others}
    return there | {(other, one): fault for other in others} if back else there
