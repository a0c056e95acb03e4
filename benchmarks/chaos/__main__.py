"""Let ten of twenty mods misbehave under steady load, and lose nothing.

    python -m benchmarks.chaos [--seconds N] [--seed N] [--json FILE]

The seed decides who misbehaves, how and when; without `--seed` one is drawn and printed. A broken
promise gives exit status 1. Figures of time are printed only.
"""

from __future__ import annotations

import argparse
import logging
import os
import random
import tempfile
from pathlib import Path

from ..ending import finish
from ..running import run as run_as_network
from .run import run
from .summary import lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=180.0, help="of load: warm-up, quiet phase and chaos")
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--json", type=Path, help="also write the summary to this file")
    parser.add_argument("--log", type=Path, help="write the network's own log to this file")
    options = parser.parse_args()
    seed = random.SystemRandom().randrange(10**6) if options.seed is None else options.seed
    logging.basicConfig(
        filename=options.log or os.devnull, level=logging.INFO, format="%(asctime)s %(name)s %(message)s"
    )
    print(f"seed {seed}, {options.seconds:g} s", flush=True)
    with tempfile.TemporaryDirectory(prefix="modvisor-chaos-") as folder:
        summary = run_as_network(run(seed, options.seconds, Path(folder) / "state"))
    finish(summary, lines, options.json)


if __name__ == "__main__":
    main()
