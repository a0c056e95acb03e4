"""Who waits for an answer from the servers or from another node.

Each question has a subject of its own for its answer, `mv.ID.re.INSTANCE.NUMBER`; one subscription
gets them all. Unlike nats-py's `request`, it takes neither random names, nor a queue, nor a task.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from nats.aio.msg import Msg

from .errors import ClusterError, LinkDown, Nobody, NotPermitted
from .seal import NotSealed, Seal

STATUS = "Status"
NO_RESPONDERS = "503"


class Waiting:
    """One question. Its future has the answer, or the reason why there is none.

    Attributes:
        is_raw: the server itself answers, whose words have no seal.
    """

    __slots__ = ("future", "is_raw", "subject", "timer")

    def __init__(self, future: asyncio.Future[Any], subject: str, is_raw: bool, timer: asyncio.TimerHandle) -> None:
        self.future = future
        self.subject = subject
        self.is_raw = is_raw
        self.timer = timer


class Replies:
    """All questions of a node that have no answer yet.

    Args:
        drop: is told why a message was dropped.

    Attributes:
        others: gets what comes for names that are no questions of these, with the name.
    """

    def __init__(self, prefix: str, seal: Seal, drop: Callable[[str], None]) -> None:
        self.prefix = prefix
        self._cut = len(prefix)
        self._opened = seal.opened
        self._drop = drop
        self.others: Callable[[str, Msg], None] = lambda _name, _message: None
        self._waiting: dict[str, Waiting] = {}
        self._number = 0

    def begin(self, subject: str, timeout: float, is_raw: bool = False) -> tuple[str, asyncio.Future[Any]]:
        """Return the number of a question and the future of its answer. `end` is called afterwards, whatever came."""
        loop = asyncio.get_running_loop()
        self._number += 1
        number = str(self._number)
        future: asyncio.Future[Any] = loop.create_future()
        timer = loop.call_later(timeout, _late, future)
        self._waiting[number] = Waiting(future, subject, is_raw, timer)
        return number, future

    def end(self, number: str) -> None:
        waiting = self._waiting.pop(number, None)
        if waiting is not None:
            waiting.timer.cancel()

    def received(self, message: Msg) -> None:
        """Take an answer. One that comes too late, or twice, is for nobody."""
        name = message.subject[self._cut :]
        waiting = self._waiting.get(name)
        if waiting is None:
            return self.others(name, message)
        if waiting.future.done():
            return None
        headers = message.headers
        if headers is not None and headers.get(STATUS) == NO_RESPONDERS:
            waiting.future.set_exception(Nobody(f"nobody answers on {waiting.subject}"))
        elif waiting.is_raw:
            waiting.future.set_result(message)
        else:
            try:
                waiting.future.set_result(self._opened(message.data, message.subject.encode()))
            except NotSealed as error:
                self._drop(str(error))
        return None

    def lost(self, reason: str) -> None:
        """The connection is gone, and with it the answers."""
        for waiting in self._waiting.values():
            self._fail(waiting, LinkDown(f"the connection to the servers was lost: {reason}", was_sent=True))

    def not_permitted(self, said: str, error: NotPermitted) -> None:
        """Fail those that asked on a subject which the server named in small letters."""
        for waiting in self._waiting.values():
            if f'"{waiting.subject.lower()}"' in said:
                self._fail(waiting, error)

    def _fail(self, waiting: Waiting, error: ClusterError) -> None:
        if not waiting.future.done():
            waiting.future.set_exception(error)


def _late(future: asyncio.Future[Any]) -> None:
    if not future.done():
        future.set_exception(TimeoutError())
