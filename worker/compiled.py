"""Code that need not be compiled again: of the same source, to the byte, and for the same interpreter.

To compile is pure, so what was compiled once is good for ever. Fresh code stays fresh: the source is read each time, and it
alone decides. The supervisor keeps what the workers of a mod have compiled, and hands it to the next (`docs/protocol.md`).
"""

from __future__ import annotations

import marshal
from collections.abc import Mapping
from hashlib import blake2b
from importlib.util import MAGIC_NUMBER
from types import CodeType
from typing import Any


def digest(source: bytes) -> bytes:
    return blake2b(source, digest_size=16).digest()


def packed(code: CodeType) -> bytes:
    """It names the format, so that another Python does not take it for its own."""
    return MAGIC_NUMBER + marshal.dumps(code)


class Compiled:
    """What was handed to this worker.

    Args:
        known: file name to digest of the source and packed code; None: nobody keeps any.
    """

    def __init__(self, known: Mapping[str, Any] | None) -> None:
        self.is_kept = known is not None
        self._known = known or {}

    def find(self, path: str, source: bytes) -> CodeType | None:
        match self._known.get(path):
            case [bytes(of), bytes(code)] if of == digest(source) and code.startswith(MAGIC_NUMBER):
                try:
                    found = marshal.loads(memoryview(code)[len(MAGIC_NUMBER) :])
                except (ValueError, EOFError, TypeError):
                    return None
                return found if isinstance(found, CodeType) else None
        return None
