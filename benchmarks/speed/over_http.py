"""Measure this process while agents send events over HTTP. The same for every network."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable

from anyio.to_thread import run_sync

from .asking import CLIENT, ROOT
from .calibration import Scale

AGENTS = 64


async def over_http(
    port: int, destination: str, seconds: float, others: Callable[[], float] | None = None
) -> dict[str, float]:
    """Return events per second, their times, and the scaled processor time that one takes.

    Args:
        others: returns the processor time of the workers so far, if there are any.
    """
    python = os.environ.get(CLIENT, sys.executable)
    words = [python, "-m", "benchmarks.speed.http_client", str(port), str(AGENTS), str(seconds), destination]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(words, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as client:  # noqa: ASYNC220
        assert client.stdin is not None
        assert client.stdout is not None
        assert await run_sync(client.stdout.readline) == b"ready\n"
        with Scale() as scale:
            own, workers = time.process_time(), others() if others else 0.0
            client.stdin.write(b"\n")
            client.stdin.flush()
            told = await run_sync(client.stdout.readline)
            own, workers = time.process_time() - own, others() - workers if others else 0.0
        await run_sync(client.wait)
    found = json.loads(told)
    each = 1e6 * scale.factor / found["events"]
    figures = {
        "http_64": found["events"] / found["seconds"],
        "http_p50_us": found["p50_us"],
        "http_p99_us": found["p99_us"],
        "http_us": own * each,
    }
    return figures | ({"http_worker_us": workers * each} if others else {})
