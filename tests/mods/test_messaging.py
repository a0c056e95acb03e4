"""The messaging mod, through its events and what it tells the network."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from modvisor.mods import Event, EventResponse, Refused
from modvisor.mods.workspace.messaging import MessagingMod
from modvisor.mods.workspace.messaging.messages import MAX_REACTIONS
from modvisor.worker.testing import ModHarness

pytestmark = pytest.mark.anyio
Messaging = ModHarness[MessagingMod]


@pytest.fixture
async def chat(tmp_path: Path, clock: Any) -> AsyncIterator[Messaging]:
    """With alice and bob in #general, and nothing sent yet."""
    harness = ModHarness(MessagingMod, storage_path=tmp_path, config={"max_text": 1000, "moderators": ["mia"]})
    harness.mod.clock = clock
    async with harness:
        await harness.mod.settled()
        for agent in ("alice", "bob"):
            await ok(harness, "channel.join", agent, channel="general")
        harness.sent.clear()
        yield harness


async def ok(chat: Messaging, name: str, source: str = "alice", /, **payload: Any) -> dict[str, Any]:
    answer = await chat.ask(f"messaging.{name}", payload, source_id=source)
    assert answer.success, answer
    assert answer.message
    return answer.data


async def fails(
    chat: Messaging, name: str, code: str, field: str | None, source: str = "alice", /, **payload: Any
) -> Any:
    answer = await chat.ask(f"messaging.{name}", payload, source_id=source)
    assert (answer.success, answer.error) == (False, code), answer
    assert answer.data.get("field") == field
    return answer


def commands(chat: Messaging) -> list[tuple[str, str, str]]:
    """What the mod asked the network to do with channel members."""
    return [
        (
            event.event_name.removeprefix("system.").partition("_")[0],
            event.payload["channel_id"],
            event.payload["agent_id"],
        )
        for event in chat.sent
        if event.destination_id == "system:system"
    ]


async def test_a_message_is_delivered_to_the_other_members_and_kept(chat: Messaging, clock: Any) -> None:
    chat.context.responder = lambda event: EventResponse(True, data={"delivered": 1})
    sent = await ok(chat, "message.send", channel="#general", text="hello 🚀")
    assert (sent["delivered"], sent["delivery_error"], sent["author"], sent["at"]) == (1, None, "alice", clock.now)
    (event,) = chat.sent
    assert (event.event_name, event.destination_id) == ("messaging.delivery.posted", "channel:general")
    assert (event.visibility, event.allowed_agents) == ("restricted", ["bob"])
    assert event.payload["text"] == "hello 🚀"
    history = (await ok(chat, "channel.history", "carol", channel="general"))["messages"]
    assert history == [event.payload]


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (EventResponse.failure("no_such_channel", "no channel"), "no_such_channel"),
        (EventResponse.failure("inbox_full", "full"), "inbox_full"),
        (EventResponse(True, data=None), None),
        (ConnectionResetError("gone"), "internal_error"),
        (Refused("busy", code="busy"), "busy"),
    ],
)
async def test_a_message_that_reaches_nobody_is_kept(chat: Messaging, answer: Any, error: str | None) -> None:
    def respond(_event: Event) -> EventResponse:
        if isinstance(answer, Exception):
            raise answer
        return answer

    chat.context.responder = respond
    sent = await ok(chat, "message.send", channel="general", text="x")
    assert (sent["delivered"], sent["delivery_error"]) == (0, error)
    assert (await ok(chat, "unread", "bob"))["conversations"][0]["unread"] == 1


async def test_alone_in_a_channel_nothing_is_sent(chat: Messaging) -> None:
    await ok(chat, "channel.create", channel="solo")
    chat.sent.clear()
    assert (await ok(chat, "message.send", channel="solo", text="x"))["delivered"] == 0
    assert chat.sent == []


async def test_the_networks_channels_follow(chat: Messaging) -> None:
    created = await ok(chat, "channel.create", channel="dev", topic="code")
    assert (created["members"], created["topic"], created["created_by"]) == (1, "code", "alice")
    assert (await ok(chat, "channel.join", "bob", channel="dev"))["new"]
    assert not (await ok(chat, "channel.join", "bob", channel="dev"))["new"]
    await ok(chat, "channel.leave", channel="dev")
    assert commands(chat) == [
        ("add", "dev", "alice"), ("add", "dev", "bob"), ("add", "dev", "bob"), ("remove", "dev", "alice"),
    ]  # fmt: skip
    announced = [event.event_name for event in chat.sent if event.destination_id is None]
    assert announced == [f"messaging.change.{what}" for what in ("channel_created", "joined", "joined", "left")]
    members = (await ok(chat, "channel.members", channel="dev"))["members"]
    assert [member["agent_id"] for member in members] == ["bob"]
    listed = (await ok(chat, "channel.list"))["channels"]
    assert [(c["channel"], c["members"], c["joined"]) for c in listed] == [("dev", 1, False), ("general", 2, True)]
    assert [c["channel"] for c in (await ok(chat, "channel.list", joined=True))["channels"]] == ["general"]


