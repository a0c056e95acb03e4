"""`MessagingMod`: the events of messaging. ../README.md describes them."""

from __future__ import annotations

import asyncio
from typing import Any

from ... import BaseMod, Code, Event, EventResponse, Refused, mod_event_handler
from ..fields import Given, actor, agent_id, channel_name
from ..paging import MAX_ID, cut, list_answer, read_cursor, read_limit
from ..store_mod import StoreMod
from .conversations import Conversation, ConversationStore
from .messages import MessageStore
from .network_link import NetworkLink, to_others

MAX_TOPIC = 500
MAX_REACTION = 32
MAX_CHANNELS = 1_000  # in the config


class MessagingMod(StoreMod, BaseMod):
    """Channels, direct messages, threads, reactions and unread counts."""

    version = "1.0.0"
    description = "Channels, direct messages, threads, reactions and unread counts, delivered through the network."
    _restoring: asyncio.Task[None] | None = None

    def initialize(self) -> None:
        config = Given(self.config)
        self._default_channels = config.texts("channels", items=MAX_CHANNELS, most=128, default=["general"])
        self._auto_join = config.flag("auto_join", default=False)
        self._moderators = frozenset(config.agents("moderators", default=[]))
        self._max_text = config.integer("max_text", least=1, most=1_000_000, default=20_000)
        self._destination = config.destination("announce")
        config.done()
        for name in self._default_channels:
            if channel_name(name) != name:
                raise Refused(f"channels: expected names such as 'general', got {name!r}", field="channels")

    async def activate(self) -> None:
        self._network = NetworkLink(self.context)
        self._conversations = self.open("messaging.db", ConversationStore, self._destination)
        self._messages = MessageStore(self._conversations)
        for name in self._default_channels:
            self._conversations.create_channel(name, "", "system:system", self.clock())
        # Not awaited: the network handles none of our events before `activate` returns.
        self._restoring = asyncio.create_task(self._restore())

    async def shutdown(self) -> None:
        if self._restoring is not None:
            self._restoring.cancel()
            await asyncio.gather(self._restoring, return_exceptions=True)
        await super().shutdown()

    async def settled(self) -> None:
        """Wait until the network's channels have the same members as ours, after a start."""
        if self._restoring is not None:
            await self._restoring

    # -- channels

    @mod_event_handler("messaging.channel.create")
    async def create_channel(self, event: Event) -> EventResponse:
        given = Given(event.payload)
        name = given.channel("channel")
        topic = given.line("topic", most=MAX_TOPIC, default="")
        given.done()
        if not self._conversations.create_channel(name, topic, actor(event), self.clock()):
            raise Refused(f"channel: {name!r} already exists; join it", code=Code.CONFLICT, field="channel")
        await self.announce.send("messaging.change.channel_created", {"channel": name, "actor": actor(event)})
        if event.source_agent is not None:
            await self._join(Conversation.of_channel(name), event.source_agent)
        return EventResponse(True, f"Channel {name} was created.", self._conversations.describe(name))

    @mod_event_handler("messaging.channel.join")
    async def join_channel(self, event: Event) -> EventResponse:
        given = Given(event.payload)
        name = given.channel("channel")
        given.done()
        conversation = self._conversations.channel(name)
        if event.source_agent is None:
            raise Refused(f"{actor(event)} has no inbox; only agents join channels", code=Code.FORBIDDEN)
        new = await self._join(conversation, event.source_agent)
        told = f"{event.source_agent} is {'now' if new else 'already'} a member of {conversation.title}."
        return EventResponse(True, told, {"channel": conversation.channel, "new": new})

    @mod_event_handler("messaging.channel.leave")
    async def leave_channel(self, event: Event) -> EventResponse:
        given = Given(event.payload)
        name = given.channel("channel")
        given.done()
        conversation = self._conversations.channel(name)
        if not self._conversations.leave(conversation, actor(event)):
            raise Refused(f"channel: {actor(event)} is not a member of channel {name}", field="channel")
        await self._network.remove_member(name, actor(event))
        await self.announce.send("messaging.change.left", {"channel": name, "agent_id": actor(event)})
        return EventResponse(True, f"{actor(event)} left channel {name}.", {"channel": name})

    @mod_event_handler("messaging.channel.list")
    async def list_channels(self, event: Event) -> EventResponse:
        given = Given(event.payload)
        joined = given.flag("joined", default=False)
        limit, after = read_limit(given), given.text("cursor", least=0, most=128, default="")
        given.done()
        rows = self._conversations.channels(actor(event), joined, after, limit + 1)
        return list_answer("channels", rows, limit, "channel")

    @mod_event_handler("messaging.channel.members")
    async def list_members(self, event: Event) -> EventResponse:
        given = Given(event.payload)
        name = given.channel("channel")
        limit, after = read_limit(given), given.text("cursor", least=0, most=200, default="")
        given.done()
        rows = self._conversations.members(self._conversations.channel(name), after, limit + 1)
        return list_answer("members", rows, limit, "agent_id")

    @mod_event_handler("messaging.channel.history")
    async def channel_history(self, event: Event) -> EventResponse:
        given = Given(event.payload)
        return self._history(self._conversations.channel(given.channel("channel")), given)

    # -- messages

    @mod_event_handler("messaging.message.send")
    async def send_message(self, event: Event) -> EventResponse:
        given = Given(event.payload)
        name, text = given.channel("channel"), given.text("text", most=self._max_text)
        given.done()
        conversation = self._conversations.channel(name)
        self._check_member(conversation, event)
        return await self._post(conversation, event, text)

    @mod_event_handler("messaging.direct.send")
    async def send_direct(self, event: Event) -> EventResponse:
        given = Given(event.payload)
        other, text = given.agent("agent_id"), given.text("text", most=self._max_text)
        given.done()
        conversation = self._conversations.direct(actor(event), self._partner(event, other), self.clock())
        return await self._post(conversation, event, text)

    @mod_event_handler("messaging.direct.history")
    async def direct_history(self, event: Event) -> EventResponse:
        given = Given(event.payload)
        other = self._partner(event, given.agent("agent_id"))
        return self._history(Conversation.between(actor(event), other), given)

    @mod_event_handler("messaging.message.reply")
    async def reply(self, event: Event) -> EventResponse:
        given = Given(event.payload)
        message_id, text = _message_id(given), given.text("text", most=self._max_text)
        given.done()
        message = self._messages.get(message_id, actor(event))
        conversation = _conversation(message)
        self._check_member(conversation, event)
        return await self._post(conversation, event, text, message)

    @mod_event_handler("messaging.message.edit")
    async def edit_message(self, event: Event) -> EventResponse:
        given = Given(event.payload)
        message_id, text = _message_id(given), given.text("text", most=self._max_text)
        given.done()
        self._own(message_id, event, frozenset())
        message = self._messages.edit(message_id, text, self.clock())
        await self._tell("edited", message, event)
        return EventResponse(True, f"Message {message_id} was changed.", message)

    @mod_event_handler("messaging.message.delete")
    async def delete_message(self, event: Event) -> EventResponse:
        given = Given(event.payload)
        message_id = _message_id(given)
        given.done()
        self._own(message_id, event, self._moderators)
        message = self._messages.delete(message_id, self.clock())
        await self._tell("deleted", message, event)
        return EventResponse(True, f"Message {message_id} was deleted.", message)

    @mod_event_handler("messaging.message.get")
    async def get_message(self, event: Event) -> EventResponse:
        given = Given(event.payload)
        message_id = _message_id(given)
        given.done()
        message = self._messages.get(message_id, actor(event))
        return EventResponse(True, f"Message {message_id} by {message['author']}.", message)

    @mod_event_handler("messaging.thread.get")
    async def get_thread(self, event: Event) -> EventResponse:
        given = Given(event.payload)
        message_id = _message_id(given)
        limit, after = read_limit(given), read_cursor(given)
        given.done()
        root = self._messages.get(message_id, actor(event))
        if root["root_id"] is not None:  # a reply, which names its thread too
            root = self._messages.get(root["root_id"], actor(event))
        rows = self._messages.thread(root["message_id"], after, limit + 1)
        replies, more = cut(rows, limit, lambda row: row["message_id"])
        return EventResponse(True, f"{root['replies']} replies.", {"root": root, "replies": replies, **more})

    # -- reactions

    @mod_event_handler("messaging.reaction.add")
    async def add_reaction(self, event: Event) -> EventResponse:
        return await self._react(event, add=True)

    @mod_event_handler("messaging.reaction.remove")
    async def remove_reaction(self, event: Event) -> EventResponse:
        return await self._react(event, add=False)

    # -- read and unread

    @mod_event_handler("messaging.unread")
    async def unread(self, event: Event) -> EventResponse:
        given = Given(event.payload)
        limit, after = read_limit(given), given.text("cursor", least=0, most=300, default="")
        given.done()
        rows = self._conversations.unread(actor(event), after, limit + 1)
        return list_answer("conversations", rows, limit, "conversation_id", "conversations with unread messages")

    @mod_event_handler("messaging.mark_read")
    async def mark_read(self, event: Event) -> EventResponse:
        given = Given(event.payload)
        channel, other = given.channel("channel", default=None), given.agent("agent_id", default=None)
        message_id = given.integer("message_id", least=0, most=MAX_ID, default=None)
        given.done()
        if (channel is None) == (other is None):
            raise Refused("channel: expected either channel or agent_id", field="channel")
        if channel is not None:
            conversation = self._conversations.channel(channel)
        else:
            conversation = Conversation.between(actor(event), self._partner(event, other or ""))
        mark = self._conversations.mark_read(conversation, actor(event), message_id)
        return EventResponse(True, f"Read up to message {mark}.", {"last_read": mark})

    # -- notifications of the network

    @mod_event_handler("system.notification.register_agent")
    async def agent_registered(self, event: Event) -> None:
        """Enter the agent into its channels again: the network forgot them when the agent left."""
        agent = agent_id(event.payload.get("agent_id"))
        if agent is None:
            return
        self._join_defaults(agent)
        await self._network.add_members(self._conversations.memberships(agent))

    async def _restore(self) -> None:
        registered = await self._network.registered()
        for agent in registered:
            self._join_defaults(agent)
        for channel, agent in self._conversations.memberships():
            # Check again for each agent, because members leave while this waits for the network.
            if agent in registered and self._conversations.is_member(Conversation.of_channel(channel), agent):
                await self._network.add_members([(channel, agent)])

    def _join_defaults(self, agent: str) -> None:
        for name in self._default_channels if self._auto_join else ():
            self._conversations.join(Conversation.of_channel(name), agent, self.clock(), again=False)

    # -- inside

    async def _join(self, conversation: Conversation, agent: str) -> bool:
        new = self._conversations.join(conversation, agent, self.clock())
        # Tell the network even about a member: an agent that gets no messages will join again.
        assert conversation.channel is not None
        await self._network.add_members([(conversation.channel, agent)])
        if new:
            await self.announce.send("messaging.change.joined", {"channel": conversation.channel, "agent_id": agent})
        return new

    def _check_member(self, conversation: Conversation, event: Event) -> None:
        """Refuse an agent that is not a member.

        Mods and the network itself may write to every channel.
        """
        agent = event.source_agent
        if agent is not None and not self._conversations.is_member(conversation, agent):
            raise Refused(
                f"{agent} is not a member of {conversation.title}; join it with messaging.channel.join",
                code=Code.FORBIDDEN,
            )

    def _partner(self, event: Event, other: str) -> str:
        if other == actor(event):
            raise Refused("agent_id: expected another agent, got yourself", field="agent_id")
        return other

    def _own(self, message_id: int, event: Event, others: frozenset[str]) -> None:
        """Refuse if the message was deleted, or if it is not the sender's.

        Agents in ``others`` may act on any message.
        """
        message = self._messages.get(message_id, actor(event))
        if message["author"] != actor(event) and actor(event) not in others:
            raise Refused(f"message {message_id} is {message['author']}'s, not {actor(event)}'s", code=Code.FORBIDDEN)
        _check_there(message)

    def _members(self, conversation: Conversation) -> list[str]:
        return [member["agent_id"] for member in self._conversations.members(conversation)]

    async def _post(
        self, conversation: Conversation, event: Event, text: str, reply_to: dict[str, Any] | None = None
    ) -> EventResponse:
        """Keep a message, deliver it, and answer how many agents it reached."""
        message = self._messages.post(conversation, actor(event), text, self.clock(), reply_to)
        name = "messaging.delivery.direct" if conversation.channel is None else "messaging.delivery.posted"
        outgoing = to_others(name, message, self._members(conversation), actor(event))
        reached: dict[str, Any] = {"delivered": 0, "delivery_error": None}
        if outgoing is not None:
            reached = await self._network.deliver(outgoing)
        agents = "1 agent" if reached["delivered"] == 1 else f"{reached['delivered']} agents"
        told = f"Message {message['message_id']} was saved and reached {agents}."
        return EventResponse(True, told, message | reached)

    async def _tell(self, what: str, message: dict[str, Any], event: Event) -> None:
        """Show the other members a changed message, without waiting for the delivery."""
        members = self._members(_conversation(message))
        outgoing = to_others(f"messaging.delivery.{what}", message, members, actor(event))
        if outgoing is not None:
            await self.announce.post(outgoing)

    async def _react(self, event: Event, *, add: bool) -> EventResponse:
        given = Given(event.payload)
        message_id, reaction = _message_id(given), given.line("reaction", most=MAX_REACTION)
        given.done()
        message = self._messages.get(message_id, actor(event))
        self._check_member(_conversation(message), event)
        _check_there(message)
        if add:
            changed = self._messages.react(message_id, reaction, actor(event), self.clock())
        else:
            changed = self._messages.unreact(message_id, reaction, actor(event))
        message = self._messages.get(message_id, actor(event))
        if changed:
            await self._tell("reacted", message, event)
        told = f"Message {message_id} has {sum(map(len, message['reactions'].values()))} reactions."
        return EventResponse(
            True, told, {"message_id": message_id, "reactions": message["reactions"], "changed": changed}
        )

    def _history(self, conversation: Conversation, given: Given) -> EventResponse:
        limit = read_limit(given)
        before = given.integer("before", least=1, most=MAX_ID, default=None)
        after = given.integer("after", least=0, most=MAX_ID, default=None)
        given.done()
        if before is not None and after is not None:
            raise Refused("after: expected either before or after, got both", field="after")
        rows = self._messages.history(conversation, before, after, limit + 1)
        messages, more = cut(rows, limit, lambda row: row["message_id"])
        messages.sort(key=lambda message: message["message_id"])
        return EventResponse(True, f"{len(messages)} messages.", {"messages": messages, **more})


def _message_id(given: Given) -> int:
    return given.integer("message_id", least=1, most=MAX_ID)


def _conversation(message: dict[str, Any]) -> Conversation:
    if message["channel"] is not None:
        return Conversation.of_channel(message["channel"])
    return Conversation.between(*message["between"])


def _check_there(message: dict[str, Any]) -> None:
    if message["deleted"]:
        raise Refused(
            f"message_id: message {message['message_id']} was deleted", code=Code.NOT_FOUND, field="message_id"
        )
