"""Agents, channels and invites as keys and values of a bucket. Pure.

    agent.<agent>             all that is known of an agent, with its home
    channel.<channel>         whether it is private, and who made it; there as long as it has members
    member.<channel>.<agent>  one membership; the revisions give the order of joining
    invite.<invite>           an invite with the uses that are left

Each name is one token, see `names.token`. Secrets are in it as hashes only.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from ..link.names import text_of, token

AGENT, CHANNEL, MEMBER, INVITE = "agent", "channel", "member", "invite"


class Write(NamedTuple):
    """A key and what it is to be: a value, or None for no key.

    Attributes:
        is_spent: an invite of which one use was taken. Another node may take one in the same moment.
        is_joined: a private channel that somebody joined: its key shows that its members have changed.
    """

    key: str
    value: Any
    is_spent: bool = False
    is_joined: bool = False


def write_of(kind: str, data: dict[str, Any]) -> list[Write]:
    """Return what a change means for the bucket; see `AgentStore.record`."""
    match kind:
        case "register":
            return [Write(agent_key(data["agent_id"]), data)]
        case "unregister":
            return [Write(agent_key(data["agent_id"]), None)]
        case "channel":
            return [Write(channel_key(data["channel"]), {"private": False})]
        case "private":
            made = {"private": True, "created_by": data["created_by"], "created_at": data["created_at"]}
            return [Write(channel_key(data["channel"]), made)]
        case "open" | "remove_channel":
            return [Write(channel_key(data["channel"]), None)]
        case "join":
            member = Write(member_key(data["channel"], data["agent_id"]), 1)
            return [member] if not data["private"] else [member, Write(channel_key(data["channel"]), 1, is_joined=True)]
        case "leave":
            return [Write(member_key(data["channel"], data["agent_id"]), None)]
        case "invite" | "spend_invite":
            return [Write(f"{INVITE}.{token(data['invite_id'])}", data, is_spent=kind == "spend_invite")]
        case "revoke_invite":
            return [Write(f"{INVITE}.{token(data['invite_id'])}", None)]
    raise ValueError(f"no change of agents is called {kind!r}")


def read(key: str, value: Any) -> tuple[str, dict[str, Any]] | None:
    """Return the change that a key with this value means; None: a key of a later version."""
    kind, *names = (text_of(each) for each in key.split("."))
    match kind, names:
        case "agent", [agent_id]:
            return ("unregister", {"agent_id": agent_id}) if value is None else ("register", value)
        case "channel", [channel]:
            if value is None or not value["private"]:
                return "open", {"channel": channel}
            return "private", {"channel": channel, **value}
        case "member", [channel, agent_id]:
            return "leave" if value is None else "join", {"channel": channel, "agent_id": agent_id}
        case "invite", [invite_id]:
            return ("revoke_invite", {"invite_id": invite_id}) if value is None else ("invite", value)
    return None


def agent_key(agent_id: str) -> str:
    return f"{AGENT}.{token(agent_id)}"


def channel_key(channel: str) -> str:
    return f"{CHANNEL}.{token(channel)}"


def member_key(channel: str, agent_id: str) -> str:
    return f"{MEMBER}.{token(channel)}.{token(agent_id)}"
