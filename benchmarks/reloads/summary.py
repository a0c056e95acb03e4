"""Describe a run in words."""

from __future__ import annotations

from collections.abc import Mapping

from .run import GOAL_MS, Plan, Summary, quantiles

REACHED = 0.99  # share of the requested rate


def lines(summary: Summary) -> list[str]:
    """Return the lines that are printed at the end of a run."""
    plan, rate = summary.plan, summary.rates["reloads"]
    verdict = f"{len(summary.problems)} PROBLEMS" if summary.problems else "every promise kept"
    reached = "" if rate >= REACHED * plan.rate else f"; NOT THE {plan.rate:,.0f} ASKED FOR: the machine is too slow"
    return [
        f"{len(summary.pauses)} {kind(plan)} in {summary.seconds:.1f} s: {verdict}",
        f"  events       {summary.sent} sent by {plan.agents} agents, {rate:,.0f} per second{reached}",
        f"    sent late  {summary.late}, at most by {summary.worst_ms:.1f} ms (in their latencies)",
        *(f"  {phase:<12} latency {_told(found)}" for phase, found in summary.latency.items()),
        *_pauses(summary),
        *(f"PROBLEM {problem}" for problem in summary.problems),
    ]


def kind(plan: Plan) -> str:
    """Return what was done, for a heading."""
    return (
        ("swaps" if plan.swap else "reloads")
        + (" of a durable mod" if plan.durable else "")
        + (f" of {plan.workers} workers" if plan.workers else "")
    )


def _pauses(summary: Summary) -> list[str]:
    if not summary.pauses:
        return []
    pauses = quantiles(summary.pauses)
    verdict = "met" if pauses["p99_ms"] < summary.goal_ms else "MISSED"
    return [
        f"  pause        {_told(pauses)}; at most {max(summary.queued)} events waited; {summary.state_bytes} bytes of state",
        *(
            [f"    of it      {_told(quantiles(summary.own))} in the mod's get_state and set_state"]
            if summary.own
            else []
        ),
        f"    goal       p99 below {GOAL_MS:g} ms and what the mod's own take: {verdict}",
    ]


def _told(found: Mapping[str, float]) -> str:
    return f"p50 {found['p50_ms']:.2f} ms, p99 {found['p99_ms']:.2f} ms, largest {found['max_ms']:.2f} ms"
