"""Hashes secrets for keeping: a random secret, an invite's code or an operator's token becomes its SHA-256. Pure.

It need not be slow: what is random and long cannot be guessed.
"""

from __future__ import annotations

import hashlib
import hmac


def hash_of(secret: str | bytes) -> bytes:
    """Return the SHA-256 of a secret."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass") if isinstance(secret, str) else secret).digest()


def is_hash_of(kept: bytes, given: str) -> bool:
    """Return whether ``kept`` is the hash of the given secret. The comparison takes constant time."""
    return hmac.compare_digest(kept, hash_of(given))
