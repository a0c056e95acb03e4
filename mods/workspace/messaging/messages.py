"""Messages, threads and reactions in SQLite."""

from __future__ import annotations

import sqlite3
from typing import Any

from ... import Code, Refused
from ..database import transaction
from .conversations import Conversation, ConversationStore

MAX_REACTIONS = 50  # different reactions on a message, so that a message stays of readable size

_COLUMNS = "message_id, conversation_id, root_id, reply_to, author, at, text, edited_at, deleted_at"


class MessageStore:
    """Keeps messages in the conversations' database."""

    def __init__(self, conversations: ConversationStore) -> None:
        self._conversations = conversations
        self._connection = conversations.connection

    def post(
        self, conversation: Conversation, author: str, text: str, at: float, reply_to: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        """Write a message. A reply belongs to the thread of the message it replies to."""
        with transaction(self._connection):
            cursor = self._connection.execute(
                "INSERT INTO messages (conversation_id, root_id, reply_to, author, at, text) VALUES (?, ?, ?, ?, ?, ?)",
                (
                    conversation.id,
                    reply_to and (reply_to["root_id"] or reply_to["message_id"]),
                    reply_to and reply_to["message_id"],
                    author,
                    at,
                    text,
                ),
            )
            assert cursor.lastrowid is not None
            # The author has read the messages before.
            self._connection.execute(
                "UPDATE members SET last_read = ? WHERE conversation_id = ? AND agent_id = ?",
                (cursor.lastrowid, conversation.id, author),
            )
            return self._one(cursor.lastrowid)

    def get(self, message_id: int, reader: str) -> dict[str, Any]:
        """Return a message of any channel, or of a direct conversation of the reader."""
        message = self._find(message_id)
        if message is None or (message["channel"] is None and reader not in message["between"]):
            raise Refused(f"message_id: there is no message {message_id}", code=Code.NOT_FOUND, field="message_id")
        return message

    def history(
        self, conversation: Conversation, before: int | None, after: int | None, limit: int
    ) -> list[dict[str, Any]]:
        """Return messages that start threads.

        With ``after``, the oldest messages after it, oldest first. Otherwise the newest messages
        before ``before``, newest first.
        """
        order = "DESC" if after is None else "ASC"
        return self._many(
            "conversation_id = ? AND root_id IS NULL AND message_id > ? AND message_id < ? "
            f"ORDER BY message_id {order} LIMIT ?",
            (conversation.id, after or 0, before or 2**62, limit),
        )

    def thread(self, root_id: int, after: int, limit: int) -> list[dict[str, Any]]:
        """Return the replies to a message, oldest first."""
        return self._many(
            "root_id = ? AND root_id IS NOT NULL AND message_id > ? ORDER BY message_id LIMIT ?",
            (root_id, after, limit),
        )

    def edit(self, message_id: int, text: str, at: float) -> dict[str, Any]:
        self._connection.execute(
            "UPDATE messages SET text = ?, edited_at = ? WHERE message_id = ?", (text, at, message_id)
        )
        return self._one(message_id)

    def delete(self, message_id: int, at: float) -> dict[str, Any]:
        """Remove a message's text and reactions. Its place in the thread stays."""
        with transaction(self._connection):
            self._connection.execute(
                "UPDATE messages SET text = '', deleted_at = ? WHERE message_id = ?", (at, message_id)
            )
            self._connection.execute("DELETE FROM reactions WHERE message_id = ?", (message_id,))
            return self._one(message_id)

    def react(self, message_id: int, reaction: str, agent_id: str, at: float) -> bool:
        """Add a reaction. Return False if the agent already reacted in this way."""
        with transaction(self._connection):
            kinds = {
                row["reaction"]
                for row in self._connection.execute(
                    "SELECT DISTINCT reaction FROM reactions WHERE message_id = ?", (message_id,)
                )
            }
            if reaction not in kinds and len(kinds) >= MAX_REACTIONS:
                raise Refused(
                    f"reaction: message {message_id} has {MAX_REACTIONS} different reactions; use one of them",
                    code=Code.CONFLICT, field="reaction",
                )  # fmt: skip
            done = self._connection.execute(
                "INSERT INTO reactions VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING", (message_id, reaction, agent_id, at)
            )
            return done.rowcount == 1

    def unreact(self, message_id: int, reaction: str, agent_id: str) -> bool:
        """Remove a reaction. Return False if the agent did not react in this way."""
        done = self._connection.execute(
            "DELETE FROM reactions WHERE message_id = ? AND reaction = ? AND agent_id = ?",
            (message_id, reaction, agent_id),
        )
        return done.rowcount == 1

    # -- inside

    def _one(self, message_id: int) -> dict[str, Any]:
        message = self._find(message_id)
        assert message is not None
        return message

    def _find(self, message_id: int) -> dict[str, Any] | None:
        found = self._many("message_id = ?", (message_id,))
        return found[0] if found else None

    def _many(self, where: str, values: tuple[Any, ...]) -> list[dict[str, Any]]:
        rows = self._connection.execute(
            f"SELECT {_COLUMNS}, (SELECT count(*) FROM messages r WHERE r.root_id = m.message_id "
            f"AND r.root_id IS NOT NULL) AS replies FROM messages m WHERE {where}",
            values,
        ).fetchall()
        reactions = self._reactions([row["message_id"] for row in rows])
        return [_message(row, reactions.get(row["message_id"], {})) for row in rows]

    def _reactions(self, ids: list[int]) -> dict[int, dict[str, list[str]]]:
        """Return each message's reactions and their agents, with one query for a whole page."""
        rows = self._connection.execute(
            f"SELECT message_id, reaction, agent_id FROM reactions WHERE message_id IN ({', '.join('?' * len(ids))}) "
            "ORDER BY message_id, at, agent_id",
            ids,
        )
        found: dict[int, dict[str, list[str]]] = {}
        for row in rows:
            found.setdefault(row["message_id"], {}).setdefault(row["reaction"], []).append(row["agent_id"])
        return found


def _message(row: sqlite3.Row, reactions: dict[str, list[str]]) -> dict[str, Any]:
    """Return a message as its payload.

    Either ``channel`` is None or ``between``, which names the two agents of a direct message.
    """
    conversation = Conversation.from_id(row["conversation_id"])
    return {
        "message_id": row["message_id"],
        "channel": conversation.channel,
        "between": conversation.partners() if conversation.channel is None else None,
        "root_id": row["root_id"],
        "reply_to": row["reply_to"],
        "author": row["author"],
        "at": row["at"],
        "text": row["text"],
        "edited_at": row["edited_at"],
        "deleted": row["deleted_at"] is not None,
        "replies": row["replies"],
        "reactions": reactions,
    }
