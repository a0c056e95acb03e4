"""When the output of a worker is read: at once, or after a pause."""

from __future__ import annotations

import pytest

from modvisor.supervisor.process.output import BURST, BYTE_RATE, LINE_RATE, READ_SIZE, Budget


@pytest.mark.slow
def test_what_a_mod_normally_prints_is_read_at_once() -> None:
    budget = Budget(0.0)
    assert not any(budget.spend(0.0, b"x" * 99 + b"\n") for _ in range(10_000)), "a burst"
    budget = Budget(0.0)
    assert not any(budget.spend(second, b"x" * 99 + b"\n") for second in range(1000) for _ in range(2000)), "steadily"


@pytest.mark.parametrize("line", [b"\n", b"y\n", b"x" * 50 + b"\n", b"x" * READ_SIZE], ids=len)
def test_a_flood_is_read_at_the_rate_of_bytes_or_lines(line: bytes) -> None:
    budget, now, size, lines = Budget(0.0), 0.0, 0, 0
    data = (line * READ_SIZE)[:READ_SIZE]
    while now < 60.0:
        now += budget.spend(now, data)
        size, lines = size + len(data), lines + data.count(b"\n")
    most = max(size / BYTE_RATE, lines / LINE_RATE)
    assert now - 2 < most - BURST < now + 2


def test_a_pause_is_worth_its_timer() -> None:
    budget = Budget(0.0)
    pauses = [budget.spend(0.0, b"x" * READ_SIZE) for _ in range(int(BURST * BYTE_RATE / READ_SIZE))]
    assert pauses[-1] >= 0.05
    assert not any(pauses[:-1])
