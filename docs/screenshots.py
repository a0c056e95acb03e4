"""Make the pictures of the dashboard in docs/screenshots/, of a real network in headless Chromium.

make screenshots
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import tempfile
from contextlib import suppress
from pathlib import Path
from threading import Thread

from tests.board.lab import MODS, running, trade

HERE = Path(__file__).parent
SECONDS = 75.0  # of traffic before: the charts are to show something


def main() -> None:
    mods = [*MODS, {"path": "./thumbs", "config": {"hold": 60}, "limits": {"memory": "100MB"}}]
    with tempfile.TemporaryDirectory(prefix="modvisor-shots-") as folder, running(Path(folder), mods) as lab:
        traffic = Thread(target=_trade, args=(lab.url,), daemon=True)
        traffic.start()
        traffic.join(SECONDS)
        for _ in range(4):
            lab.send("moody.die", "shop-2", item="tea-17")
        environment = {
            **os.environ,
            "LAB_URL": lab.url,
            "LAB_SOCKET": str(lab.socket),
            "OUT": str(HERE / "screenshots"),
        }
        subprocess.run(["node", HERE / "screenshots.mjs"], env=environment, check=True, timeout=120)


def _trade(url: str) -> None:
    with suppress(TimeoutError):
        asyncio.run(trade(url, SECONDS + 120, 0.04))


if __name__ == "__main__":
    main()
