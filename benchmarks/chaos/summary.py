"""Describe a run in words."""

from __future__ import annotations

from .run import GOAL, Summary


def lines(summary: Summary) -> list[str]:
    """Return the lines that are printed at the end of a run."""
    return [
        f"chaos, seed {summary.seed}, {summary.seconds:g} s: "
        + (f"{len(summary.problems)} PROBLEMS" if summary.problems else "every promise kept"),
        f"  events       {summary.sent} sent = {_accounts(summary)}; {summary.late} of them late, {summary.retried} sent again",
        *(f"    {kind:<8} {_listed(outcomes)}" for kind, outcomes in summary.outcomes.items()),
        f"  dead letters {summary.dead_letters} in the store",
        f"  mischief     {sum(summary.done.values())} times, of {len(summary.done)} kinds: {_listed(summary.done)}",
        f"    missed     {_listed(summary.missed) or 'none'} (the mod was down)",
        f"  crashes      {sum(summary.causes.values())} reports: {_listed(summary.causes)}",
        f"    restarts   {summary.restarts}, and {summary.revived} by hand",
        *_latency(summary),
        f"  memory       {summary.memory['second_third_MB']} MB in the second third of the chaos, "
        f"{summary.memory['last_third_MB']} MB in the last",
        f"  left over    {_left(summary)}",
        *(f"PROBLEM {problem}" for problem in summary.problems),
    ]


def _accounts(summary: Summary) -> str:
    total: dict[str, int] = {}
    for outcomes in summary.outcomes.values():
        for outcome, count in outcomes.items():
            total[outcome] = total.get(outcome, 0) + count
    answered, dead = total.pop("answered", 0), total.pop("dead_lettered", 0)
    lost = total.pop("open", 0) + total.pop("pending", 0)
    return f"{answered} answered + {sum(total.values())} failed + {dead} dead letters + {lost} lost"


def _latency(summary: Summary) -> list[str]:
    verdict = "met" if summary.ratio <= GOAL else "MISSED"
    return [
        *(
            f"  {phase:<12} p50 {of['p50_ms']:.2f} ms, p99 {of['p99_ms']:.2f} ms, largest {of['max_ms']:.1f} ms (steady mods)"
            for phase, of in summary.latency.items()
        ),
        f"  p99 ratio    {summary.ratio:.2f} × (goal {GOAL:g} ×: {verdict})",
    ]


def _left(summary: Summary) -> str:
    return "; ".join(f"{sum(what.values())} {kind}" for kind, what in summary.left.items())


def _listed(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in sorted(counts.items(), key=lambda each: (-each[1], each[0])))
