"""Reload again and again under steady load, and count every event.

    python -m benchmarks.reloads [--reloads N] [--rate N] [--agents N] [--swap] [--durable]
        [--workers N] [--state BYTES] [--json FILE]

A broken promise gives exit status 1. Figures of time are printed only.
"""

from __future__ import annotations

import argparse
import logging
import tempfile
from pathlib import Path

from ..ending import finish
from ..running import run as run_as_network
from .run import Plan, run
from .summary import lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--reloads", type=int, default=100, help="one after the other")
    parser.add_argument("--rate", type=float, default=5000, help="events per second")
    parser.add_argument("--agents", type=int, default=50, help="that send them")
    parser.add_argument("--swap", action="store_true", help="swap two mods for each other instead")
    parser.add_argument(
        "--durable", action="store_true", help="reload a mod whose events are on disk before it sees them"
    )
    parser.add_argument("--workers", type=int, help="workers of the mod, each with the events of its sources")
    parser.add_argument("--state", type=int, default=0, help="bytes that the mod hands over besides its counts")
    parser.add_argument("--json", type=Path, help="also write the summary to this file")
    options = parser.parse_args()
    logging.getLogger("modvisor").setLevel(logging.ERROR)
    plan = Plan(
        options.reloads,
        options.rate,
        options.agents,
        options.swap,
        options.durable,
        padding=max(0, options.state),
        workers=options.workers,
    )
    with tempfile.TemporaryDirectory(prefix="modvisor-reloads-") as folder:
        summary = run_as_network(run(plan, Path(folder) / "state"))
    finish(summary, lines, options.json)


if __name__ == "__main__":
    main()
