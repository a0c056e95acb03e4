"""`modvisor.mods.workspace.messaging.network_link`: what goes to the network, and what a failure does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from modvisor.mods import Event, EventResponse, ModvisorError
from modvisor.mods.workspace.messaging.network_link import NetworkLink, to_others
from modvisor.worker.testing import RecordingContext

pytestmark = pytest.mark.anyio

POSTED: dict[str, Any] = {"channel": "dev", "between": None}
DIRECT: dict[str, Any] = {"channel": None, "between": ["alice", "bob"]}


async def test_members_are_entered_and_removed_by_commands(tmp_path: Path) -> None:
    context = RecordingContext("messaging", tmp_path)
    link = NetworkLink(context)
    await link.add_members([("dev", "alice"), ("ops", "bob")])
    await link.remove_member("dev", "alice")
    assert [(event.event_name, event.destination_id, event.payload) for event in context.sent] == [
        ("system.add_channel_member", "system:system", {"channel_id": "dev", "agent_id": "alice"}),
        ("system.add_channel_member", "system:system", {"channel_id": "ops", "agent_id": "bob"}),
        ("system.remove_channel_member", "system:system", {"channel_id": "dev", "agent_id": "alice"}),
    ]


@pytest.mark.parametrize(
    ("answer", "reached", "logged"),
    [
        (EventResponse(True, data={"delivered": 2}), (2, None), False),
        (EventResponse(True, data={"delivered": "two"}), (0, None), False),
        (EventResponse.failure("no_such_agent", "bob is away"), (0, "no_such_agent"), False),
        (EventResponse.failure("timeout", "too late"), (0, "timeout"), True),
        (ModvisorError("busy", code="busy"), (0, "busy"), True),
        (ConnectionError("gone"), (0, "internal_error"), True),
    ],
)
async def test_a_delivery_says_how_many_it_reached_and_never_raises(
    answer: EventResponse | Exception,
    reached: tuple[int, str | None],
    logged: bool,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def respond(_event: Event) -> EventResponse:
        if isinstance(answer, Exception):
            raise answer
        return answer

    context = RecordingContext("messaging", tmp_path)
    context.responder = respond
    found = await NetworkLink(context).deliver(Event("messaging.delivery.posted", destination_id="channel:dev"))
    assert (found["delivered"], found["delivery_error"]) == reached
    assert ("messaging.delivery.posted failed: " in caplog.text) == logged


async def test_a_network_that_does_not_name_its_agents_counts_as_empty(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = RecordingContext("messaging", tmp_path)
    context.agent_list = [{"agent_id": "alice"}]
    assert await NetworkLink(context).registered() == {"alice"}

    async def gone() -> list[dict[str, Any]]:
        raise ConnectionError("gone")

    monkeypatch.setattr(context, "agents", gone)
    assert await NetworkLink(context).registered() == set()
    assert "could not ask the network for its registered agents: gone" in caplog.text


def test_a_message_goes_to_all_but_its_author() -> None:
    event = to_others("messaging.delivery.posted", POSTED, ["alice", "bob", "carol"], "bob")
    assert event is not None
    assert (event.destination_id, event.visibility) == ("channel:dev", "restricted")
    assert event.allowed_agents == ["alice", "carol"]
    assert to_others("messaging.delivery.posted", POSTED, ["bob"], "bob") is None
    event = to_others("messaging.delivery.direct", DIRECT, [], "bob")
    assert event is not None
    assert (event.destination_id, event.payload) == ("agent:alice", DIRECT)
    to_mod = {"channel": None, "between": ["alice", "mod:bot"]}
    assert to_others("messaging.delivery.direct", to_mod, [], "alice") is None
