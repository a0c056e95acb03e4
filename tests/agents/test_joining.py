"""How a new id is registered: modes, invites, reserved ids, managers, and what they may do to others."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, TypeVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modvisor.supervisor.agents import AgentRegistry, Manager, Refusal
from modvisor.supervisor.agents import joining as room
from modvisor.supervisor.config import AgentsConfig, GroupConfig
from modvisor.supervisor.journal import Journal

from .registries import Registry, password

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(30)]

T = TypeVar("T")

GROUPS = {
    "admins": GroupConfig(
        "admins", frozenset({"mods", "agents", "channels"}), password("sesame"), may_register=("boss*",)
    ),
    "moderators": GroupConfig("moderators", frozenset({"agents"}), password("order"), send=("chat.*",)),
    "members": GroupConfig("members", password_hash=password("books")),
    "open": GroupConfig("open"),
}
PASSWORD = {"password_hash": password("books")}


def refused(registry: AgentRegistry, agent_id: str, **how: Any) -> str | None:
    """Return the code of the refusal to register, None if the agent was registered."""
    before = registry.get(agent_id), registry.invites
    try:
        registry.register(agent_id, {}, **how)
    except Refusal as refusal:
        assert (registry.get(agent_id), registry.invites) == before, "a refusal changes nothing"
        return str(refusal.code)
    return None


def manager(registry: Registry, agent_id: str, word: str) -> Manager:
    agent, _ = registry.register(agent_id, {}, password_hash=password(word))
    return Manager(agent.rights.permissions, agent.rights)


@pytest.fixture
def wall(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Sets the wall clock that invites expire by."""

    class Clock:
        now = 1_000_000.0

        def time(self) -> float:
            return self.now

        def monotonic(self) -> float:
            return 0.0

    clock = Clock()
    monkeypatch.setattr(room, "time", clock)
    return lambda seconds: setattr(clock, "now", clock.now + seconds)


# -- modes


@pytest.mark.parametrize(
    ("mode", "nothing", "with_password", "with_invite", "managed"),
    [
        ("open", None, None, None, None),
        ("group_password", "unauthenticated", None, None, None),
        ("invite", "unauthenticated", "unauthenticated", None, None),
        ("closed", "forbidden", "forbidden", "forbidden", None),
    ],
)
def test_what_a_new_id_needs_in_each_mode(
    mode: str, nothing: str | None, with_password: str | None, with_invite: str | None, managed: str | None
) -> None:
    registry = Registry(GROUPS)
    codes = [registry.invite()[1] for _ in range(2)]
    _, secret = registry.register("here", {})
    registry.use_groups(GROUPS, AgentsConfig(registration=mode))
    assert refused(registry, "a") == nothing
    assert refused(registry, "b", **PASSWORD) == with_password
    assert refused(registry, "c", invite=codes[0]) == with_invite
    assert refused(registry, "d", invite=codes[1], **PASSWORD) == with_invite
    assert refused(registry, "e", manages=frozenset({"agents"})) == managed
    assert refused(registry, "f", trusted=True) is None
    assert refused(registry, "here", secret=secret) is None, "who is there stays"


def test_the_older_key_means_a_password() -> None:
    assert AgentsConfig(requires_password=True).registration == "group_password"
    assert AgentsConfig(requires_password=True, registration="invite").registration == "invite"


# -- invites


def test_an_invite_registers_once_and_vouches() -> None:
    registry = Registry(GROUPS, registration="invite")
    invite, code = registry.invite(group="admins", agents="carol")
    assert refused(registry, "carol", invite=code, address="192.0.2.1") is None
    carol = registry.get("carol")
    assert carol is not None
    assert (carol.group, carol.is_guest, registry.invites) == ("admins", False, [])
    assert [kind for kind, _ in registry.changes] == ["invite", "register", "revoke_invite"]
    assert code not in repr(registry.changes), "the code is stored nowhere"
    registry.unregister("carol")
    assert refused(registry, "carol", invite=code) == "unauthenticated"
    assert invite.invite_id == code.split("-")[1]


def test_an_invite_is_used_as_often_as_it_says() -> None:
    registry = Registry(GROUPS, registration="invite")
    _, code = registry.invite(uses=2)
    outcomes = [refused(registry, agent_id, invite=code) for agent_id in "abc"]
    assert outcomes == [None, None, "unauthenticated"]


@pytest.mark.parametrize("changed", ["", "x", "inv", "inv-", "inv--", "{}x", "X{}", "\ud800", "inv-{}-\ud800"])
def test_a_wrong_code_registers_nobody(changed: str) -> None:
    registry = Registry(GROUPS, registration="invite")
    _, code = registry.invite()
    assert refused(registry, "a", invite=changed.format(code)) == "unauthenticated"
    assert len(registry.invites) == 1


