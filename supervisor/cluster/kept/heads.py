"""Which files a mod has (`context.files`): `NAME.f` below its subject names the file in the store of files."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from nats.aio.msg import Msg

from ..link.following import read_once
from ..link.jetstream import JetStream, Stored
from ..link.names import text_of, token
from ..link.seal import NotSealed

if TYPE_CHECKING:
    from .fenced import Fenced


class Head(NamedTuple):
    """What is known of a file of a mod. ``file``: its name in the store of files."""

    name: str
    at: float
    size: int
    file: str

    @property
    def subject(self) -> str:
        """The end of the subject of the message that names the file."""
        return subject_of(self.name)


def subject_of(name: str) -> str:
    return f"{token(name)}.f"


def head_of(body: Any) -> Head:
    name, at, size, file = body
    return Head(name, at, size, file)


async def read_heads(jetstream: JetStream, stream: str, fenced: Fenced) -> dict[str, Head]:
    """Return the files of a mod by name. Raises ClusterError."""
    reader = _Heads(fenced)
    await read_once(jetstream, stream, f"{fenced.root}.*.f", reader, first="last_per_subject")
    return reader.found


class _Heads:
    """Reads the messages that name files."""

    def __init__(self, fenced: Fenced) -> None:
        self._fenced = fenced
        self.found: dict[str, Head] = {}

    def begun(self, is_fresh: bool) -> None:
        if is_fresh:
            self.found.clear()

    def received(self, message: Msg, seq: int) -> None:
        self.found.pop(text_of(message.subject.split(".")[-2]), None)
        if not message.data:
            return
        try:
            head = head_of(self._fenced.opened(Stored(message.subject, seq, message.data)))
        except (NotSealed, ValueError, TypeError):
            self._fenced.drop("not a file of ours")
        else:
            self.found[head.name] = head

    def complete(self) -> None: ...
