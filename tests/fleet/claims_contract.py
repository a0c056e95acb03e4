"""What every implementation of `Claims` holds. Each runs these tests with its own ``claims`` fixture."""

from __future__ import annotations

from modvisor.supervisor.fleet.claims import Claims


class ClaimsContract:
    """Subclass it as a test class; the fixture ``claims`` is the one under test."""

    async def test_a_claim_is_granted_and_names_its_mod(self, claims: Claims) -> None:
        claim = await claims.claim("wiki")
        assert claim is not None
        assert claim.mod_id == "wiki"
        assert claim.token > 0

    async def test_a_later_claim_has_a_greater_token(self, claims: Claims) -> None:
        first = await claims.claim("wiki")
        assert first is not None
        await claims.release(first)
        second = await claims.claim("wiki")
        assert second is not None
        assert second.token > first.token

    async def test_each_mod_has_a_claim_of_its_own(self, claims: Claims) -> None:
        assert await claims.claim("wiki") is not None
        assert await claims.claim("shop") is not None

    async def test_a_claim_may_be_given_back_twice(self, claims: Claims) -> None:
        claim = await claims.claim("wiki")
        assert claim is not None
        await claims.release(claim)
        await claims.release(claim)
        assert await claims.claim("wiki") is not None
