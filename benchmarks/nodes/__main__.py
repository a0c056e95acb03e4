"""Run one network on three machines while nodes and servers die, stop and lose one another; count every event.

    python -m benchmarks.nodes [--agents N] [--rate N] [--seconds N] [--seed N] [--keep FOLDER] [--json FILE]

As root each machine has a network namespace of its own; otherwise they share loopback, and no wire is cut. A lost
or repeated event, and two holders of one mod, give exit status 1.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import statistics
import tempfile
from pathlib import Path

from ..ending import finish
from .hosts import Hosts
from .run import MACHINES, Summary, run


def lines(summary: Summary) -> list[str]:
    found = summary.found
    failed = ", ".join(f"{count} {code}" for code, count in sorted(found["failed"].items())) or "none"
    return [
        f"{summary.agents} agents on {MACHINES} nodes for {summary.seconds:g} s, seed {summary.seed}: {summary.sent} events, "
        f"{found['answered']} answered, {found['pending']} pending; p50 {summary.p50_ms:.1f} ms, p99 {summary.p99_ms:.0f} ms",
        f"  faults       {len(summary.acts)}: " + ", ".join(f"{act['kind']} {act['host']}" for act in summary.acts),
        f"  failed       {failed}",
        f"  durable      {len(found['lost'])} accepted and lost, {len(found['repeated'])} handled twice as first attempts",
        f"  two holders  {len(found['two_holders'])}",
        f"  takeovers    {summary.takeovers}: p50 {summary.takeover_p50:.2f} s, p99 {summary.takeover_p99:.2f} s (goal 3 s)",
        *(_after(kind, seconds) for kind, seconds in sorted(summary.takeovers_by.items())),
        f"  agents moved {summary.moves} times",
        *(f"PROBLEM {problem}" for problem in summary.problems),
    ]


def _after(kind: str, seconds: list[float]) -> str:
    return f"    {kind:<16} {len(seconds):>3}: p50 {statistics.median(seconds):.2f} s, longest {max(seconds):.2f} s"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--agents", type=int, default=50)
    parser.add_argument("--rate", type=float, default=500, help="events per second, of all agents together")
    parser.add_argument("--seconds", type=float, default=180)
    parser.add_argument("--seed", type=int, default=None, help="of what goes wrong")
    parser.add_argument("--keep", type=Path, help="keep logs, diary and states in this folder, which must not exist")
    parser.add_argument("--json", type=Path, help="also write the summary to this file")
    options = parser.parse_args()
    seed = random.randrange(10**6) if options.seed is None else options.seed
    hosts = Hosts(MACHINES)
    try:
        hosts.open()
        with tempfile.TemporaryDirectory(prefix="modvisor-nodes-") as temporary:
            folder = Path(temporary) if options.keep is None else options.keep
            folder.mkdir(exist_ok=options.keep is None)
            summary = asyncio.run(run(hosts, folder, options.agents, options.rate, options.seconds, seed))
    finally:
        hosts.close()
    finish(summary, lines, options.json)


if __name__ == "__main__":
    main()
