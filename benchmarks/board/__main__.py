"""How much of each frame the dashboard's page scripts, with many mods and many events.

    python -m benchmarks.board [--mods 1000] [--seconds 10] [--events 10000]

Starts a network with so many real mods and traffic, opens the page in headless Chromium, and reads
the browser's own trace. The events come from mods of the network, and from agents. A frame with more
scripting than the page may have gives exit status 1. How many events there really were is printed.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from threading import Thread
from typing import Any

import httpx

from tests.board.lab import Lab, running, trade

MOST = 8  # milliseconds of scripting in 95 of 100 frames
LONGEST = 50  # milliseconds of a task
FLOODS = 4  # mods that send events
PAGE = Path(__file__).with_name("frames.mjs")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--mods", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=10.0, help="of each view")
    parser.add_argument("--events", type=int, default=10_000, help="a second, while the page is open")
    options = parser.parse_args()
    mods = [{"path": f"./{name}"} for name in ("orders", "prices", "rates", "stock", "mailer", "search")]
    mods += [{"path": "./moody", "id": f"mod-{number}"} for number in range(options.mods - len(mods))]
    rate = {"rate": options.events / FLOODS}
    mods += [{"path": "./flood", "id": f"flood-{number}", "config": rate} for number in range(FLOODS)]
    with tempfile.TemporaryDirectory(prefix="modvisor-board-") as folder, running(Path(folder), mods) as lab:
        print(f"{options.mods} mods are ready", flush=True)
        Thread(target=_trade, args=(lab.url,), daemon=True).start()
        before, began = _events(lab), time.monotonic()
        found = _measure(lab.url, lab.socket, options.seconds)
        seen = (_events(lab) - before) / (time.monotonic() - began)
        _show(found)
        print(f"{seen:,.0f} events a second", flush=True)
    sys.exit(not all(view["p95"] < MOST and view["longest"] < LONGEST for view in found))


def _trade(url: str) -> None:
    with suppress(TimeoutError):
        asyncio.run(trade(url, 3600, 0.005))


def _events(lab: Lab) -> int:
    """Return how many events the network has taken so far."""
    transport = httpx.HTTPTransport(uds=str(lab.socket))
    with httpx.Client(transport=transport, base_url="http://admin/admin/v1", timeout=30) as admin:
        return admin.get("/stats").json()["events"]["processed"]


def _measure(url: str, socket: Path, seconds: float) -> list[dict[str, Any]]:
    environment = {**os.environ, "LAB_URL": url, "LAB_SOCKET": str(socket), "SECONDS": str(seconds)}
    done = subprocess.run(["node", PAGE], env=environment, stdout=subprocess.PIPE, text=True, check=True, timeout=600)
    return json.loads(done.stdout)


def _show(found: list[dict[str, Any]]) -> None:
    print(f"{'view':<20} {'frames':>7} {'p50 ms':>8} {'p95 ms':>8} {'p99 ms':>8} {'longest task ms':>16} {'rows':>6}")
    for view in found:
        figures = "".join(f"{view[key]:>9.2f}" for key in ("p50", "p95", "p99"))
        print(f"{view['view']:<20} {view['frames']:>7}{figures} {view['longest']:>16.1f} {view['rows']:>6}")
    paints = sorted(found[0]["paints"])
    told = f"{paints[len(paints) // 2]:.0f} ms (median of {len(paints)}, nothing cached; {paints[0]:.0f} at least)"
    print(f"first paint {told}, {found[0]['bytes'] / 1000:.0f} kB", flush=True)


if __name__ == "__main__":
    main()