def test_who_tries_codes_must_wait_and_nobody_else() -> None:
    registry = Registry(GROUPS, wrong_passwords=2)
    _, code = registry.invite()
    for _ in range(3):
        assert refused(registry, "a", invite="inv-1-2", address="192.0.2.1") == "unauthenticated"
    assert refused(registry, "a", invite=code, address="192.0.2.1") == "too_many"
    assert refused(registry, "b", address="192.0.2.1", **PASSWORD) is None, "passwords are counted by themselves"
    assert refused(registry, "a", invite=code, address="192.0.2.2") is None


def test_an_invite_expires(wall: Callable[[float], None]) -> None:
    registry = Registry(GROUPS)
    _, code = registry.invite(expires=60.0)
    wall(59.0)
    assert len(registry.invites) == 1
    wall(2.0)
    assert registry.invites == []
    assert refused(registry, "a", invite=code) == "unauthenticated"
    registry.invite()
    assert [kind for kind, _ in registry.changes] == ["invite", "revoke_invite", "invite"], "it left the journal, too"


def test_a_revoked_invite_registers_nobody() -> None:
    registry = Registry(GROUPS)
    invite, code = registry.invite()
    registry.revoke_invite(invite.invite_id)
    assert refused(registry, "a", invite=code) == "unauthenticated"
    with pytest.raises(Refusal, match="no invite") as caught:
        registry.revoke_invite(invite.invite_id)
    assert caught.value.code == "not_found"


def test_an_invite_is_for_its_id_and_its_group() -> None:
    registry = Registry(GROUPS)
    _, code = registry.invite(group="members", agents="bot-*")
    assert refused(registry, "alice", invite=code) == "forbidden"
    assert refused(registry, "bot-1", invite=code, group="admins") == "forbidden"
    assert refused(registry, "bot-1", invite=code, group="members") is None


def test_an_invite_takes_no_live_id_but_lets_its_owner_join() -> None:
    registry = Registry(GROUPS)
    _, secret = registry.register("alice", {}, address="192.0.2.1")
    _, code = registry.invite(group="members", agents="alice")
    assert refused(registry, "alice", invite=code) == "id_taken"
    assert refused(registry, "alice", invite=code, secret=secret) is None
    alice = registry.get("alice")
    assert alice is not None
    assert (alice.group, alice.is_guest) == ("members", False)


def test_a_lost_answer_costs_no_invite() -> None:
    registry = Registry(GROUPS, registration="invite")
    _, code = registry.invite(group="members")
    for _ in range(2):
        _, secret = registry.register("alice", {}, invite=code, address="192.0.2.1")
    assert refused(registry, "alice", invite=code, address="192.0.2.2") == "unauthenticated"
    assert refused(registry, "bob", invite=code, address="192.0.2.1") == "unauthenticated"
    registry.time = 1.0
    assert registry.authenticate("alice", secret) is not None
    assert refused(registry, "alice", invite=code, address="192.0.2.1") == "unauthenticated"
    _, shared = registry.invite(uses=2)
    assert refused(registry, "carol", invite=shared) is None
    assert refused(registry, "carol", invite=shared) == "id_taken", "others may have this code"


@pytest.mark.parametrize(
    ("asked", "code", "text"),
    [
        ({"group": "nobody"}, "no_such_group", "agent_group 'nobody' is not configured"),
        ({"agents": "a b"}, "bad_input", "agent: expected the id of an agent"),
        ({"agents": "a..b"}, "bad_input", "agent: expected"),
        ({"uses": 0}, "bad_input", "uses: expected a whole number from 1"),
        ({"uses": True}, "bad_input", "uses: expected"),
        ({"expires": 0}, "bad_input", "expires: expected more than 0 seconds"),
        ({"expires": 1e10}, "bad_input", "expires: expected"),
        ({"expires": float("nan")}, "bad_input", "expires: expected"),
    ],
)
def test_an_invite_that_makes_no_sense_is_refused(asked: dict[str, Any], code: str, text: str) -> None:
    registry = Registry(GROUPS)
    with pytest.raises(Refusal) as caught:
        registry.invite(**asked)
    assert (caught.value.code, str(caught.value).startswith(text), registry.changes) == (code, True, [])


def test_invites_are_bounded_and_none_is_made_for_a_closed_network() -> None:
    registry = Registry(GROUPS, max_invites=2)
    for code in (None, None, "overloaded"):
        if code is None:
            registry.invite()
        else:
            with pytest.raises(Refusal, match=r"'agents\.max_invites'"):
                registry.invite()
    with pytest.raises(Refusal, match="nobody could use it"):
        Registry(GROUPS, registration="closed").invite()


# -- invites and the disk


