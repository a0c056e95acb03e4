"""What a scrape of the metrics takes, with many mods: the loop's processor time, and that of the thread.

python -m benchmarks.scrape [--mods N]
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import time
from functools import partial
from typing import Any

from modvisor.supervisor import AgentNetwork, Event
from modvisor.supervisor.clock import new_loop
from modvisor.supervisor.metrics import rendered

MOD = "modvisor.mods.workspace.wiki"
ROUNDS = 10


async def measure(mods: int, folder: str) -> None:
    entries = [{"path": MOD, "id": f"wiki-{number}"} for number in range(mods)]
    config: dict[str, Any] = {"network": {"name": "scrape"}, "mods": entries}
    async with AgentNetwork.from_config(config, base_dir=folder) as network:
        for entry in entries:
            await network.process_event(Event("wiki.page.get", "agent:bench", f"mod:{entry['id']}"))
        await network.sample_resources()
        copying, writing, size = [], [], 0
        for _ in range(ROUNDS):
            began = time.thread_time()
            figures = await network.figures()
            copying.append(time.thread_time() - began)
            took, size = await asyncio.to_thread(partial(write, figures))
            writing.append(took)
    print(f"{mods} mods: the loop copies figures for {1000 * min(copying):.1f} ms of processor time; "
          f"a thread writes {size / 1e6:.1f} MB of text in {1000 * min(writing):.0f} ms")  # fmt: skip


def write(figures: Any) -> tuple[float, int]:
    began = time.thread_time()
    text, _ = rendered(figures, "")
    return time.thread_time() - began, len(text)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mods", type=int, default=200)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(measure(given.mods, folder))


if __name__ == "__main__":
    main()
