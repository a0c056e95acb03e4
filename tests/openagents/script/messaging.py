"""The messaging mod: channels, direct messages, replies, reactions, files, announcements."""

from __future__ import annotations

import base64

from .steps import Kept, Send, Step

_FILE = base64.b64encode(b"three\nshort\nlines\n").decode()

STEPS: list[Step] = [
    Send("alice", "thread.channels.list", {"action": "list_channels"}, unordered=("agents",)),
    Send("alice", "thread.channels.list", {"action": "close"}),
    Send(
        "alice",
        "thread.channel_message.post",
        {"channel": "general", "content": {"text": "hello all"}, "message_type": "channel_message"},
        to="channel:general",
        id="hello",
    ),
    Send(
        "bob",
        "thread.channel_message.post",
        {
            "channel": "general",
            "content": {"text": "hi"},
            "message_type": "channel_message",
            "quoted_message_id": "hello",
        },
        id="hi",
    ),
    Send("bob", "thread.channel_message.post", {"content": {"text": "where?"}}),  # no channel: passed on
    Send("bob", "thread.channel_message.post", {"channel": "new-one", "content": {"text": "a new channel"}}),
    Send(
        "carol", "thread.reply.post", {"reply_to_id": "hello", "channel": "general", "content": {"text": "re"}}, id="re"
    ),
    Send("alice", "thread.reply.sent", {"reply_to_id": "re", "channel": "general", "content": {"text": "re re"}}),
    Send("alice", "thread.reply.post", {"reply_to_id": "unknown", "channel": "general", "content": {"text": "?"}}),
    Send("alice", "thread.reply.post", {"content": {"text": "to nothing"}}),
    Send(
        "bob",
        "thread.reaction.add",
        {"target_message_id": "hello", "reaction_type": "+1", "action": "add"},
        unordered=("received",),
    ),
    Send("bob", "thread.reaction.add", {"target_message_id": "hello", "reaction_type": "+1", "action": "add"}),
    Send(
        "carol",
        "thread.reaction.toggle",
        {"target_message_id": "hello", "reaction_type": "+1", "action": "add"},
        unordered=("received",),
    ),
    Send(
        "bob",
        "thread.reaction.remove",
        {"target_message_id": "hello", "reaction_type": "+1", "action": "remove"},
        unordered=("received",),
    ),
    Send("bob", "thread.reaction.add", {"target_message_id": "gone", "reaction_type": "+1", "action": "add"}),
    Send(
        "bob",
        "thread.channel_messages.retrieve",
        {"channel": "general", "limit": 10, "include_threads": True},
        unordered=("messages", "replies"),
    ),
    Send("bob", "thread.channel_messages.retrieve", {"channel": "nowhere"}),
    Send(
        "alice",
        "thread.direct_message.send",
        {"target_agent_id": "bob", "content": {"text": "only you"}, "message_type": "direct_message"},
        to="agent:bob",
        id="only-you",
    ),
    Send("alice", "thread.direct_message.send", {"target_agent_id": "zoe", "content": {"text": "?"}}, to="agent:zoe"),
    Send("bob", "thread.direct_messages.retrieve", {"target_agent_id": "alice"}, unordered=("messages",)),
    Send("bob", "thread.direct_messages.retrieve", {}),
    Send(
        "alice",
        "thread.file.upload",
        {"filename": "lines.txt", "file_content": _FILE, "mime_type": "text/plain", "file_size": 18},
        keep={"file": "file_id"},
    ),
    Send("alice", "thread.file.upload", {"filename": "", "file_content": "", "mime_type": "", "file_size": 0}),
    Send("bob", "thread.file.download", {"file_id": Kept("file")}),
    Send("bob", "thread.file.download", {"file_id": "none"}),
    Send("carol", "thread.announcement.set", {"channel": "general", "text": "lunch at noon"}),
    Send("bob", "thread.announcement.set", {"channel": "general", "text": "no lunch"}),  # not an admin
    Send("bob", "thread.announcement.get", {"channel": "general"}),
    Send("bob", "thread.announcement.get", {}),
    Send("alice", "agent.message", {"content": {"text": "to bob"}}, to="agent:bob"),
    Send("alice", "agent.message", {"channel": "dev", "content": {"text": "to dev"}}, to="agent:broadcast"),
    Send("alice", "agent.message", {"content": {"text": "to everybody"}}, to="agent:broadcast"),
    Send("alice", "dev.note.sent", {"text": "a channel, no mod"}, to="channel:dev"),
    Send("alice", "dev.note.sent", {"text": "direct, no mod"}, to="carol"),
    Send("alice", "dev.note.sent", {"text": "to nobody"}, to="agent:zoe"),
    Send("alice", "dev.note.sent", {"text": "an empty channel"}, to="channel:empty"),
    Send("alice", "thread.channels.list", {"action": "list_channels"}, unordered=("agents",)),
]
