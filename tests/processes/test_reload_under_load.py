"""The short form of `make reloads`: under steady load no event is lost, failed, handled twice or out of order."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks.reloads.run import Plan, run
from benchmarks.reloads.summary import lines

pytestmark = pytest.mark.anyio

RELOADS = 5
SHORT = {"reloads": RELOADS, "rate": 1000.0, "quiet": 0.2}


KINDS = {
    "reload": Plan(**SHORT),
    "swap": Plan(swap=True, **SHORT),
    "durable": Plan(durable=True, **SHORT),
    "workers": Plan(workers=4, **SHORT),
    "swap_of_workers": Plan(swap=True, workers=2, **SHORT),
    "much_state": Plan(padding=1_000_000, **SHORT),
}


ALWAYS = ("reload", "durable", "workers")  # the others, too, by `make test-all`


@pytest.mark.parametrize(
    "plan",
    [pytest.param(plan, id=kind, marks=() if kind in ALWAYS else pytest.mark.slow) for kind, plan in KINDS.items()],
)
async def test_every_event_is_handled_once_and_in_order(
    plan: Plan, tmp_path: Path, tell: Callable[[str], None]
) -> None:
    summary = await run(plan, tmp_path / "state")
    told = lines(summary)
    for line in told:
        tell(line)
    assert summary.problems == [], "\n".join(told)
    assert len(summary.pauses) == len(summary.own) == RELOADS
    assert summary.sent > 200, "the load went on while the mod was reloaded"
    assert summary.state_bytes > plan.padding
