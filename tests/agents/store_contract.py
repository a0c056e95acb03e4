"""What every store of agents, channels and invites must do; see `agents.store.AgentStore`.

A test file derives from the suite and says how a registry is opened over its store.
"""

from __future__ import annotations

import asyncio
from contextlib import AbstractAsyncContextManager

import pytest

from modvisor.supervisor.agents import AgentRegistry, Refusal, no_such_channel
from modvisor.supervisor.config import AgentsConfig, GroupConfig

GROUPS = {"admins": GroupConfig("admins", frozenset({"agents", "mods"}))}
CONFIG = AgentsConfig(channels_per_agent=50)


class AgentStoreContract:
    """The suite. Each test opens the same store twice: what the second registry knows was kept."""

    def opened(self) -> AbstractAsyncContextManager[AgentRegistry]:
        """Open a registry with `CONFIG` and `GROUPS` over the store of this test."""
        raise NotImplementedError

    async def test_an_agent_is_kept_with_its_secret_group_and_metadata(self) -> None:
        async with self.opened() as registry:
            agent, secret = await registry.kept(
                lambda: registry.register("Alice@host", {"name": "Alice", "n": [1, None]}, group="admins", trusted=True)
            )
        async with self.opened() as registry:
            (found,) = registry
            assert (found.agent_id, found.metadata, found.group) == (
                "Alice@host",
                {"name": "Alice", "n": [1, None]},
                "admins",
            )
            assert (found.registered_at, found.owner) == (agent.registered_at, agent.owner)
            assert registry.authenticate("Alice@host", secret) is found
            assert registry.authenticate("Alice@host", "wrong") is None
            assert found.rights.permissions == {"agents", "mods"}

    async def test_an_agent_that_takes_its_id_over_keeps_its_time_and_has_the_new_secret(self) -> None:
        async with self.opened() as registry:
            first, former = await registry.kept(lambda: registry.register("alice", {}))
            _, secret = await registry.kept(lambda: registry.register("alice", {"new": True}, secret=former))
        async with self.opened() as registry:
            assert registry.authenticate("alice", former) is None
            found = registry.authenticate("alice", secret)
            assert found is not None
            assert (found.metadata, found.registered_at) == ({"new": True}, first.registered_at)

    async def test_a_guest_is_kept_as_one_and_so_is_its_return(self) -> None:
        async with self.opened() as registry:
            _, secret = await registry.kept(lambda: registry.register("guest", {}, address="192.0.2.7"))
            await registry.kept(lambda: registry.register("other", {}, address="192.0.2.7"))
            assert registry.authenticate("guest", secret) is not None
            await registry.kept(lambda: registry.join("hall", "other"))  # what came before it is kept by then
        async with self.opened() as registry:
            found = {agent.agent_id: (agent.is_guest, agent.address, agent.has_returned) for agent in registry}
            assert found == {"guest": (True, "192.0.2.7", True), "other": (True, "192.0.2.7", False)}

    async def test_an_agent_that_left_is_gone_from_its_channels_too(self) -> None:
        async with self.opened() as registry:
            for name in ("alice", "bob"):
                await registry.kept(lambda name=name: registry.register(name, {}))
            await registry.kept(lambda: registry.join("hall", "alice"))
            await registry.kept(lambda: registry.join("den", "alice"))
            await registry.kept(lambda: registry.join("hall", "bob"))
            await registry.kept(lambda: registry.unregister("alice"))
        async with self.opened() as registry:
            assert [agent.agent_id for agent in registry] == ["bob"]
            assert {name: registry.channel_members(name) for name in registry.channels()} == {"hall": ["bob"]}
            await registry.kept(lambda: registry.register("alice", {}))
            assert list(registry.channels_of("alice")) == []

    async def test_members_are_kept_in_the_order_in_which_they_joined(self) -> None:
        names = ["d", "b", "a", "c"]
        async with self.opened() as registry:
            for name in names:
                await registry.kept(lambda name=name: registry.register(name, {}))
            for name in names:
                await registry.kept(lambda name=name: registry.join("hall.1", name))
            await registry.kept(lambda: registry.leave("hall.1", "b"))
            await registry.kept(lambda: registry.join("hall.1", "b"))
        async with self.opened() as registry:
            assert registry.channel_members("hall.1") == ["d", "a", "c", "b"]

    async def test_a_private_channel_is_kept_and_its_name_is_free_after_it(self) -> None:
        async with self.opened() as registry:
            for name in ("alice", "bob"):
                await registry.kept(lambda name=name: registry.register(name, {}))
            await registry.kept(lambda: registry.create("den", "alice", private=True))
            await registry.kept(lambda: registry.create("nest", "alice", private=True))
            await registry.kept(lambda: registry.join("den", "bob"))
            await registry.kept(lambda: registry.leave("nest", "alice"))
        async with self.opened() as registry:
            assert registry.private == {"den": "alice"}
            assert registry.channel_members("den") == ["alice", "bob"]
            await registry.kept(lambda: registry.create("nest", "bob"))
            await registry.kept(lambda: registry.remove_channel("den"))
        async with self.opened() as registry:
            assert (registry.private, registry.channels()) == ({}, ["nest"])

    async def test_invites_are_kept_with_the_uses_that_are_left(self) -> None:
        async with self.opened() as registry:
            _, twice = await registry.kept(lambda: registry.invite(uses=2))
            revoked, gone = await registry.kept(lambda: registry.invite())
            await registry.kept(lambda: registry.revoke_invite(revoked.invite_id))
            _, used = await registry.kept(lambda: registry.invite(group="admins", agents="boss"))
            await registry.kept(lambda: registry.register("boss", {}, invite=used))
            await registry.kept(lambda: registry.register("alice", {}, invite=twice))
        async with self.opened() as registry:
            (left,) = registry.invites
            assert left.uses == 1
            for code in (gone, used):
                with pytest.raises(Refusal, match="does not exist, was used up or revoked"):
                    registry.register("eve", {}, invite=code)
            await registry.kept(lambda: registry.register("bob", {}, invite=twice))
            assert registry.invites == []

    async def test_a_change_that_raises_keeps_nothing(self) -> None:
        async with self.opened() as registry:

            def change() -> None:
                registry.register("alice", {})
                registry.join("hall", "alice")
                raise no_such_channel("hall")

            with pytest.raises(Refusal):
                registry.begin(change)
            assert (list(registry), registry.channels()) == ([], [])
            await registry.kept(lambda: registry.register("bob", {}))
        async with self.opened() as registry:
            assert [agent.agent_id for agent in registry] == ["bob"]
            assert registry.channels() == []

    async def test_changes_that_are_begun_together_are_kept_in_their_order(self) -> None:
        async with self.opened() as registry:
            begun = [registry.begin(lambda: registry.register("alice", {}))[1]]
            for _ in range(3):
                begun.append(registry.begin(lambda: registry.join("hall", "alice"))[1])
                begun.append(registry.begin(lambda: registry.leave("hall", "alice"))[1])
            begun.append(registry.begin(lambda: registry.unregister("alice"))[1])
            begun.append(registry.begin(lambda: registry.register("alice", {"again": True}))[1])
            begun.append(registry.begin(lambda: registry.join("den", "alice"))[1])
            await asyncio.gather(*(each for each in begun if each is not None))
        async with self.opened() as registry:
            (agent,) = registry
            assert agent.metadata == {"again": True}
            assert {name: registry.channel_members(name) for name in registry.channels()} == {"den": ["alice"]}
