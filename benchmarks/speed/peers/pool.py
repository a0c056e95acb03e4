"""concurrent.futures.ProcessPoolExecutor with one forked process."""

from __future__ import annotations

import multiprocessing
from concurrent.futures import Future, ProcessPoolExecutor

from ..work import Fields, echo
from .answering import answer
from .blocking import first, measure


class PoolWorker:
    def __init__(self) -> None:
        self._pool = ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("fork"))
        first(self)
        (self.pid,) = self._pool._processes

    def submit(self, fields: Fields) -> Future[Fields]:
        return self._pool.submit(echo, fields)

    def collect(self, submitted: Future[Fields]) -> Fields:
        return submitted.result()

    def stop(self) -> None:
        self._pool.shutdown(wait=True)


if __name__ == "__main__":
    answer(lambda plan: measure(plan, PoolWorker))