class Disk:
    """Runs changes, and lets a test say later whether they were stored."""

    def __init__(self) -> None:
        self.pending: list[asyncio.Future[None]] = []

    def commit(self, what: str, change: Callable[[], T]) -> tuple[T, asyncio.Future[None]]:
        result = change()
        self.pending.append(asyncio.get_running_loop().create_future())
        return result, self.pending[-1]

    async def settle(self, *, fails: bool) -> None:
        future = self.pending.pop(0)
        if fails:
            future.set_exception(OSError("the disk is full"))
            future.exception()
        else:
            future.set_result(None)
        await asyncio.sleep(0)


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("make"), st.integers(1, 3)),
        st.tuples(st.just("register"), st.integers(0, 2)),
        st.tuples(st.just("revoke"), st.integers(0, 2)),
        st.tuples(st.just("settle"), st.booleans()),
    ),
    max_size=25,
)


@given(STEPS)
@settings(max_examples=40)
def test_whatever_the_disk_does_an_invite_is_used_no_more_than_it_says(steps: list[tuple[str, Any]]) -> None:
    async def run() -> None:
        disk = Disk()
        registry = AgentRegistry(AgentsConfig(registration="invite"), {}, lambda _kind, _data: None, commit=disk.commit)
        codes: list[tuple[str, str, int]] = []
        revoked: set[str] = set()
        number = 0
        for step, value in steps:
            number += 1
            if step == "make":
                (invite, code), _ = registry.begin(lambda value=value: registry.invite(uses=value))
                codes.append((invite.invite_id, code, value))
            elif step == "settle":
                if disk.pending:
                    await disk.settle(fails=value)
            elif value < len(codes) and step == "register":
                code = codes[value][1]
                try:
                    registry.begin(
                        lambda code=code, id=f"a{number}": registry.register(id, {"with": code}, invite=code)
                    )
                except Refusal:
                    continue
            elif value < len(codes):
                invite_id = codes[value][0]
                try:
                    registry.begin(lambda invite_id=invite_id: registry.revoke_invite(invite_id))
                except Refusal:
                    continue
                revoked.add(invite_id)
            for invite_id, code, uses in codes:
                left = sum(each.uses for each in registry.invites if each.invite_id == invite_id)
                used = sum(agent.metadata["with"] == code for agent in registry)
                assert used + left <= uses
        while disk.pending:
            await disk.settle(fails=False)

    asyncio.run(run())


async def test_an_invite_is_spent_together_with_the_registration() -> None:
    disk = Disk()
    registry = AgentRegistry(AgentsConfig(), {}, lambda _kind, _data: None, commit=disk.commit)
    _, code = registry.invite()
    registry.begin(lambda: registry.register("alice", {}, invite=code))
    assert registry.invites == []
    await disk.settle(fails=True)
    assert (registry.get("alice"), len(registry.invites)) == (None, 1)
    registry.begin(lambda: registry.register("alice", {}, invite=code))
    await disk.settle(fails=False)
    assert (registry.get("alice") is not None, registry.invites) == (True, [])


@contextlib.asynccontextmanager
async def opened(file: Path) -> AsyncIterator[AgentRegistry]:
    """A registry whose changes are in a journal, with what the last run left there."""
    journal = Journal(file)
    kept = journal.open()
    registry = AgentRegistry(AgentsConfig(), GROUPS, journal.record, commit=journal.together)
    registry.restore(kept.agents, kept.channels, kept.private, kept.invites)
    yield registry
    await asyncio.to_thread(journal.close)


async def test_invites_outlive_a_restart_as_they_are(tmp_path: Path) -> None:
    async with opened(tmp_path / "network.db") as registry:
        kept = registry.kept
        _, twice = await kept(lambda: registry.invite(uses=2))
        revoked, gone = await kept(lambda: registry.invite())
        await kept(lambda: registry.revoke_invite(revoked.invite_id))
        _, used = await kept(lambda: registry.invite(group="admins", agents="boss"))
        await kept(lambda: registry.register("boss", {}, invite=used))
        await kept(lambda: registry.register("alice", {}, invite=twice))
    async with opened(tmp_path / "network.db") as registry:
        (left,) = registry.invites
        assert (left.uses, left.group, left.agents, left.created_by) == (1, None, None, "operator")
        outcomes = [refused(registry, f"b{at}", invite=code) for at, code in enumerate((used, gone, twice, twice))]
        assert outcomes == ["unauthenticated", "unauthenticated", None, "unauthenticated"]


