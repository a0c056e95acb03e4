"""Channels, direct conversations and their members in SQLite."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ... import Code, Refused
from ..database import open_database, transaction
from .schema import MIGRATIONS

MAX_COUNTED = 1_000  # stop to count unread messages here: counting takes time, and no reader needs the exact number


@dataclass(frozen=True, slots=True)
class Conversation:
    """A channel, or the direct conversation of two agents.

    Attributes:
        channel: the channel's name; None for a direct conversation.
    """

    id: str
    channel: str | None

    @property
    def title(self) -> str:
        return f"channel {self.channel}" if self.channel is not None else "this conversation"

    @staticmethod
    def of_channel(name: str) -> Conversation:
        return Conversation(f"channel:{name}", name)

    @staticmethod
    def between(one: str, other: str) -> Conversation:
        # No id contains '|', so no two pairs give the same text.
        return Conversation("direct:" + "|".join(sorted((one, other))), None)

    @staticmethod
    def from_id(conversation_id: str) -> Conversation:
        kind, _, name = conversation_id.partition(":")
        return Conversation(conversation_id, name if kind == "channel" else None)

    def partners(self) -> list[str]:
        """Return the two ids of a direct conversation."""
        return self.id.removeprefix("direct:").split("|")

    def partner_of(self, agent_id: str) -> str:
        """Return the other id of a direct conversation."""
        one, other = self.partners()
        return other if one == agent_id else one


class ConversationStore:
    """Conversations and members.

    Every method is one short transaction, and raises `Refused` for a bad request.
    """

    def __init__(self, path: Path) -> None:
        self.connection = open_database(path, MIGRATIONS)

    def close(self) -> None:
        self.connection.close()

    # -- channels

    def create_channel(self, name: str, topic: str, actor: str, at: float) -> bool:
        """Create a channel. Return False if it already exists."""
        done = self.connection.execute(
            "INSERT INTO conversations VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
            (f"channel:{name}", name, topic, actor, at),
        )
        return done.rowcount == 1

    def channel(self, name: str) -> Conversation:
        """Return the channel; refuse with ``not_found`` if there is none of that name."""
        if self.connection.execute("SELECT 1 FROM conversations WHERE channel = ?", (name,)).fetchone() is None:
            raise Refused(
                f"channel: there is no channel {name!r}; create it with messaging.channel.create",
                code=Code.NOT_FOUND, field="channel",
            )  # fmt: skip
        return Conversation.of_channel(name)

    def describe(self, name: str) -> dict[str, Any]:
        """Return a channel as `channels` lists it, without ``joined``."""
        row = self.connection.execute(
            "SELECT channel, topic, created_by, created_at, (SELECT count(*) FROM members m "
            "WHERE m.conversation_id = c.conversation_id AND NOT gone) AS members FROM conversations c WHERE channel = ?",
            (name,),
        ).fetchone()
        return dict(row)

    def channels(self, agent_id: str, joined: bool, after: str, limit: int) -> list[dict[str, Any]]:
        """Return channels by name, with their number of members and whether the agent joined."""
        rows = self.connection.execute(
            "SELECT channel, topic, created_by, created_at, (SELECT count(*) FROM members m "
            "  WHERE m.conversation_id = c.conversation_id AND NOT gone) AS members, own.agent_id IS NOT NULL AS joined "
            "FROM conversations c LEFT JOIN members own "
            "  ON own.conversation_id = c.conversation_id AND own.agent_id = :agent AND NOT own.gone "
            "WHERE channel > :after AND (NOT :joined OR own.agent_id IS NOT NULL) ORDER BY channel LIMIT :limit",
            {"agent": agent_id, "after": after, "joined": joined, "limit": limit},
        )
        return [{**dict(row), "joined": bool(row["joined"])} for row in rows]

    # -- members

    def join(self, conversation: Conversation, agent_id: str, at: float, *, again: bool = True) -> bool:
        """Make the agent a member. Return False if it already is one. Older messages count as read.

        Args:
            again: whether an agent that left on purpose joins again.
        """
        done = self.connection.execute(
            "INSERT INTO members (conversation_id, agent_id, joined_at, last_read) "
            "VALUES (:conversation, :agent, :at, (SELECT coalesce(max(message_id), 0) FROM messages)) "
            "ON CONFLICT DO UPDATE SET gone = 0, joined_at = :at, last_read = excluded.last_read WHERE gone AND :again",
            {"conversation": conversation.id, "agent": agent_id, "at": at, "again": again},
        )
        return done.rowcount == 1

    def leave(self, conversation: Conversation, agent_id: str) -> bool:
        """End a membership. Return False if the agent is no member."""
        done = self.connection.execute(
            "UPDATE members SET gone = 1 WHERE conversation_id = ? AND agent_id = ? AND NOT gone",
            (conversation.id, agent_id),
        )
        return done.rowcount == 1

    def is_member(self, conversation: Conversation, agent_id: str) -> bool:
        row = self.connection.execute(
            "SELECT 1 FROM members WHERE conversation_id = ? AND agent_id = ? AND NOT gone", (conversation.id, agent_id)
        ).fetchone()
        return row is not None

    def members(self, conversation: Conversation, after: str = "", limit: int = -1) -> list[dict[str, Any]]:
        rows = self.connection.execute(
            "SELECT agent_id, joined_at FROM members WHERE conversation_id = ? AND NOT gone AND agent_id > ? "
            "ORDER BY agent_id LIMIT ?",
            (conversation.id, after, limit),
        )
        return [dict(row) for row in rows]

    def memberships(self, agent_id: str | None = None) -> list[tuple[str, str]]:
        """Return ``(channel, agent id)`` for every channel member, or for one agent."""
        rows = self.connection.execute(
            "SELECT channel, agent_id FROM members JOIN conversations USING (conversation_id) "
            "WHERE channel IS NOT NULL AND NOT gone AND (? IS NULL OR agent_id = ?) ORDER BY channel, joined_at, agent_id",
            (agent_id, agent_id),
        )
        return [(row["channel"], row["agent_id"]) for row in rows]

    def direct(self, author: str, other: str, at: float) -> Conversation:
        """Return the direct conversation of two, and create it when they first write."""
        conversation = Conversation.between(author, other)
        with transaction(self.connection):
            self.connection.execute(
                "INSERT INTO conversations (conversation_id, created_by, created_at) VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
                (conversation.id, author, at),
            )
            for agent_id in conversation.partners():
                self.connection.execute(
                    "INSERT INTO members (conversation_id, agent_id, joined_at, last_read) VALUES (?, ?, ?, 0) "
                    "ON CONFLICT DO NOTHING",
                    (conversation.id, agent_id, at),
                )
        return conversation

    # -- read and unread

    def mark_read(self, conversation: Conversation, agent_id: str, message_id: int | None) -> int:
        """Note that the agent has read up to ``message_id``, or everything for None.

        Return the mark. The mark never moves back.
        """
        row = self.connection.execute(
            "UPDATE members SET last_read = max(last_read, min(coalesce(:message, newest), newest)) "
            "FROM (SELECT coalesce(max(message_id), 0) AS newest FROM messages WHERE conversation_id = :conversation) "
            "WHERE conversation_id = :conversation AND agent_id = :agent AND NOT gone RETURNING last_read",
            {"message": message_id, "conversation": conversation.id, "agent": agent_id},
        ).fetchone()
        if row is None:
            raise Refused(f"{agent_id} is not a member of {conversation.title}", code=Code.FORBIDDEN)
        return row["last_read"]

    def unread(self, agent_id: str, after: str, limit: int) -> list[dict[str, Any]]:
        """Return conversations with unread messages by others, by id.

        Counts stop at `MAX_COUNTED`.
        """
        rows = self.connection.execute(
            "SELECT * FROM (SELECT conversation_id, last_read, (SELECT count(*) FROM (SELECT 1 FROM messages n "
            "  WHERE n.conversation_id = m.conversation_id AND n.message_id > m.last_read "
            "  AND n.author != m.agent_id AND n.deleted_at IS NULL LIMIT :most)) AS unread "
            "FROM members m WHERE agent_id = :agent AND NOT gone AND conversation_id > :after) "
            "WHERE unread > 0 ORDER BY conversation_id LIMIT :limit",
            {"most": MAX_COUNTED, "agent": agent_id, "after": after, "limit": limit},
        )
        found = []
        for row in rows:
            conversation = Conversation.from_id(row["conversation_id"])
            direct = conversation.channel is None
            name = {"agent_id": conversation.partner_of(agent_id)} if direct else {"channel": conversation.channel}
            found.append({**dict(row), **name})
        return found
