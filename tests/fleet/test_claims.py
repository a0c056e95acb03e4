"""The claims of a network on one machine, and what the mods that run here hold."""

from __future__ import annotations

import pytest

from modvisor.ipc.errors import Code, ModvisorError
from modvisor.supervisor.fleet.claims import Claim, Claims, LocalClaims, Rights
from modvisor.supervisor.lifecycle import StartFailed

from .claims_contract import ClaimsContract

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(10)]


@pytest.fixture
def claims() -> Claims:
    return LocalClaims()


class TestLocalClaims(ClaimsContract):
    """The contract, without any other node."""


class _Elsewhere:
    """Another node has everything, or cannot be asked."""

    def __init__(self, token: int | None = None, error: ModvisorError | None = None) -> None:
        self.token, self.error = token, error
        self.released: list[Claim] = []

    async def claim(self, mod_id: str) -> Claim | None:
        if self.error is not None:
            raise self.error
        return None if self.token is None else Claim(mod_id, self.token)

    async def release(self, claim: Claim) -> None:
        self.released.append(claim)


async def test_a_mod_that_another_node_has_does_not_start() -> None:
    rights = Rights({})
    rights.claims = _Elsewhere()
    with pytest.raises(StartFailed, match="mod wiki runs on another node") as failed:
        await rights.take("wiki")
    assert failed.value.code == Code.MOD_AWAY


async def test_a_mod_does_not_start_while_nobody_can_say_who_has_it() -> None:
    rights = Rights({})
    rights.claims = _Elsewhere(error=ModvisorError("the servers are away", code=Code.MOD_AWAY))
    with pytest.raises(StartFailed, match="the servers are away"):
        await rights.take("wiki")


async def test_tokens_reach_the_mods_of_a_cluster_alone() -> None:
    tokens: dict[str, int] = {}
    rights = Rights(tokens)
    await rights.take("wiki")
    assert tokens == {}, "on one machine a token says nothing: it counts from 1 at each start"
    rights.claims = claims = _Elsewhere(token=7)
    await rights.take("wiki")
    assert tokens == {"wiki": 7}
    await rights.give_back("wiki")
    await rights.give_back("wiki")
    assert (tokens, claims.released) == ({}, [Claim("wiki", 7)])
