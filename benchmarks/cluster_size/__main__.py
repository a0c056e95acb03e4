"""Prints what a cluster of a size costs: `python -m benchmarks.cluster_size`."""

from __future__ import annotations

import argparse
import asyncio
import json
from dataclasses import asdict

from . import __doc__ as about
from .checking import checked
from .measuring import measured
from .model import Size, predicted
from .report import checked_text, report


def main() -> None:
    parser = argparse.ArgumentParser(description=str(about).partition("\n")[0])
    for name in ("nodes", "mods", "agents"):
        parser.add_argument(f"--{name}", type=int, default=getattr(Size(), name))
    parser.add_argument("--check", action="store_true", help="also run a small cluster and count")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    size = Size(given.nodes, given.mods, given.agents)
    constants = asyncio.run(measured())
    small = asyncio.run(checked(Size(8, 200, 1000), constants)) if given.check else None
    if given.json:
        made = {"size": asdict(size), "constants": asdict(constants), "predicted": asdict(predicted(size, constants))}
        print(json.dumps({**made, "checked": None if small is None else asdict(small)}, indent=1))
    else:
        print(report(size, constants) + ("" if small is None else f"\n\n{checked_text(small)}"))


if __name__ == "__main__":
    main()
