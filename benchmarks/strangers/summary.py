"""Describe a run in words."""

from __future__ import annotations

from .run import HEALTH_S, JOURNAL_MB, MEMORY_MB, TIMES, Summary


def lines(summary: Summary) -> list[str]:
    """Return the lines that are printed at the end of a run."""
    verdict = f"{len(summary.problems)} PROBLEMS" if summary.problems else "every bound kept"
    row = "  {:<20} {:>8} {:>9} {:>9} {:>10} {:>10} {:>12} {:>10} {:>12} {:>13} {:>10}"
    return [
        f"{len(summary.phases) - 1} attacks, and {summary.crowd} agents at once behind one proxy: {verdict}",
        row.format("attack", "refused", "p50 ms", "p99 ms", "health ms", "memory MB", "descriptors", "journal MB",
                   "network CPU", "attacker CPU", "core wait"),
        *(
            row.format(
                phase.attack, phase.refused, f"{phase.p50_ms:.1f}", f"{phase.p99_ms:.1f}", f"{phase.health_ms:.0f}",
                f"+{phase.memory_mb:.1f}", phase.descriptors, f"+{phase.journal_mb:.2f}",
                f"{phase.network_cpu:.0%}", f"{phase.attacker_cpu:.0%}", f"{phase.core_wait:.0%}",
            )
            for phase in summary.phases
        ),
        f"  bounds: 0 refused, p99 at most {TIMES:g} times that of a quiet network, health within {HEALTH_S * 1000:g} ms, "
        f"memory +{MEMORY_MB:g} MB, journal +{JOURNAL_MB:g} MB",
        *(f"PROBLEM {problem}" for problem in summary.problems),
    ]  # fmt: skip