async def test_who_may_not(chat: Messaging) -> None:
    message = (await ok(chat, "message.send", channel="general", text="x"))["message_id"]
    await fails(chat, "message.send", "forbidden", None, "carol", channel="general", text="x")
    await fails(chat, "message.reply", "forbidden", None, "carol", message_id=message, text="x")
    await fails(chat, "reaction.add", "forbidden", None, "carol", message_id=message, reaction="👍")
    await fails(chat, "message.edit", "forbidden", None, "bob", message_id=message, text="x")
    await fails(chat, "message.delete", "forbidden", None, "bob", message_id=message)
    await fails(chat, "message.edit", "forbidden", None, "mia", message_id=message, text="x")
    await fails(chat, "mark_read", "forbidden", None, "carol", channel="general")
    await fails(chat, "channel.leave", "bad_input", "channel", "carol", channel="general")
    await fails(chat, "channel.join", "forbidden", None, "mod:bot", channel="general")
    await fails(chat, "channel.create", "conflict", "channel", channel="general")
    await ok(chat, "message.send", "mod:bot", channel="general", text="mods may")
    assert (await ok(chat, "message.delete", "mia", message_id=message))["deleted"]


async def test_threads(chat: Messaging) -> None:
    root = (await ok(chat, "message.send", channel="general", text="root"))["message_id"]
    first = await ok(chat, "message.reply", "bob", message_id=root, text="one")
    second = await ok(chat, "message.reply", message_id=first["message_id"], text="two")
    assert (first["root_id"], first["reply_to"]) == (root, root)
    assert (second["root_id"], second["reply_to"]) == (root, first["message_id"])
    thread = await ok(chat, "thread.get", message_id=second["message_id"])
    assert (thread["root"]["message_id"], thread["root"]["replies"]) == (root, 2)
    assert [reply["text"] for reply in thread["replies"]] == ["one", "two"]
    (only,) = (await ok(chat, "channel.history", channel="general"))["messages"]
    assert (only["text"], only["replies"]) == ("root", 2)


async def test_editing_deleting_and_reacting_are_shown_to_the_others(chat: Messaging, clock: Any) -> None:
    message = {"message_id": (await ok(chat, "message.send", channel="general", text="x"))["message_id"]}
    clock.advance(1)
    assert (await ok(chat, "message.edit", **message, text="y"))["edited_at"] == clock.now
    assert (await ok(chat, "reaction.add", "bob", **message, reaction=" 👍 "))["reactions"] == {"👍": ["bob"]}
    assert not (await ok(chat, "reaction.add", "bob", **message, reaction="👍"))["changed"]
    assert (await ok(chat, "reaction.add", **message, reaction="👍"))["reactions"] == {"👍": ["alice", "bob"]}
    assert (await ok(chat, "reaction.remove", **message, reaction="👍"))["reactions"] == {"👍": ["bob"]}
    assert not (await ok(chat, "reaction.remove", **message, reaction="👍"))["changed"]
    deleted = await ok(chat, "message.delete", **message)
    assert (deleted["text"], deleted["deleted"], deleted["reactions"]) == ("", True, {})
    told = [(event.event_name.rpartition(".")[2], event.allowed_agents) for event in chat.sent]
    assert told == [
        ("posted", ["bob"]), ("edited", ["bob"]), ("reacted", ["alice"]), ("reacted", ["bob"]), ("reacted", ["bob"]),
        ("deleted", ["bob"]),
    ]  # fmt: skip
    for name, payload in {
        "message.edit": {"text": "z"},
        "message.delete": {},
        "reaction.add": {"reaction": "a"},
    }.items():
        await fails(chat, name, "not_found", "message_id", **message, **payload)
    assert (await ok(chat, "message.get", **message))["deleted"]


async def test_different_reactions_are_bounded(chat: Messaging) -> None:
    message = {"message_id": (await ok(chat, "message.send", channel="general", text="x"))["message_id"]}
    for number in range(MAX_REACTIONS):
        await ok(chat, "reaction.add", **message, reaction=str(number))
    await fails(chat, "reaction.add", "conflict", "reaction", **message, reaction="more")
    await ok(chat, "reaction.add", "bob", **message, reaction="1")


