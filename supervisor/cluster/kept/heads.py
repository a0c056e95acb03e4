"""What names the newest of what a mod keeps, below the mod's subject.

`NAME.f` names a file of the mod (`context.files`) in the store of files; `WORKER.c` holds the checkpoint of
a worker, or names its file.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from nats.aio.msg import Msg

from ....ipc.errors import ModvisorError
from ..link.following import read_once
from ..link.jetstream import JetStream, Stored
from ..link.names import text_of, token
from ..link.seal import NotSealed

if TYPE_CHECKING:
    from .fenced import Fenced


class CheckpointHead(NamedTuple):
    """What is known of a checkpoint. The state is in ``packed``, or in the file of this name."""

    mod_id: str
    version: str
    at: float
    size: int
    packed: bytes
    file: str

    @classmethod
    def of(cls, mod_id: str, version: str, at: float, packed: bytes, file: str) -> CheckpointHead:
        """Return the head of a state, which is in a file unless that is the empty text."""
        return cls(mod_id, version, at, len(packed), b"" if file else packed, file)

    def gone(self) -> ModvisorError:
        return ModvisorError(f"the checkpoint of mod {self.mod_id} is gone: the file '{self.file}' was deleted")


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


def checkpoint_name(mod_id: str) -> str:
    """Return the end of the subject of the checkpoint of a worker."""
    return f"{token(mod_id)}.c"


async def newest_checkpoint(fenced: Fenced, mod_id: str) -> CheckpointHead | None:
    """Return the head of the newest checkpoint of a worker, or None. Raises ClusterError."""
    found = await fenced.newest(f"{fenced.root}.{checkpoint_name(mod_id)}")
    return None if found is None or not found.data else CheckpointHead(*fenced.opened(found))


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