async def test_private_channels_outlive_a_restart(tmp_path: Path) -> None:
    async with opened(tmp_path / "network.db") as registry:
        kept = registry.kept
        await kept(lambda: registry.register("alice", {}))
        await kept(lambda: registry.register("bob", {}))
        await kept(lambda: registry.create("secret", "alice", private=True))
        await kept(lambda: registry.create("left", "alice", private=True))
        await kept(lambda: registry.leave("left", "alice"))
        await kept(lambda: registry.join("left", "bob"))
    async with opened(tmp_path / "network.db") as registry:
        assert (registry.private, registry.channel_members("left")) == ({"secret": "alice"}, ["bob"])


# -- reserved ids


@pytest.mark.parametrize("agent_id", ["admin", "Admin", "ADMIN", "the-bot", "The-BOT"])
def test_a_reserved_id_is_registered_with_an_invite_for_it_or_from_inside(agent_id: str) -> None:
    registry = Registry(GROUPS, reserved=("admin", "*-bot"))
    _, anybody = registry.invite()
    _, named = registry.invite(agents=agent_id)
    for how in ({}, PASSWORD, {"invite": anybody}, {"manages": frozenset({"agents", "mods", "channels"})}):
        assert refused(registry, agent_id, **how) == "forbidden", how
    assert refused(registry, agent_id, invite=named) is None
    registry.unregister(agent_id)
    assert refused(registry, agent_id, trusted=True) is None
    assert refused(registry, "bot-the") is None


def test_a_group_may_register_reserved_ids_with_its_password() -> None:
    registry = Registry(GROUPS, reserved=("boss*", "admin"))
    sesame = {"password_hash": password("sesame")}
    assert refused(registry, "boss-1", **sesame) is None
    assert refused(registry, "admin", **sesame) == "forbidden"
    assert refused(registry, "boss-2", group="admins", password_hash=password("books")) == "unauthenticated"
    admin, _ = registry.register("root", {}, **sesame)
    assert refused(registry, "boss-3", manages=Manager(admin.rights.permissions, admin.rights)) is None


# -- managers


def test_a_manager_gives_nothing_that_it_does_not_have() -> None:
    registry = Registry(GROUPS)
    moderator, admin = manager(registry, "mo", "order"), manager(registry, "ada", "sesame")
    assert refused(registry, "x", group="admins", manages=moderator) == "forbidden"
    assert refused(registry, "x", group="members", manages=moderator) == "forbidden", "members may send more"
    assert refused(registry, "x", group="moderators", manages=moderator) is None
    assert refused(registry, "y", group="members", manages=admin) is None
    assert refused(registry, "y", manages=moderator) == "forbidden", "a live id whose agent may send more"
    for group in ("admins", "members", None):
        with pytest.raises(Refusal, match="may do more than you"):
            registry.invite(group=group, manager=moderator)
    assert registry.invite(group="moderators", by="mo", manager=moderator)[0].created_by == "mo"
    theirs, _ = registry.invite(group="admins", manager=admin)
    with pytest.raises(Refusal, match="gives more than you have"):
        registry.revoke_invite(theirs.invite_id, moderator)


def test_a_manager_does_not_reach_reserved_ids_through_a_group_that_may_register_them() -> None:
    groups = {
        "admins": GroupConfig("admins", frozenset({"agents"}), password("sesame"), may_register=("boss*",)),
        "moderators": GroupConfig("moderators", frozenset({"agents"}), password("order")),
    }
    registry = Registry(groups, reserved=("boss*",))
    moderator, admin = manager(registry, "mo", "order"), manager(registry, "ada", "sesame")
    for lesser in (moderator, Manager(frozenset({"agents"}))):
        assert refused(registry, "x", group="admins", manages=lesser) == "forbidden"
        assert refused(registry, "ada", manages=lesser) == "forbidden", "it would have what the live id has"
        with pytest.raises(Refusal, match=r"may do more than you \(register boss\*\)"):
            registry.invite(group="admins", manager=lesser)
    assert refused(registry, "x", group="admins", manages=admin) is None


def test_a_manager_registers_nobody_with_more_rights_where_strangers_cannot_register() -> None:
    registry = Registry(GROUPS, registration="group_password")
    moderator, admin = manager(registry, "mo", "order"), manager(registry, "ada", "sesame")
    assert refused(registry, "x", manages=moderator) == "forbidden"
    assert refused(registry, "x", manages=admin) is None


def test_a_manager_gives_no_reserved_id_away() -> None:
    registry = Registry(GROUPS, reserved=("boss*", "admin"))
    admin = manager(registry, "ada", "sesame")
    for agents in ("admin", "a*", "*"):
        with pytest.raises(Refusal, match="you may not give"):
            registry.invite(agents=agents, manager=admin)
    registry.invite(agents="boss-1", manager=admin)
    registry.invite(agents="carol", manager=admin)
    mod = Manager(frozenset({"agents"}))
    with pytest.raises(Refusal, match="you may not give"):
        registry.invite(agents="boss-1", manager=mod)