async def test_direct_messages_are_for_the_two(chat: Messaging) -> None:
    sent = await ok(chat, "direct.send", agent_id="agent:bob", text="psst")
    (event,) = chat.sent
    assert (event.event_name, event.destination_id) == ("messaging.delivery.direct", "agent:bob")
    assert (event.payload["channel"], event.payload["between"]) == (None, ["alice", "bob"])
    message = {"message_id": sent["message_id"]}
    for name, payload in {
        "message.get": {}, "message.reply": {"text": "x"}, "message.delete": {}, "thread.get": {},
        "reaction.add": {"reaction": "x"},
    }.items():  # fmt: skip
        await fails(chat, name, "not_found", "message_id", "mia", **message, **payload)
    await ok(chat, "message.reply", "bob", **message, text="yes?")
    assert chat.sent[-1].destination_id == "agent:alice"
    for one, other in (("alice", "bob"), ("bob", "alice")):
        (only,) = (await ok(chat, "direct.history", one, agent_id=other))["messages"]
        assert (only["text"], only["replies"]) == ("psst", 1)
    assert (await ok(chat, "direct.history", "mia", agent_id="bob"))["messages"] == []
    for name in ("direct.send", "direct.history", "mark_read"):
        await fails(chat, name, "bad_input", "agent_id", agent_id="alice", **({"text": "x"} if "send" in name else {}))
    await ok(chat, "direct.send", "mod:bot", agent_id="bob", text="from a mod")


async def test_unread(chat: Messaging) -> None:
    await ok(chat, "message.send", channel="general", text="1")
    second = (await ok(chat, "message.send", channel="general", text="2"))["message_id"]
    await ok(chat, "message.send", channel="general", text="3")
    await ok(chat, "direct.send", agent_id="bob", text="4")
    await ok(chat, "channel.join", "carol", channel="general")
    assert (await ok(chat, "unread"))["conversations"] == []
    assert (await ok(chat, "unread", "carol"))["conversations"] == []
    found = (await ok(chat, "unread", "bob"))["conversations"]
    assert [(c.get("channel") or c["agent_id"], c["unread"]) for c in found] == [("general", 3), ("alice", 1)]
    assert (await ok(chat, "mark_read", "bob", channel="general", message_id=second))["last_read"] == second
    assert (await ok(chat, "unread", "bob", limit=1))["conversations"][0]["unread"] == 1
    assert (await ok(chat, "mark_read", "bob", channel="general", message_id=1))["last_read"] == second
    assert (await ok(chat, "mark_read", "bob", channel="general", message_id=10**9))["last_read"] == second + 1
    await ok(chat, "mark_read", "bob", agent_id="alice")
    assert (await ok(chat, "unread", "bob"))["conversations"] == []
    for payload in ({}, {"channel": "general", "agent_id": "bob"}):
        await fails(chat, "mark_read", "bad_input", "channel", "bob", **payload)


async def test_history_pages_both_ways_without_gap_or_repetition(chat: Messaging) -> None:
    ids = [(await ok(chat, "message.send", channel="general", text=str(n)))["message_id"] for n in range(23)]
    seen: list[int] = []
    before, more = None, True
    while more:
        data = await ok(chat, "channel.history", channel="general", limit=5, before=before)
        seen = [message["message_id"] for message in data["messages"]] + seen
        before, more = data["next"], data["has_more"]
    assert seen == ids
    seen, after, more = [], 0, True
    while more:
        data = await ok(chat, "channel.history", channel="general", limit=5, after=after)
        seen += [message["message_id"] for message in data["messages"]]
        after, more = data["next"], data["has_more"]
    assert seen == ids
    await fails(chat, "channel.history", "bad_input", "after", channel="general", before=3, after=1)


@pytest.mark.parametrize("name", ["channel.list", "channel.members", "thread.get", "unread"])
async def test_paging_to_the_end_finds_everything_once(chat: Messaging, name: str) -> None:
    root = (await ok(chat, "message.send", channel="general", text="root"))["message_id"]
    for number in range(11):
        await ok(chat, "channel.create", channel=f"c{number}")
        await ok(chat, "channel.join", f"a{number}", channel="general")
        await ok(chat, "message.reply", message_id=root, text="x")
        await ok(chat, "direct.send", f"a{number}", agent_id="alice", text="x")
    payload = {"channel.members": {"channel": "general"}, "thread.get": {"message_id": root}}.get(name, {})
    seen: list[Any] = []
    cursor, more = None, True
    while more:
        data = await ok(chat, name, limit=4, cursor=cursor, **payload)
        (rows,) = [value for value in data.values() if isinstance(value, list)]
        seen += [row.get("message_id") or row.get("agent_id") or row["channel"] for row in rows]
        cursor, more = data["next"], data["has_more"]
    assert len(seen) == len(set(seen)) == {"channel.list": 12, "channel.members": 13}.get(name, 11)


