"""Measure from the save of a mod's file to the first answer of the new code, with `watch: true`.

    python benchmarks/hot_reload.py [--rounds N]

The clock starts before the file is written, so detection, debounce, start of the new process,
switch and answer are included. Meanwhile the mod is asked each millisecond, as its users would.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from pathlib import Path

from ending import machine
from running import run
from saving import save_to_answer

from modvisor.supervisor import AgentNetwork


async def _alone(saves: int) -> list[float]:
    with tempfile.TemporaryDirectory(prefix="modvisor-bench-") as name:
        folder = Path(name)
        async with AgentNetwork.from_config({"network": {"name": "bench"}}, base_dir=folder) as network:
            return await save_to_answer(network, folder, saves)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=20)
    times = sorted(each * 1000 for each in run(_alone(parser.parse_args().rounds)))
    print(machine())
    print(
        f"save to the first answer of the new code, {len(times)} saves: p50 {statistics.median(times):.1f} ms, "
        f"{times[0]:.1f} to {times[-1]:.1f} ms"
    )


if __name__ == "__main__":
    main()
