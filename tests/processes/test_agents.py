"""Agents of a running network: who may manage whom, and commands that fail."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from modvisor.ipc.errors import ModvisorError
from modvisor.supervisor import AgentNetwork, Event, EventResponse
from modvisor.supervisor.commands import SystemCommands
from modvisor.supervisor.events import Sender
from tests.agents.registries import Registry, password

pytestmark = pytest.mark.anyio

WriteMod = Callable[..., str]


# -- who manages agents


GROUPS = {
    "managers": {"permissions": ["agents", "channels"], "password_hash": password("managers")},
    "admins": {"permissions": ["mods", "agents", "channels"], "password_hash": password("admins")},
    "unguarded": {"permissions": ["mods"]},
    "moderators": {"permissions": ["channels"], "password_hash": password("moderators")},
    "guests": {},
}


@pytest.fixture
async def managed(make_network: Callable[..., AgentNetwork]) -> AgentNetwork:
    made = make_network(agent_groups=GROUPS)
    await made.initialize()
    for agent_id, group in {
        "boss": "managers", "root": "admins", "mo": "moderators", "gus": "guests", "free": None,
    }.items():  # fmt: skip
        assert (await made.register_agent(agent_id, group=group)).success
    return made


async def register_as(network: AgentNetwork, manager: str, secret: str, agent_id: str, **payload: Any) -> EventResponse:
    payload = {"agent_id": agent_id, **payload}
    return await network.process_external_event(Event("system.register_agent", manager, payload=payload, secret=secret))


@pytest.mark.parametrize(
    ("group", "word", "error"),
    [
        (None, None, None),
        ("guests", None, None),
        ("moderators", None, None),
        ("managers", None, None),
        ("admins", None, "forbidden"),
        ("unguarded", None, "forbidden"),
        ("admins", "admins", None),
        ("admins", "wrong", "unauthenticated"),
        ("nowhere", None, "no_such_group"),
    ],
)
async def test_a_manager_hands_out_what_it_has(
    managed: AgentNetwork, group: str | None, word: str | None, error: str | None
) -> None:
    secret = (await managed.register_agent("boss", group="managers")).data["secret"]
    payload = {"agent_group": group, "password_hash": word and password(word)}
    response = await register_as(managed, "boss", secret, "new", **payload)
    assert response.error == error, response
    if error is None:
        assert response.data["assigned_group"] == group
    upgrade = await register_as(managed, "boss", secret, "boss", **payload)
    assert upgrade.error == error, "nor does it help itself to more"


@pytest.mark.parametrize(
    ("agent_id", "error"), [("free", None), ("gus", None), ("mo", None), ("root", "forbidden"), ("boss", None)]
)
async def test_a_manager_takes_over_whom_it_outranks(
    managed: AgentNetwork, agent_id: str, error: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    secret = (await managed.register_agent("boss", group="managers")).data["secret"]
    response = await register_as(managed, "boss", secret, agent_id)
    assert response.error == error, response
    if error is not None:
        assert "may do more than you (mods)" in str(response.message)
        assert "refused system.register_agent from boss" in caplog.text
        assert (await register_as(managed, "boss", secret, agent_id, password_hash=password("admins"))).success


async def test_without_the_permission_a_group_takes_its_password_and_a_live_id_its_secret(
    managed: AgentNetwork,
) -> None:
    secret = (await managed.register_agent("mo", group="moderators")).data["secret"]
    assert (await register_as(managed, "mo", secret, "new", agent_group="moderators")).error == "unauthenticated"
    assert (await register_as(managed, "mo", secret, "gus")).error == "id_taken"


async def test_a_mod_that_manages_agents_has_the_same_bounds(managed: AgentNetwork, write_mod: WriteMod) -> None:
    path = write_mod("manager", """
        from modvisor.mods import BaseMod, Event, EventResponse, mod_event_handler

        class Manager(BaseMod):
            @mod_event_handler("test.register")
            async def enroll(self, event):
                return await self.context.send_event(Event("system.register_agent", payload=event.payload))
    """)  # fmt: skip
    assert (await managed.load_mod(path, permissions=["agents"])).success

    async def enroll(agent_id: str, **payload: Any) -> str | None:
        event = Event("test.register", payload={"agent_id": agent_id, **payload})
        return (await managed.process_event(event)).error

    assert await enroll("new") is None
    assert await enroll("newer", agent_group="guests") is None
    assert await enroll("newest", agent_group="moderators") == "forbidden", "it has no 'channels' itself"
    assert await enroll("free") is None
    assert await enroll("root") == "forbidden"


async def test_from_inside_anything_goes(managed: AgentNetwork) -> None:
    for group in GROUPS:
        event = Event("system.register_agent", payload={"agent_id": "root", "agent_group": group})
        assert (await managed.process_event(event)).data["assigned_group"] == group


# -- commands


async def test_a_command_that_fails_by_our_mistake_is_answered_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    def break_down() -> Any:
        raise ZeroDivisionError("our mistake")

    network: Any = SimpleNamespace(health=break_down)
    response = await SystemCommands(network, Registry())(Event("system.health_check", "agent:alice"), Sender())
    assert (response.success, response.error) == (False, "internal_error")
    assert "our mistake" not in str(response.message)
    assert "system.health_check from agent:alice failed" in caplog.text
    assert "ZeroDivisionError: our mistake" in caplog.text


async def test_a_refusal_may_have_any_details() -> None:
    def refuse() -> Any:
        error = ModvisorError("no", code="bad_input")
        error.details = {"code": 5, "message": "hidden", "error": "other"}
        raise error

    network: Any = SimpleNamespace(health=refuse)
    response = await SystemCommands(network, Registry())(Event("system.health_check"), Sender())
    assert (response.error, response.message, response.data["code"]) == ("bad_input", "no", 5)
