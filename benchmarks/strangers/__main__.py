"""Let strangers attack the port of a network while honest agents work.

    python -m benchmarks.strangers [--seconds N] [--only NAME …] [--json FILE]

Honest agents that are refused, or wait too long, and bounds that do not hold give exit status 1.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from ..ending import finish
from ..running import run as run_as_network
from .run import ALL, run
from .summary import lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=8.0, help="of each attack, and of the quiet phase")
    parser.add_argument("--only", nargs="+", choices=ALL, default=ALL, metavar="NAME", help=f"some of {', '.join(ALL)}")
    parser.add_argument("--json", type=Path, help="also write the summary to this file")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="modvisor-strangers-") as folder:
        summary = run_as_network(run(Path(folder), options.seconds, options.only))
    finish(summary, lines, options.json)


if __name__ == "__main__":
    main()
