"""A small assembler for the programs that filter system calls (classic BPF, see seccomp(2)).

Why not libseccomp: a worker has Python and msgpack, and must start under a mod's own Python. The
library would have to be on every machine, in each architecture, and its binding in each environment.
All that is needed of it is below: find a number among ranges, and compare arguments.

Pure: rules in, bytes out. A test runs the programs in an interpreter of its own, for all machines.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from typing import NamedTuple

ALLOW, KILL = 0x7FFF_0000, 0x8000_0000
"""What becomes of a call: it is made, or the whole process is killed. `refuse` is the third."""

_ERRNO = 0x0005_0000
_LOAD, _JUMP, _IF_EQUAL, _IF_AT_LEAST, _IF_BITS, _RETURN = 0x20, 0x05, 0x15, 0x35, 0x45, 0x06
_NUMBER, _ARCHITECTURE, _ARGUMENTS = 0, 4, 16  # offsets in struct seccomp_data

X32 = 0x4000_0000
"""Set in the numbers of the x32 calls, which x86_64 kernels may offer, too."""

MOST = 4096  # instructions in a program


class Machine(NamedTuple):
    """An architecture: its number (AUDIT_ARCH_…), and whether it has x32 calls, too."""

    audit: int
    has_x32: bool = False


MACHINES = {"x86_64": Machine(0xC000_003E, has_x32=True), "aarch64": Machine(0xC000_00B7)}


class Test(NamedTuple):
    """A question about the low 32 bits of an argument: the kernel reads no more of it in these calls."""

    __test__ = False  # not one of pytest

    argument: int
    how: str
    value: int


BITS, IS, IS_NOT = "has one of these bits", "is", "is not"


class Refusal(NamedTuple):
    """Refuse the call with this errno if all tests hold."""

    errno: int
    tests: tuple[Test, ...] = ()


Rule = tuple[Refusal, ...]
"""What is asked about one call, in order. It is made if nothing refuses it."""


def refuse(errno: int) -> int:
    """Return the action that fails a call with ``errno``."""
    return _ERRNO | errno


def program(machine: Machine, rules: Mapping[int, Rule], ranges: Iterable[tuple[int, int]]) -> bytes:
    """Return the filter for one architecture. Another architecture's calls kill the process.

    Args:
        rules: what is asked about the calls with these numbers.
        ranges: what becomes of all others: an action from this number on, in order, from 0.
    """
    code = _Code()
    code.add(_LOAD, _ARCHITECTURE)
    code.jump_if(_IF_EQUAL, machine.audit, "ours")
    code.add(_RETURN, KILL)
    code.label("ours")
    code.add(_LOAD, _NUMBER)
    if machine.has_x32:  # -1 is no x32 call: it is what a tracer leaves of a call that it skips
        code.jump_if(_IF_EQUAL, 0xFFFF_FFFF, "any")
        code.jump_if(_IF_AT_LEAST, X32, "x32")
        code.label("any")
    _find(code, _spans(rules, ranges))
    if machine.has_x32:
        code.label("x32")
        code.add(_RETURN, KILL)
    for number, rule in rules.items():
        _ask(code, number, rule)
    return code.assembled()


def _spans(rules: Mapping[int, Rule], ranges: Iterable[tuple[int, int]]) -> list[tuple[int, int | None]]:
    """Return where each span of numbers begins, and its action; None: the rule of that number."""
    starts = dict(ranges)
    found: dict[int, int | None] = {}
    action = ALLOW
    for number in sorted({*starts, *rules, *(number + 1 for number in rules)}):
        action = starts.get(number, action)
        found[number] = None if number in rules else action
    spans: list[tuple[int, int | None]] = []
    for number, then in found.items():
        if then is None or not spans or spans[-1][1] != then:
            spans.append((number, then))
    return spans


def _find(code: _Code, spans: list[tuple[int, int | None]]) -> None:
    """Search by halves for the span that holds the number."""
    if len(spans) == 1:
        number, action = spans[0]
        if action is None:
            code.jump(f"rule {number}")
        else:
            code.add(_RETURN, action)
        return
    half = len(spans) // 2
    start = spans[half][0]
    code.jump_if(_IF_AT_LEAST, start, f"from {start}")
    _find(code, spans[:half])
    code.label(f"from {start}")
    _find(code, spans[half:])


def _ask(code: _Code, number: int, rule: Rule) -> None:
    code.label(f"rule {number}")
    for place, (errno, tests) in enumerate(rule):
        passed = f"rule {number} after {place}"
        for step, (argument, how, value) in enumerate(tests):
            holds = f"{passed} test {step}"
            code.add(_LOAD, _ARGUMENTS + 8 * argument)  # the low half comes first: all are little-endian
            code.jump_if(_IF_BITS if how == BITS else _IF_EQUAL, value, passed if how == IS_NOT else holds)
            if how != IS_NOT:
                code.jump(passed)
                code.label(holds)
        code.add(_RETURN, refuse(errno))
        code.label(passed)
    code.add(_RETURN, ALLOW)


class _Code:
    """Instructions and labels. All jumps go forward, as the kernel demands."""

    def __init__(self) -> None:
        self._instructions: list[tuple[int, int, int | str]] = []  # code, jump if false, value or label
        self._labels: dict[str, int] = {}

    def add(self, code: int, value: int) -> None:
        self._instructions.append((code, 0, value))

    def jump(self, label: str) -> None:
        self._instructions.append((_JUMP, 0, label))

    def jump_if(self, code: int, value: int, label: str) -> None:
        """Jump if it holds. A condition itself reaches 255 instructions at most, a jump any."""
        self._instructions.append((code, 1, value))
        self.jump(label)

    def label(self, name: str) -> None:
        self._labels[name] = len(self._instructions)

    def assembled(self) -> bytes:
        assert len(self._instructions) <= MOST
        return b"".join(
            struct.pack("=HBBI", code, 0, no, self._labels[to] - at - 1 if isinstance(to, str) else to)
            for at, (code, no, to) in enumerate(self._instructions)
        )
