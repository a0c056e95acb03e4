"""The tables of projects."""

from __future__ import annotations

MIGRATIONS = [
    """
    CREATE TABLE projects (
        project_id TEXT PRIMARY KEY,
        name TEXT NOT NULL,
        description TEXT NOT NULL,
        status TEXT NOT NULL DEFAULT 'planned',
        private INTEGER NOT NULL,
        created_by TEXT NOT NULL,
        created_at REAL NOT NULL,
        updated_at REAL NOT NULL
    );
    CREATE INDEX projects_by_status ON projects(status, project_id);
    CREATE TABLE members (
        project_id TEXT NOT NULL REFERENCES projects ON DELETE CASCADE,
        agent_id TEXT NOT NULL,
        role TEXT NOT NULL,
        added_at REAL NOT NULL,
        PRIMARY KEY (project_id, agent_id)
    ) WITHOUT ROWID;
    CREATE INDEX members_by_agent ON members(agent_id, project_id);
    CREATE TABLE goals (
        goal_id INTEGER PRIMARY KEY AUTOINCREMENT,
        project_id TEXT NOT NULL REFERENCES projects ON DELETE CASCADE,
        text TEXT NOT NULL,
        status TEXT NOT NULL DEFAULT 'open',
        created_by TEXT NOT NULL,
        created_at REAL NOT NULL,
        updated_at REAL NOT NULL
    );
    CREATE INDEX goals_by_project ON goals(project_id, goal_id);
    -- One row per artifact ever put. A deleted artifact keeps its row, so that no version number is used twice.
    CREATE TABLE artifacts (
        project_id TEXT NOT NULL REFERENCES projects ON DELETE CASCADE,
        name TEXT NOT NULL,
        version INTEGER NOT NULL,
        deleted INTEGER NOT NULL DEFAULT 0,
        PRIMARY KEY (project_id, name)
    );
    CREATE TABLE versions (
        id INTEGER PRIMARY KEY,
        project_id TEXT NOT NULL,
        name TEXT NOT NULL,
        version INTEGER NOT NULL,
        kind TEXT NOT NULL,
        format TEXT NOT NULL,
        size INTEGER NOT NULL,
        author TEXT NOT NULL,
        at REAL NOT NULL,
        content BLOB NOT NULL,
        UNIQUE (project_id, name, version),
        FOREIGN KEY (project_id, name) REFERENCES artifacts ON DELETE CASCADE
    );
    CREATE TABLE commits (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        project_id TEXT NOT NULL REFERENCES projects ON DELETE CASCADE,
        sha TEXT NOT NULL,
        author TEXT NOT NULL,
        timestamp REAL NOT NULL,
        message TEXT NOT NULL,
        files TEXT NOT NULL,
        added_by TEXT NOT NULL,
        added_at REAL NOT NULL,
        UNIQUE (project_id, sha)
    );
    CREATE INDEX commits_by_project ON commits(project_id, id);
    CREATE TABLE activity (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        project_id TEXT NOT NULL REFERENCES projects ON DELETE CASCADE,
        at REAL NOT NULL,
        actor TEXT NOT NULL,
        action TEXT NOT NULL,
        details TEXT NOT NULL
    );
    CREATE INDEX activity_by_project ON activity(project_id, id);
    """
]
