"""Seals what nodes write, so that a message of a stranger is dropped.

A sealed message is one byte for the form, 16 bytes of a keyed BLAKE2b, and the body as msgpack. The
key is made of the network's secret and its ID. The seal covers the place too (a subject, a key of a
bucket), so that what was sealed for one place is refused at another one.

The seal keeps out who does not know the secret. It hides nothing, and who may read the servers'
traffic can send a message again to the same place: TLS and the servers' permissions prevent that.
"""

from __future__ import annotations

from hashlib import blake2b
from hmac import compare_digest
from typing import Any

from ....ipc.errors import RemoteProtocolError
from ....ipc.messages import pack, unpack

FORM = b"\x01"
TAG_BYTES = 16
HEAD_BYTES = len(FORM) + TAG_BYTES
_LATER_FORMS = tuple(bytes([form]) for form in range(2, 16))

UNSEALED, OTHER_FORM, WRONG_SEAL, UNREADABLE = "unsealed", "other form", "wrong seal", "unreadable"
"""Why a message is dropped: it is none of ours, or of a newer version, or sealed with another
network's secret, or its body cannot be read."""


class NotSealed(Exception):
    """A message that no node of this network wrote. Its text is one of the reasons above."""


class Seal:
    """Seals and opens messages of one network."""

    def __init__(self, secret: str, network_id: str) -> None:
        key = blake2b(network_id.encode(), key=blake2b(secret.encode()).digest(), person=b"modvisor").digest()
        self._fresh = blake2b(key=key, digest_size=TAG_BYTES)

    def sealed(self, body: Any, place: bytes) -> bytes:
        """Return the body as the message for this place.

        Raises:
            Unserializable: msgpack cannot carry the body.
        """
        return self.sealed_bytes(pack(body), place)

    def opened(self, message: bytes, place: bytes) -> Any:
        """Return the body of a message that came to this place.

        Raises:
            NotSealed: it is not from a node of this network.
        """
        try:
            return unpack(self.opened_bytes(message, place))
        except RemoteProtocolError:
            raise NotSealed(UNREADABLE) from None

    def sealed_bytes(self, body: bytes, place: bytes) -> bytes:
        """Return bytes as the message for this place, as they are."""
        tag = self._fresh.copy()
        tag.update(place + b"\n")
        tag.update(body)
        return FORM + tag.digest() + body

    def opened_bytes(self, message: bytes, place: bytes) -> bytes:
        """Return the bytes of a message that came to this place. Raises NotSealed."""
        if message[:1] != FORM:
            raise NotSealed(OTHER_FORM if message[:1] in _LATER_FORMS else UNSEALED)
        body = message[HEAD_BYTES:]
        tag = self._fresh.copy()
        tag.update(place + b"\n")
        tag.update(body)
        if not compare_digest(tag.digest(), message[1:HEAD_BYTES]):
            raise NotSealed(WRONG_SEAL)
        return body
