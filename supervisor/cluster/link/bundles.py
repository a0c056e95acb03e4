"""Questions to other nodes that are ready in one turn of the loop, sent as one message, and their answers likewise.

A *bundle* is a list of `[number, body]`, sealed as one message. The number names a question of the
asking node; 0 wants no answer. A node answers to `mv.ID.re.INSTANCE.a`, with a bundle of its own:
all answers to one node that are ready in one turn. The reply subject of a bundle of questions,
`mv.ID.re.INSTANCE.bNUMBER`, names the bundle, so that the servers' "nobody serves this" ends its questions.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from copy import copy
from typing import Any

import msgspec
from nats.aio.msg import Msg

from ....ipc.deadlines import Deadlines
from ....ipc.messages import pack
from .errors import ClusterError, LinkDown, Nobody, NotPermitted, TooLarge
from .replies import NO_RESPONDERS, STATUS
from .seal import HEAD_BYTES, UNREADABLE, NotSealed, Seal

logger = logging.getLogger("modvisor.cluster")

FULL = 64 * 1024
"""Bytes that a bundle of several has at most: handlers of its first questions need not wait for the last."""

ANSWERS, BUNDLE = "a", "b"

Send = Callable[[str, bytes, str], None]
"""Sends bytes to a subject, with a subject for the reply. Raises LinkDown, TooLarge."""


_HEAD = b"\x92\xcf"  # a list of two, the first of which is a number of 8 bytes
_questions = msgspec.msgpack.Decoder(list[tuple[int, msgspec.Raw]]).decode


class _Bundle:
    """What goes to one subject in this turn.

    Attributes:
        chunks: the packed questions, by number. A question that is taken back leaves none.
        left: how many questions have no answer yet.
        name: of the bundle; empty while it has not been sent.
    """

    __slots__ = ("chunks", "left", "name", "numbers", "size", "subject")

    def __init__(self, subject: str) -> None:
        self.subject = subject
        self.chunks: dict[int, bytes] = {}
        self.numbers: list[int] = []
        self.size = 0
        self.left = 0
        self.name = ""


class _Answers:
    """What is answered to one node in this turn."""

    __slots__ = ("chunks", "size", "to")

    def __init__(self, to: str) -> None:
        self.to = to
        self.chunks: list[bytes] = []
        self.size = 0


class Bundles:
    """The questions of one node to other nodes, and its answers to theirs.

    Args:
        prefix: of the subjects for replies to this node.
        send: see `Send`.
        keep: keeps an answer, already sealed, for the next connection.
        drop: is told why a message was dropped.
    """

    def __init__(
        self,
        prefix: str,
        seal: Seal,
        send: Send,
        keep: Callable[[str, bytes], None],
        drop: Callable[[str], None],
    ) -> None:
        self._prefix = prefix
        self._seal = seal
        self._send = send
        self._keep = keep
        self._drop = drop
        self._loop = asyncio.get_running_loop()
        self._deadlines = Deadlines(self._loop)
        self._number = 0
        self._asked: dict[int, tuple[asyncio.Future[Any], _Bundle]] = {}
        self._sent: dict[str, _Bundle] = {}
        self._out: dict[str, _Bundle] = {}
        self._answers: dict[str, _Answers] = {}
        self._is_due = False

    # -- asking

    def begin(self, subject: str, body: bytes, due: float) -> tuple[int, asyncio.Future[Any]]:
        """Ask whoever serves a subject. `end` is called afterwards, whatever came.

        Args:
            body: packed.
            due: loop time at which the answer is waited for no more.

        Returns:
            the number of the question, and the future of its answer; see `Wire.ask` for its failures.
        """
        self._number = number = self._number + 1
        bundle = self._put(subject, number, _HEAD + number.to_bytes(8, "big") + body)
        future: asyncio.Future[Any] = self._loop.create_future()
        self._asked[number] = future, bundle
        bundle.numbers.append(number)
        bundle.left += 1
        deadlines = self._deadlines
        deadlines.due[future] = due  # as `Deadlines.add`, without a call
        if due < deadlines.next:
            deadlines.ring_at(due)
        return number, future

    def end(self, number: int) -> None:
        """Wait no more for an answer. A question that has not left yet is not sent."""
        future, bundle = self._asked.pop(number)
        self._deadlines.due.pop(future, None)
        bundle.left -= 1
        if not bundle.name:
            bundle.chunks.pop(number, None)
        elif not bundle.left:
            self._sent.pop(bundle.name, None)

    def tell(self, subject: str, body: bytes) -> None:
        """Send what nobody answers, behind the questions of before to the same subject."""
        self._number = number = self._number + 1
        self._put(subject, number, _HEAD + bytes(8) + body)

    def _put(self, subject: str, number: int, chunk: bytes) -> _Bundle:
        bundle = self._out.get(subject)
        if bundle is not None and bundle.size + len(chunk) > FULL:
            self._send_bundle(bundle)
            bundle = None
        if bundle is None:
            bundle = self._out[subject] = _Bundle(subject)
            self._send_soon()
        bundle.chunks[number] = chunk
        bundle.size += len(chunk)
        return bundle

    # -- answering

    def answer(self, to: str, number: int, body: Any, most: int) -> None:
        """Answer a question of another node.

        Args:
            to: the subject for its answers, see `answers_to`.
            most: bytes that one message can carry.

        Raises:
            TooLarge: the answer is larger. Unserializable: msgpack cannot carry it.
        """
        chunk = pack((number, body))
        if len(chunk) > most:
            raise TooLarge(f"an answer of {len(chunk)} bytes is larger than the NATS servers take ({most})")
        bundle = self._answers.get(to)
        if bundle is not None and bundle.size + len(chunk) > FULL:
            self._send_answers(bundle)
            bundle = None
        if bundle is None:
            bundle = self._answers[to] = _Answers(to)
            self._send_soon()
        bundle.chunks.append(chunk)
        bundle.size += len(chunk)

    # -- sending

    def _send_soon(self) -> None:
        if not self._is_due:
            self._is_due = True
            self._loop.call_soon(self.flush)

    def flush(self) -> None:
        """Send what waits."""
        self._is_due = False
        answers, self._answers = self._answers, {}
        for bundle in answers.values():
            self._send_answers(bundle)
        out, self._out = self._out, {}
        for bundle in out.values():
            self._send_bundle(bundle)

    def _send_answers(self, answers: _Answers) -> None:
        data = self._seal.sealed_bytes(_joined(answers.chunks), answers.to.encode())
        try:
            self._send(answers.to, data, "")
        except LinkDown:
            self._keep(answers.to, data)

    def _send_bundle(self, bundle: _Bundle) -> None:
        chunks = list(bundle.chunks.values())
        if not chunks:
            return
        bundle.chunks = {}
        data = self._seal.sealed_bytes(_joined(chunks), bundle.subject.encode())
        reply = ""
        if bundle.left:
            self._number = number = self._number + 1
            bundle.name = f"{BUNDLE}{number}"
            self._sent[bundle.name] = bundle
            reply = self._prefix + bundle.name
        try:
            self._send(bundle.subject, data, reply)
        except ClusterError as error:
            self._fail(bundle, error)

    # -- what comes

    def received(self, name: str, message: Msg) -> None:
        """Take a message that came to one of this node's subjects for replies."""
        if name == ANSWERS:
            return self._take_answers(message)
        headers = message.headers
        if (
            headers is not None
            and headers.get(STATUS) == NO_RESPONDERS
            and (bundle := self._sent.get(name)) is not None
        ):
            self._fail(bundle, Nobody(f"nobody answers on {bundle.subject}"))
        return None

    def _take_answers(self, message: Msg) -> None:
        try:
            answers = self._seal.opened(message.data, message.subject.encode())
        except NotSealed as error:
            return self._drop(str(error))
        if type(answers) is not list or not all(type(each) is list and len(each) == 2 for each in answers):
            return self._drop(UNREADABLE)
        asked_of = self._asked
        for number, body in answers:
            asked = asked_of.get(number)
            if asked is not None and not asked[0].done():
                asked[0].set_result(body)
        return None

    def lost(self, reason: str) -> None:
        """The connection is gone, and with it the answers to what was sent."""
        for bundle in list(self._sent.values()):
            self._fail(bundle, LinkDown(f"the connection to the servers was lost: {reason}", was_sent=True))

    def not_permitted(self, said: str, error: NotPermitted) -> None:
        """Fail the questions on a subject which the server named in small letters."""
        for bundle in list(self._sent.values()):
            if f'"{bundle.subject.lower()}"' in said:
                self._fail(bundle, error)

    def _fail(self, bundle: _Bundle, error: ClusterError) -> None:
        for number in bundle.numbers:
            asked = self._asked.get(number)
            if asked is not None and not asked[0].done():
                asked[0].set_exception(copy(error))  # each is raised on its own way


def bundle_in(seal: Seal, message: Msg) -> list[tuple[int, msgspec.Raw]]:
    """Return the questions in a message, by number, each still packed. Raises `NotSealed`."""
    try:
        return _questions(seal.opened_bytes(message.data, message.subject.encode()))
    except msgspec.MsgspecError:
        raise NotSealed(UNREADABLE) from None


def answers_to(reply: str) -> str:
    """Return the subject for answers to a node, of which one bundle came with this reply subject."""
    return f"{reply.rpartition('.')[0]}.{ANSWERS}" if reply else ""


def _joined(chunks: list[bytes]) -> bytes:
    """Return packed values as one packed list."""
    return b"\xdd" + len(chunks).to_bytes(4, "big") + b"".join(chunks)


ROOM = HEAD_BYTES + 5
"""Bytes of a message that a bundle of one takes besides its question."""
