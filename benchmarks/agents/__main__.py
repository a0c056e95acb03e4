"""Have hundreds of agents on WebSockets send to one another while some are killed, then a thousand that never read.

    python -m benchmarks.agents [--agents N] [--rate N] [--seconds N] [--kills N] [--deaf N] [--json FILE]

A lost or repeated event, and bounds that do not hold, give exit status 1.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from ..ending import finish
from .deaf import Deafness, deafness
from .soak import Soak, soak


@dataclass
class Summary:
    soak: Soak
    deaf: Deafness | None = None
    problems: list[str] = field(default_factory=list)


def lines(summary: Summary) -> list[str]:
    run, found, deaf = summary.soak, summary.soak.found, summary.deaf
    return [
        f"{run.agents} agents for {run.seconds:g} s, {run.killed} killed and back: {found['sent']} events "
        f"({found['sent'] / run.seconds:.0f} per second), {found['lost']} lost, {found['repeated']} repeated; "
        f"p50 {found['p50_ms']:.1f} ms, p99 {found['p99_ms']:.1f} ms",
        f"  network: {run.memory_mb:.0f} MB, +{run.grown_mb:.1f} MB when warm, {run.cpu:.0%} of a core",
        *([] if deaf is None else [
            f"{deaf.agents} agents that never read, {deaf.sent} events for them: memory +{deaf.memory_mb:.0f} MB (at most "
            f"{deaf.bound_mb:.0f}); p99 between two others {deaf.p99_ms:.1f} ms, {deaf.quiet_p99_ms:.1f} without them",
        ]),
        *(f"PROBLEM {problem}" for problem in summary.problems),
    ]  # fmt: skip


async def _run(options: argparse.Namespace) -> Summary:
    with tempfile.TemporaryDirectory(prefix="modvisor-agents-") as folder:
        run = await soak(Path(folder), options.agents, options.rate, options.seconds, options.kills, options.processes)
    deaf = None
    if options.deaf:
        with tempfile.TemporaryDirectory(prefix="modvisor-agents-") as folder:
            deaf = await deafness(Path(folder), options.deaf, min(options.seconds, 20.0))
    return Summary(run, deaf, [*run.problems, *(deaf.problems if deaf else ())])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--agents", type=int, default=500)
    parser.add_argument("--rate", type=float, default=2000, help="events per second, of all agents together")
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--kills", type=int, default=100, help="agents that are killed, by processes")
    parser.add_argument("--processes", type=int, default=20, help="in which the agents run")
    parser.add_argument("--deaf", type=int, default=1000, help="agents that never read; 0: none")
    parser.add_argument("--json", type=Path, help="also write the summary to this file")
    options = parser.parse_args()
    finish(asyncio.run(_run(options)), lines, options.json)


if __name__ == "__main__":
    main()
