"""The filters of system calls, run in an interpreter: for each machine, whichever runs the tests."""

from __future__ import annotations

import errno
import re
import socket
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modvisor.worker.cell import syscalls
from modvisor.worker.cell.bpf import (
    ALLOW,
    BITS,
    IS,
    IS_NOT,
    KILL,
    MACHINES,
    MOST,
    X32,
    Refusal,
    Test,
    program,
    refuse,
)
from tests.worker.cell.bpf_machine import action

BOTH = list(MACHINES)
I386, ARM = 0x4000_0003, 0x4000_0028
REFUSED, UNKNOWN = refuse(errno.EPERM), refuse(errno.ENOSYS)

tests = st.builds(Test, st.integers(0, 5), st.sampled_from([BITS, IS, IS_NOT]), st.integers(0, 2**32 - 1))
rules = st.lists(st.builds(Refusal, st.integers(1, 133), st.lists(tests, max_size=3).map(tuple)), max_size=3)
numbers = st.integers(0, 600) | st.integers(0, 2**32 - 1)


def by_hand(
    found: dict[int, tuple[Refusal, ...]], ranges: list[tuple[int, int]], number: int, arguments: list[int]
) -> int:
    if number in found:
        for wrong in found[number]:
            if all(_holds(test, arguments[test.argument] & 0xFFFF_FFFF) for test in wrong.tests):
                return refuse(wrong.errno)
        return ALLOW
    return [then for start, then in ranges if start <= number][-1]


def _holds(test: Test, low: int) -> bool:
    return {BITS: bool(low & test.value), IS: low == test.value, IS_NOT: low != test.value}[test.how]


@settings(max_examples=15)  # of five calls each
@given(st.data())
def test_a_filter_does_what_its_rules_say(data: st.DataObject) -> None:
    found = data.draw(st.dictionaries(st.integers(0, 600), rules.map(tuple), max_size=8))
    starts = data.draw(st.dictionaries(st.integers(1, 600), st.sampled_from([ALLOW, REFUSED]), max_size=8))
    ranges = sorted({0: REFUSED, **starts}.items())
    code = program(MACHINES["aarch64"], found, ranges)
    for _ in range(5):
        number = data.draw(st.sampled_from([*found, *starts, 0]) | numbers)
        arguments = data.draw(st.lists(st.integers(0, 2**64 - 1), min_size=6, max_size=6))
        assert action(code, MACHINES["aarch64"], number, *arguments) == by_hand(found, ranges, number, arguments)


def filters(machine: str) -> list[bytes]:
    return [
        syscalls.listed(machine, may_exec=False),
        syscalls.listed(machine, may_exec=True, may_share=False),
        syscalls.guarded(machine, may_exec=True),
        syscalls.guarded(machine, may_exec=False, only=1000),
        syscalls.without_exec(machine),
    ]


@pytest.mark.parametrize("machine", BOTH)
def test_calls_of_another_architecture_kill(machine: str) -> None:
    others = {each.audit for name, each in MACHINES.items() if name != machine} | {I386, ARM, 0}
    for code in filters(machine):
        assert {action(code, other, number) for other in others for number in (0, 59, 221)} == {KILL}


def test_x32_calls_kill_on_x86_64_alone() -> None:
    for code in filters("x86_64"):
        assert {action(code, MACHINES["x86_64"], number) for number in (X32, X32 + 59, 2**32 - 2)} == {KILL}
        assert action(code, MACHINES["x86_64"], 2**32 - 1) != KILL  # what a tracer leaves of a call
    for code in filters("aarch64"):
        assert action(code, MACHINES["aarch64"], X32 + 221) != KILL


