"""Claims on a real server: one node has a mod at a time, for as long as its session lives."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from typing import Any

import pytest

from modvisor.ipc.errors import ModvisorError
from modvisor.supervisor.cluster.link import Link, NoQuorum
from modvisor.supervisor.cluster.link.buckets import Watch
from modvisor.supervisor.cluster.link.errors import Taken
from modvisor.supervisor.cluster.mods import claims as claims_module
from modvisor.supervisor.cluster.mods.claims import NodeClaims
from modvisor.supervisor.cluster.nodes.session import Session
from modvisor.supervisor.fleet.claims import Claim
from tests.conftest import until
from tests.fleet.claims_contract import ClaimsContract

from .conftest import Linked
from .servers import Servers, config_of

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(30)]

LEASE = 1.0


class Member:
    """A node with its session and claims."""

    def __init__(self, servers: Servers, link: Link, node: str, network: str) -> None:
        self.link = link
        self.session = Session(link, config_of(servers, node, network, lease=LEASE))
        self.claims: NodeClaims

    async def join(self) -> Member:
        await self.session.join()
        self.claims = NodeClaims(await self.link.bucket("claims"), self.session, 1.5 * LEASE)
        await self.claims.open()
        return self

    async def leave(self) -> None:
        await self.claims.close()
        await self.session.leave()


@pytest.fixture
async def two(servers: Servers, linked: Linked, network_id: str) -> AsyncIterator[tuple[Member, Member]]:
    members = [await Member(servers, await linked(servers, node), node, network_id).join() for node in ("a", "b")]
    await until(lambda: all(len(each.session.nodes) == 2 for each in members))
    yield members[0], members[1]
    for member in members:
        await member.leave()


class TestNodeClaims(ClaimsContract):
    """The contract, with claims in a bucket."""

    @pytest.fixture
    async def claims(self, two: tuple[Member, Member]) -> NodeClaims:
        return two[0].claims


async def test_one_of_two_nodes_gets_a_mod(two: tuple[Member, Member]) -> None:
    a, b = two
    first = await a.claims.claim("wiki")
    assert first is not None
    assert await a.claims.claim("wiki") == first, "who has it gets it again"
    assert await b.claims.claim("wiki") is None
    await until(lambda: b.claims.node_of("wiki") == "a")
    assert await b.claims.claim("wiki") is None
    await a.claims.release(first)
    await until(lambda: b.claims.node_of("wiki") is None)
    second = await b.claims.claim("wiki")
    assert second is not None
    assert second.token > first.token


async def test_a_claim_is_handed_over_in_one_step(two: tuple[Member, Member]) -> None:
    a, b = two
    first = await a.claims.claim("wiki")
    assert first is not None
    assert b.session.id is not None
    assert await a.claims.hand_over(first, "b", b.session.id)
    await until(lambda: b.claims.mine("wiki") is not None)
    held = b.claims.mine("wiki")
    assert held is not None
    assert (held.revision > first.token, held.is_handed) == (True, True)
    assert not await a.claims.hand_over(first, "a", "a/1"), "it is not ours any more"
    await a.claims.release(first)
    assert b.claims.mine("wiki") == held, "an old claim releases nothing"


@pytest.mark.parametrize("way", ["hand_over", "release"])
async def test_a_claim_that_was_given_away_too_late_is_taken_back(
    two: tuple[Member, Member], monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    """What the servers did not answer in time they may do later: not after this node runs the mod again."""
    a, b = two
    first = await a.claims.claim("wiki")
    assert first is not None
    assert b.session.id is not None
    bucket, late = a.claims._bucket, list[Callable[[], Awaitable[Any]]]()

    def slow(write: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        async def stored_later(*args: Any) -> Any:
            late.append(partial(write, *args))
            raise NoQuorum("the servers did not answer in time")

        return stored_later

    with monkeypatch.context() as patched:
        patched.setattr(bucket, "update", slow(bucket.update))
        patched.setattr(bucket, "delete", slow(bucket.delete))
        with pytest.raises(NoQuorum):
            await (a.claims.hand_over(first, "b", b.session.id) if way == "hand_over" else a.claims.release(first))
    second = await a.claims.claim("wiki")
    assert second is not None
    assert second.token > first.token
    assert await a.claims.claim("wiki") == second
    with pytest.raises(Taken):
        await late[0]()
    await until(lambda: b.claims.held["wiki"].revision == second.token)
    assert b.claims.node_of("wiki") == "a"


async def test_the_claims_of_a_session_that_has_ended_are_free(two: tuple[Member, Member]) -> None:
    a, b = two
    first = await a.claims.claim("wiki")
    assert first is not None
    await until(lambda: b.claims.node_of("wiki") == "a")
    await a.session.leave()
    await until(lambda: b.claims.node_of("wiki") is None)
    second = await b.claims.claim("wiki")
    assert second is not None
    assert second.token > first.token
    with pytest.raises(ModvisorError, match="this node is cut off from the cluster"):
        await a.claims.claim("wiki")


async def test_a_session_that_nobody_has_seen_is_not_robbed_at_once(two: tuple[Member, Member]) -> None:
    a, b = two
    bucket = await a.link.bucket("claims")
    await bucket.create("wiki", {"node": "c", "session": "c/99"})
    await until(lambda: "wiki" in b.claims.held)
    assert await b.claims.claim("wiki") is None, "the news of its session may be on its way"
    claims: list[Claim] = []

    async def robbed() -> None:
        while (claim := await b.claims.claim("wiki")) is None:
            await until(lambda: b.claims.is_gone(b.claims.held["wiki"]))
        claims.append(claim)

    await robbed()
    assert [claim.mod_id for claim in claims] == ["wiki"]


async def test_a_node_that_does_not_hear_of_sessions_takes_none_for_gone(
    two: tuple[Member, Member], monkeypatch: pytest.MonkeyPatch
) -> None:
    a, b = two
    await (await a.link.bucket("claims")).create("wiki", {"node": "c", "session": "c/99"})
    await until(lambda: "wiki" in b.claims.held)
    b.claims._patience = -1.0  # what was not heard of is gone at once
    with monkeypatch.context() as patched:
        patched.setattr(Watch, "problem", "JetStream has no leader")
        assert not b.claims.is_gone(b.claims.held["wiki"])
    assert b.claims.is_gone(b.claims.held["wiki"])


async def test_sessions_that_have_ended_are_forgotten_unless_a_claim_names_them(
    two: tuple[Member, Member], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(claims_module, "FORGOTTEN", -1.0)
    a, b = two
    assert await a.claims.claim("wiki") is not None
    session = a.session.id
    await until(lambda: b.claims.node_of("wiki") == "a")
    await a.session.leave()
    await until(lambda: b.claims.node_of("wiki") is None)
    held = b.claims.held["wiki"]
    assert b.claims.is_gone(held)
    assert b.claims.ended(held) is not None
    assert await b.claims.claim("wiki") is not None
    b.claims._look_at_sessions()
    assert session not in b.claims._seen | b.claims._ended.keys()
