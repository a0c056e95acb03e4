"""An interpreter of classic BPF, as far as the filters use it: what does the kernel do with a call?"""

from __future__ import annotations

import struct

from modvisor.worker.cell.bpf import Machine


def action(code: bytes, machine: Machine | int, number: int, *arguments: int) -> int:
    """Run a filter for one call. Return its action."""
    audit = machine if isinstance(machine, int) else machine.audit
    data = struct.pack("<IIQ6Q", number, audit, 0, *(*arguments, 0, 0, 0, 0, 0, 0)[:6])
    program = list(struct.iter_unpack("=HBBI", code))
    at, accumulator = 0, 0
    while True:
        operation, yes, no, value = program[at]
        at += 1
        match operation:
            case 0x20:
                (accumulator,) = struct.unpack_from("<I", data, value)
            case 0x05:
                at += value
            case 0x15:
                at += yes if accumulator == value else no
            case 0x35:
                at += yes if accumulator >= value else no
            case 0x45:
                at += yes if accumulator & value else no
            case 0x06:
                return value
            case _:
                raise AssertionError(f"operation {operation:#x}")