@pytest.mark.parametrize("machine", BOTH)
def test_filters_fit_into_the_kernel(machine: str) -> None:
    assert all(0 < len(code) // 8 < MOST for code in filters(machine))


@pytest.mark.parametrize("machine", BOTH)
def test_what_is_not_listed_is_refused_and_what_is_newer_is_unknown(machine: str) -> None:
    code, known = syscalls.listed(machine, may_exec=False), set(syscalls.numbers(machine).values())
    strangers = set(range(syscalls.NEWEST + 1)) - known
    assert {action(code, MACHINES[machine], number) for number in strangers} == {REFUSED}
    assert {action(code, MACHINES[machine], number) for number in (syscalls.NEWEST + 1, 600, 10_000)} == {UNKNOWN}


@pytest.mark.parametrize("machine", BOTH)
@pytest.mark.parametrize(
    ("name", "arguments", "expected"),
    [
        ("read", (), ALLOW),
        ("openat", (0, 0, 0o101, 0o644), ALLOW),
        ("openat", (0, 0, 0o101, 0o4755), REFUSED),
        ("openat", (0, 0, 0, 0o4755), ALLOW),  # the last argument is no mode, since nothing is made
        ("fchmodat", (0, 0, 0o2755), REFUSED),
        ("fchmod", (3, 0o1777), ALLOW),
        ("clone", (0x11,), ALLOW),
        ("clone", (0x1000_0011,), REFUSED),
        ("clone", (0x2_0011,), REFUSED),
        ("clone3", (), UNKNOWN),
        ("unshare", (0x400,), REFUSED),
        ("socket", (socket.AF_INET, 1), ALLOW),
        ("socket", (16, 3, 0), ALLOW),  # routes, of which getaddrinfo asks
        ("socket", (16, 3, 12), REFUSED),  # netfilter
        ("socket", (40, 1), refuse(errno.EAFNOSUPPORT)),  # vsock
        ("socketpair", (socket.AF_INET, 1), refuse(errno.EAFNOSUPPORT)),
        ("ioctl", (0, 0x5401), ALLOW),
        ("ioctl", (0, 0x5412), REFUSED),
        ("ioctl", (0, 0x1_0000_5412), REFUSED),  # the kernel reads the low half alone
        ("personality", (0xFFFF_FFFF,), ALLOW),
        ("personality", (0x40_0000,), REFUSED),
        ("keyctl", (), REFUSED),
        ("io_uring_setup", (), UNKNOWN),
        ("execve", (), REFUSED),
        ("execveat", (1000,), REFUSED),
    ],
)  # fmt: skip
def test_calls_of_a_strict_cell(machine: str, name: str, arguments: tuple[int, ...], expected: int) -> None:
    code = syscalls.listed(machine, may_exec=False)
    assert action(code, MACHINES[machine], syscalls.numbers(machine)[name], *arguments) == expected


@pytest.mark.parametrize("machine", BOTH)
def test_the_guarded_list_refuses_little(machine: str) -> None:
    code = syscalls.guarded(machine, may_exec=True)
    refused = {n for n in range(syscalls.NEWEST + 100) if action(code, MACHINES[machine], n) != ALLOW}
    names = {name for name, number in syscalls.numbers(machine).items() if number in refused}
    assert names == {
        "add_key", "clone3", "io_uring_enter", "io_uring_register", "io_uring_setup", "keyctl", "openat2", "request_key",
    }  # fmt: skip
    known = syscalls.numbers(machine)
    assert action(code, MACHINES[machine], known["unshare"], 0x1000_0000) == REFUSED
    assert action(code, MACHINES[machine], known["clone"], 0x1000_0011) == REFUSED


@pytest.mark.parametrize("machine", BOTH)
def test_exec_is_allowed_from_one_descriptor_alone(machine: str) -> None:
    known = syscalls.numbers(machine)
    code = syscalls.listed(machine, may_exec=False, only=1000)
    assert action(code, MACHINES[machine], known["execveat"], 1000) == ALLOW
    assert action(code, MACHINES[machine], known["execveat"], 999) == REFUSED
    assert action(code, MACHINES[machine], known["execve"]) == REFUSED
    assert action(syscalls.listed(machine, may_exec=True), MACHINES[machine], known["execve"]) == ALLOW


@pytest.mark.parametrize("machine", BOTH)
def test_shared_memory_of_a_user_needs_a_namespace(machine: str) -> None:
    code, number = syscalls.listed(machine, may_exec=True, may_share=False), syscalls.numbers(machine)["shmget"]
    assert action(code, MACHINES[machine], number) == REFUSED
    assert action(syscalls.listed(machine, may_exec=True), MACHINES[machine], number) == ALLOW


@pytest.mark.parametrize("machine", BOTH)
def test_numbers_are_those_of_the_kernels_headers(machine: str) -> None:
    header = Path(f"/usr/include/{machine}-linux-gnu/asm/unistd_64.h")
    if not header.exists():
        pytest.skip("no kernel headers of this machine here")
    said = dict(re.findall(r"#define __NR_(\w+) (\d+)", header.read_text()))
    ours = syscalls.numbers(machine)
    assert {name: int(said[name]) for name in ours if name in said} == {n: v for n, v in ours.items() if n in said}
    assert len(ours.keys() & said.keys()) > 250
