"""multiprocessing.Pipe to a forked process; pickle."""

from __future__ import annotations

import multiprocessing

from ..work import Fields, echo
from .answering import answer
from .blocking import first, measure

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
        """Replies come back in order."""
        return self._ours.recv()

    def stop(self) -> None:
        self._ours.send(None)
        self._process.join()
        self._process.close()
        self._ours.close()


if __name__ == "__main__":
    answer(lambda plan: measure(plan, PipeWorker))
