"""A forked process behind `multiprocessing.Pipe`, and one in a `ProcessPoolExecutor`.

python -m benchmarks.speed.peers.calls pipe|pool
"""

from __future__ import annotations

import multiprocessing
import sys
from concurrent.futures import Future, ProcessPoolExecutor

from ..asking import answer
from ..work import Fields, echo
from ..workers import first, measure

CONTEXT = multiprocessing.get_context("fork")


def work(connection) -> None:
    while (fields := connection.recv()) is not None:
        connection.send(echo(fields))


class PipeWorker:
    def __init__(self) -> None:
        self._ours, theirs = CONTEXT.Pipe()
        self._process = CONTEXT.Process(target=work, args=(theirs,))
        self._process.start()
        theirs.close()
        self.pid = self._process.pid or 0
        first(self)

    def submit(self, fields: Fields) -> None:
        self._ours.send(fields)

    def collect(self, submitted: None) -> Fields:
        """Return the next answer: answers come in order."""
        return self._ours.recv()

    def stop(self) -> None:
        self._ours.send(None)
        self._process.join()
        self._process.close()
        self._ours.close()


class PoolWorker:
    def __init__(self) -> None:
        self._pool = ProcessPoolExecutor(1, mp_context=CONTEXT)
        first(self)
        (self.pid,) = self._pool._processes

    def submit(self, fields: Fields) -> Future[Fields]:
        return self._pool.submit(echo, fields)

    def collect(self, submitted: Future[Fields]) -> Fields:
        return submitted.result()

    def stop(self) -> None:
        self._pool.shutdown(wait=True)


if __name__ == "__main__":
    answer(lambda plan: measure(plan, {"pipe": PipeWorker, "pool": PoolWorker}[sys.argv[1]]))
