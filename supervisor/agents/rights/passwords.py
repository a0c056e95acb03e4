"""Checks passwords of groups that are stored as argon2id, which takes long on purpose.

A check takes some 20 ms of a core and 19 MiB (`modvisor hash-password`), so it runs in a thread. At
most two run at once, and an address has one at a time: otherwise it could guess many passwords
before the first wrong one is counted. `argon2` is imported with the first check.

A password that was right is remembered as a keyed hash, so that a thousand agents of a group that
come back after a restart are checked once. The key is made at each start, and stored nowhere.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import logging
import secrets
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager

import anyio.to_thread

from ....ipc.errors import Code
from ...config import AgentsConfig, is_sha256
from .refusal import Refusal

logger = logging.getLogger("modvisor.agents")

CHECKS = 2
"""Checks at once. No key of the network file: it bounds what strangers take of the machine."""

_SHARE = 8  # one address may have this part of the queue


class Passwords:
    """Checks what agents give against stored passwords.

    Args:
        config: returns the limits in force.
    """

    def __init__(self, config: Callable[[], AgentsConfig]) -> None:
        self._config = config
        self._slots = asyncio.Semaphore(CHECKS)
        self._turns: dict[str, asyncio.Lock] = {}  # of the addresses that are here
        self._here: Counter[str | None] = Counter()
        self._key = secrets.token_bytes(32)
        self._right: dict[str, bytes] = {}  # stored password -> keyed hash of what proved it

    def keep_only(self, stored: Iterable[str | None]) -> None:
        """Forget what proved other passwords than these."""
        known = set(stored)
        self._right = {each: proof for each, proof in self._right.items() if each in known}

    @asynccontextmanager
    async def turn(self, address: str | None) -> AsyncIterator[None]:
        """Wait for the turn of an address, and for a slot.

        Raises:
            Refusal: overloaded or too_many: too many wait already.
        """
        self._check_queue(address)
        self._here[address] += 1
        try:
            if address is None:
                async with self._slots:
                    yield
            else:
                async with self._turns.setdefault(address, asyncio.Lock()), self._slots:
                    yield
        finally:
            self._here[address] -= 1
            if not self._here[address]:
                del self._here[address]
                self._turns.pop(address or "", None)

    def _check_queue(self, address: str | None) -> None:
        most = self._config().password_queue
        if address is not None and self._here[address] > most // _SHARE:
            text = f"{self._here[address]} passwords from {address} are being checked; wait for the answers"
            raise Refusal(text, code=Code.TOO_MANY, retry_after=1)
        if self._here.total() >= CHECKS + most:
            text = f"{self._here.total()} passwords are being checked, which is the most ('agents.password_queue')"
            raise Refusal(text, code=Code.OVERLOADED, retry_after=1)

    async def which(self, stored: Iterable[str], given: str) -> frozenset[str]:
        """Return the argon2id passwords that ``given`` is, a SHA-256 in hexadecimal.

        Call it in a `turn`, and act on the answer before you wait again.

        Raises:
            Refusal: overloaded: there is no memory for the check.
        """
        if not is_sha256(given):
            return frozenset()
        given = given.lower()
        return frozenset([each for each in stored if await self._is_right(each, given)])

    async def _is_right(self, stored: str, given: str) -> bool:
        proof = hmac.digest(self._key, given.encode(), hashlib.sha256)
        if hmac.compare_digest(self._right.get(stored, b""), proof):
            return True
        if not await anyio.to_thread.run_sync(_verified, stored, given):
            return False
        self._right[stored] = proof
        return True


def is_argon2id(stored: str | None) -> bool:
    return stored is not None and stored.startswith("$argon2id$")


def is_same(expected: str | None, given: str | None) -> bool:
    """Compare two hexadecimal hashes in constant time. `given` may be any text."""
    if not expected or not given:
        return False
    # As bytes: compare_digest takes no text beyond ASCII.
    ours, theirs = (text.lower().encode("utf-8", "surrogatepass") for text in (expected, given))
    return hmac.compare_digest(ours, theirs)


def _verified(stored: str, given: str) -> bool:
    from argon2.exceptions import InvalidHash, VerificationError, VerifyMismatchError  # 5 ms, which few networks need
    from argon2.low_level import Type, verify_secret

    try:
        return verify_secret(stored.encode(), given.encode(), Type.ID)
    except VerifyMismatchError:
        return False
    except (VerificationError, InvalidHash) as error:
        logger.error("a password could not be checked: %s", error)
        raise Refusal("the password could not be checked; try again later", code=Code.OVERLOADED) from None
