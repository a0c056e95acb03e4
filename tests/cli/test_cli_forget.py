"""`modvisor agent forget ID`: what it deletes, what it says of the rest."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from modvisor.supervisor import Event

from .conftest import Command, Served

DURABLE = """
network: {name: demo, port: 0}
mods:
  - {path: ./fragile, durable: true, max_attempts: 1}
"""
FRAGILE = """
    import os
    from modvisor.mods import BaseMod, EventResponse, mod_event_handler

    class Fragile(BaseMod):
        @mod_event_handler("fragile.die")
        def die(self, event):
            os._exit(3)

        @mod_event_handler("fragile.live")
        def live(self, event):
            return EventResponse(True, "lives")
"""
PRIVATE = "what nobody else should read"


def test_nothing_of_a_forgotten_agent_is_left_in_the_journal(
    cli: Command, serve: Callable[..., Served], write_mod: Callable[..., str]
) -> None:
    write_mod("fragile", FRAGILE)
    served = serve(DURABLE)
    network, call = served.network, served.call
    call(network.register_agent, "alice", {"about": PRIVATE})
    call(network.register_agent, "bob")
    for name, source, payload in (
        ("system.add_channel_member", "agent:alice", {"channel": "dev", "agent_id": "alice"}),
        ("fragile.live", "agent:alice", {"text": PRIVATE}),
        ("fragile.die", "agent:alice", {"text": PRIVATE}),
        ("fragile.die", "agent:bob", {"text": "of bob"}),
        ("chat.said", "agent:bob", {"text": PRIVATE}),
    ):
        to = "mod:fragile" if name.startswith("fragile") else "agent:alice" if name == "chat.said" else None
        call(network.process_event, Event(name, source, to, payload=payload))
    cli.ok("invite", "create", "--agent", "alice")

    told = cli.json("agent", "forget", "alice")["data"]
    assert told == {
        "agent_id": "alice", "inbox": 1, "registered": True, "channels": 1, "invites": 1, "dead_letters": 1,
        "answers": 1, "reports": 1, "waiting": 0,
    }  # fmt: skip
    assert [letter["event"]["source_id"] for letter in cli.json("dlq", "ls")["dead_letters"]] == ["agent:bob"]
    assert cli.json("invite", "list")["invites"] == []
    assert "alice" not in network.agents_known_to("bob")
    again = cli.json("agent", "forget", "alice", code=1)
    assert again["data"]["error"] == "no_such_agent"
    recorded = (served.folder / ".modvisor" / "audit" / "audit.jsonl").read_text().splitlines()
    forgets = [line for line in map(json.loads, recorded) if line["what"] == "agent.forget"]
    assert [(line["on"], line["outcome"]) for line in forgets][:2] == [("alice", "asked"), ("alice", "ok")]
    served.stop()
    assert b"alice" not in left(served.folder)
    assert PRIVATE.encode() not in left(served.folder)
    assert b"of bob" in left(served.folder)


def test_an_agent_of_a_network_that_does_not_run_is_forgotten_too(
    cli: Command, serve: Callable[..., Served], tmp_path: Path
) -> None:
    served = serve(network="network: {name: demo, port: 0}\n")
    for agent in ("alice", "bob"):
        served.call(served.network.register_agent, agent, {"about": PRIVATE if agent == "alice" else "of bob"})
    served.stop()
    done = cli("agent", "forget", "alice")
    assert done.stdout == "agent alice is forgotten: its registration\n"
    assert "no network runs, so no mod was told" in done.stderr
    assert PRIVATE.encode() not in left(served.folder)
    assert b"of bob" in left(served.folder)
    assert cli("agent", "forget", "alice").stderr == "error: nothing is kept of an agent 'alice'\n"
    records = cli.json("audit", "show", "--what", "agent.forget")["records"]
    assert [(each["on"], each["outcome"]) for each in records[:2]] == [("alice", "asked"), ("alice", "ok")]
    assert records[0]["who"].startswith("command:uid ")
    serve(network=None)
    agents = cli.json("send", "system.list_agents")["data"]["agents"]
    assert [each["agent_id"] for each in agents] == ["bob"]


def left(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in (folder / ".modvisor").glob("network.db*"))


def test_an_agent_called_forget_can_still_talk_and_two_ids_are_too_many(cli: Command, served: Served) -> None:
    assert "/help" in cli("agent", "forget", stdin="/help\n").output
    result = cli("agent", "alice", "bob")
    assert result.exit_code == 2
    assert "expected one AGENT, or 'forget' and an ID; got 'alice' and 'bob'" in result.stderr
