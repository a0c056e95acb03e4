"""The tables. A conversation is a channel or direct, between two agents; both have members."""

from __future__ import annotations

MIGRATIONS = [
    """
    CREATE TABLE conversations (
        conversation_id TEXT PRIMARY KEY,      -- 'channel:general', 'direct:alice|bob'
        channel TEXT UNIQUE,                   -- the channel's name, NULL for a direct conversation
        topic TEXT NOT NULL DEFAULT '',
        created_by TEXT NOT NULL,
        created_at REAL NOT NULL
    );
    CREATE TABLE members (
        conversation_id TEXT NOT NULL REFERENCES conversations ON DELETE CASCADE,
        agent_id TEXT NOT NULL,
        joined_at REAL NOT NULL,
        last_read INTEGER NOT NULL,
        gone INTEGER NOT NULL DEFAULT 0,       -- left on purpose: not joined again by auto_join
        PRIMARY KEY (conversation_id, agent_id)
    ) WITHOUT ROWID;
    CREATE INDEX members_by_agent ON members(agent_id, conversation_id);
    CREATE TABLE messages (
        message_id INTEGER PRIMARY KEY AUTOINCREMENT,
        conversation_id TEXT NOT NULL REFERENCES conversations ON DELETE CASCADE,
        root_id INTEGER REFERENCES messages,   -- the first message of the thread, NULL for such a one
        reply_to INTEGER REFERENCES messages,
        author TEXT NOT NULL,
        at REAL NOT NULL,
        text TEXT NOT NULL,
        edited_at REAL,
        deleted_at REAL
    );
    CREATE INDEX messages_by_conversation ON messages(conversation_id, message_id);
    CREATE INDEX roots_by_conversation ON messages(conversation_id, message_id) WHERE root_id IS NULL;
    CREATE INDEX replies_by_root ON messages(root_id, message_id) WHERE root_id IS NOT NULL;
    CREATE TABLE reactions (
        message_id INTEGER NOT NULL REFERENCES messages ON DELETE CASCADE,
        reaction TEXT NOT NULL,
        agent_id TEXT NOT NULL,
        at REAL NOT NULL,
        PRIMARY KEY (message_id, reaction, agent_id)
    ) WITHOUT ROWID;
    """
]
