"""What is kept of a random secret, an invite's code or an operator's token: its SHA-256. Pure.

It need not be slow: what is random and long cannot be guessed.
"""

from __future__ import annotations

import hashlib
import hmac


def hash_of(secret: str | bytes) -> bytes:
    """Return the SHA-256 of a secret."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass") if isinstance(secret, str) else secret).digest()


def is_hash_of(kept: bytes, given: str) -> bool:
    """Return whether ``kept`` is the hash of a secret that somebody gives, in a time that tells nothing."""
    return hmac.compare_digest(kept, hash_of(given))
