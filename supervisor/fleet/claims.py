"""Claims: the right to run a mod, which at most one node of a network has at a time.

A network on one machine needs to ask nobody: `LocalClaims` grants every claim. With several machines
the claims are kept where all nodes see them. Each grant has a number that is greater than those of
all earlier grants of the mod, its *fencing token*: what is written with an older one is refused.
"""

from __future__ import annotations

import logging
from typing import NamedTuple, Protocol

from ...ipc.errors import Code, ModvisorError
from ..lifecycle import StartFailed

logger = logging.getLogger("modvisor.registry")


class Claim(NamedTuple):
    """The right to run one mod.

    Attributes:
        token: greater than the token of each earlier claim of the mod.
    """

    mod_id: str
    token: int


class Claims(Protocol):
    """Grants the right to run mods."""

    async def claim(self, mod_id: str) -> Claim | None:
        """Return the right to run a mod; None if somebody else has it.

        Who has the right already gets it again.

        Raises:
            ModvisorError: it cannot be told who has it.
        """
        ...

    async def release(self, claim: Claim) -> None:
        """Give a right back. A right that was lost meanwhile stays with its present owner.

        Raises:
            ModvisorError: it cannot be given back now; it ends by itself with the node's session.
        """
        ...


class LocalClaims:
    """The claims of a network on one machine: all of them are granted, and the tokens count up from 1."""

    def __init__(self) -> None:
        self._newest = 0

    async def claim(self, mod_id: str) -> Claim | None:
        self._newest += 1
        return Claim(mod_id, self._newest)

    async def release(self, claim: Claim) -> None:
        """Nobody waits for it."""


class Rights:
    """The claims of the mods that run here.

    Args:
        tokens: where the fencing tokens go, by mod id, when the claims have some that matter to a mod.

    Attributes:
        claims: grants them; assigned before the first mod is loaded.
    """

    def __init__(self, tokens: dict[str, int]) -> None:
        self.claims: Claims = LocalClaims()
        self._tokens = tokens
        self._held: dict[str, Claim] = {}

    async def take(self, mod_id: str) -> None:
        """Claim a mod that is to start here. Raises `StartFailed`: another node has it."""
        try:
            claim = await self.claims.claim(mod_id)
        except ModvisorError as error:
            raise StartFailed(str(error), code=error.code, **error.details) from None
        if claim is None:
            raise StartFailed(f"mod {mod_id} runs on another node", code=Code.MOD_AWAY)
        self._held[mod_id] = claim
        if not isinstance(self.claims, LocalClaims):
            self._tokens[mod_id] = claim.token

    def lend(self, mod_id: str) -> Claim | None:
        """Return the claim of a mod, and leave it to the caller: it is not released when the mod ends here."""
        return self._held.pop(mod_id, None)

    def take_back(self, claim: Claim) -> None:
        """Take back a claim that was lent."""
        self._held[claim.mod_id] = claim

    async def give_back(self, mod_id: str) -> None:
        """Release the claim of a mod that has ended here."""
        self._tokens.pop(mod_id, None)
        if (claim := self._held.pop(mod_id, None)) is not None:
            try:
                await self.claims.release(claim)
            except ModvisorError as error:
                logger.warning("mod %s: its claim was not given back: %s", mod_id, error)
