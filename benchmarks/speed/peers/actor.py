"""A Ray actor, in a Ray of its own on this machine."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from typing import Any

import ray

from ..asking import answer
from ..plan import Plan
from ..timing import Figures
from ..work import Fields, echo
from ..workers import first, measure


@ray.remote(num_cpus=0, max_concurrency=256)
class Echo:
    async def echo(self, fields: Fields) -> Fields:
        return echo(fields)

    async def pid(self) -> int:
        return os.getpid()


class RayWorker:
    def __init__(self) -> None:
        self._actor = Echo.remote()
        first(self)
        self._pid = 0

    @property
    def pid(self) -> int:
        self._pid = self._pid or ray.get(self._actor.pid.remote())
        return self._pid

    def submit(self, fields: Fields) -> Any:
        return self._actor.echo.remote(fields)

    def collect(self, submitted: Any) -> Fields:
        return ray.get(submitted)

    def stop(self) -> None:
        pid = self.pid
        ray.kill(self._actor)
        with suppress(ProcessLookupError):
            while os.kill(pid, 0) is None:
                time.sleep(0.0005)


async def round_of_ray(plan: Plan) -> Figures:
    ray.init(num_cpus=2, include_dashboard=False, object_store_memory=512 << 20, log_to_driver=False)
    try:
        return await measure(plan, RayWorker)
    finally:
        ray.shutdown()


if __name__ == "__main__":
    answer(round_of_ray)
