"""Simple messaging, the mod of tests, and events that no mod answers."""

from __future__ import annotations

import base64

from .steps import Send, Step

_FILE = {"filename": "a.txt", "content": base64.b64encode(b"hello file").decode(), "mime_type": "text/plain"}
_SIMPLE = "mod:openagents.mods.communication.simple_messaging"

STEPS: list[Step] = [
    Send("alice", "agent.direct_message.send", {"text": "hi"}, to="agent:bob"),
    # The mod stores the file, writes its id into the payload, and passes the event on.
    Send("alice", "agent.direct_message.send", {"text": "a file", "files": [_FILE]}, to="agent:bob"),
    Send("alice", "agent.broadcast_message.send", {"text": "all of you", "files": [_FILE]}, to="agent:broadcast"),
    Send("alice", "simple_messaging.file", {"action": "get_file", "file_id": "none"}),
    Send("alice", "simple_messaging.file", {"action": "delete_file", "file_id": "none"}),
    Send("alice", "simple_messaging.file", {"action": "dance"}),
    Send("alice", "simple_messaging.file", {"action": "dance"}, to=_SIMPLE),
    Send("bob", "test.ping", {}),
    Send("bob", "test.ping", {}, to="mod:openagents.mods.test_mods.basic_test"),
    Send("bob", "test.get_state", {}, unordered=("registered_agents", "recent_events")),
    Send("bob", "wiki.page.get", {"page_path": "notes"}, to="mod:openagents.mods.workspace.wiki"),
    Send("bob", "wiki.page.get", {"page_path": "notes"}, to="mod:openagents.mods.nothing"),
    Send("bob", "work.item.done", {"n": 1}, to="agent:alice", metadata={"trace": "t-1"}),
    Send("bob", "work.item.done", {"n": 2}, to="agent:broadcast"),
    Send("bob", "work.item.done", {"n": 3}),
]