VALID: dict[str, dict[str, Any]] = {
    "channel.create": {"channel": "new"},
    "channel.join": {"channel": "general"},
    "channel.leave": {"channel": "general"},
    "channel.list": {},
    "channel.members": {"channel": "general"},
    "channel.history": {"channel": "general"},
    "message.send": {"channel": "general", "text": "x"},
    "message.reply": {"message_id": 1, "text": "x"},
    "message.edit": {"message_id": 1, "text": "x"},
    "message.delete": {"message_id": 1},
    "message.get": {"message_id": 1},
    "direct.send": {"agent_id": "bob", "text": "x"},
    "direct.history": {"agent_id": "bob"},
    "thread.get": {"message_id": 1},
    "reaction.add": {"message_id": 1, "reaction": "x"},
    "reaction.remove": {"message_id": 1, "reaction": "x"},
    "unread": {},
    "mark_read": {"channel": "general"},
}


@pytest.mark.parametrize("name", sorted(VALID))
async def test_bad_input_of_every_event(chat: Messaging, name: str) -> None:
    payload = VALID[name]
    await fails(chat, name, "bad_input", "unknown", **payload, unknown=1)
    for field in payload:
        await fails(chat, name, "bad_input", field, **{key: payload[key] for key in payload if key != field})
        for bad in ([], 5.5, {"a": 1}, "\0", "x" * 1001):
            await fails(chat, name, "bad_input", field, **{**payload, field: bad})
    if "message_id" in payload:
        await fails(chat, name, "not_found", "message_id", **{**payload, "message_id": 99})
    if "channel" in payload and name != "channel.create":
        await fails(chat, name, "not_found", "channel", **{**payload, "channel": "nope"})
    assert chat.sent == []


@pytest.mark.parametrize("config", [{"channels": ["a b"]}, {"channels": "general"}, {"auto_join": 1}, {"chanels": []}])
async def test_a_config_with_mistakes_keeps_messaging_from_starting(tmp_path: Path, config: dict[str, Any]) -> None:
    harness = ModHarness(MessagingMod, storage_path=tmp_path, config=config)
    with pytest.raises(Refused, match=next(iter(config))):
        await harness.__aenter__()
    await harness.__aexit__()


class StartedWithAgents(ModHarness[MessagingMod]):
    """A network in which some agents are registered before the mod starts."""

    agents = ("alice", "carol")

    async def call(self, name: str, *args: Any) -> Any:
        self.context.agent_list = [{"agent_id": agent} for agent in self.agents]
        return await super().call(name, *args)


async def test_members_survive_a_restart_and_are_entered_again_when_present(tmp_path: Path) -> None:
    async with ModHarness(MessagingMod, storage_path=tmp_path, config={"channels": ["general", "dev"]}) as chat:
        for agent in ("alice", "bob"):
            await ok(chat, "channel.join", agent, channel="general")
        await ok(chat, "channel.join", "bob", channel="dev")
        await ok(chat, "message.send", channel="general", text="grüße")
    async with StartedWithAgents(MessagingMod, storage_path=tmp_path) as chat:
        await chat.mod.settled()
        assert commands(chat) == [("add", "general", "alice")]
        await chat.notify("system.notification.register_agent", {"agent_id": "bob"}, source_id="system:system")
        assert commands(chat)[1:] == [("add", "dev", "bob"), ("add", "general", "bob")]
        await chat.notify("system.notification.register_agent", {"agent_id": 5}, source_id="system:system")
        assert (await ok(chat, "channel.history", channel="general"))["messages"][0]["text"] == "grüße"
        assert (await ok(chat, "unread", "bob"))["conversations"][0]["unread"] == 1


async def test_auto_join_respects_who_left(tmp_path: Path) -> None:
    async with StartedWithAgents(MessagingMod, storage_path=tmp_path, config={"auto_join": True}) as chat:
        await chat.mod.settled()
        assert sorted(commands(chat)) == [("add", "general", "alice"), ("add", "general", "carol")]
        await ok(chat, "channel.leave", channel="general")
        await chat.notify("system.notification.register_agent", {"agent_id": "alice"})
        await chat.notify("system.notification.register_agent", {"agent_id": "bob"})
        members = (await ok(chat, "channel.members", channel="general"))["members"]
        assert [member["agent_id"] for member in members] == ["bob", "carol"]
        assert (await ok(chat, "channel.join", channel="general"))["new"]


async def test_a_network_that_refuses_does_not_keep_the_mod_from_starting(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with ModHarness(MessagingMod, storage_path=tmp_path) as chat:
        chat.context.responder = lambda event: EventResponse.failure("forbidden", "no permission 'channels'")
        assert (await ok(chat, "channel.join", channel="general"))["new"]
    assert "system.add_channel_member failed: no permission 'channels'" in caplog.text
