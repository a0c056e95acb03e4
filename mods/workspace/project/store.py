"""Projects, members, goals and the activity log in SQLite."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ... import Code, Refused
from ..database import open_database, transaction
from .rules import check_move, id_from_name
from .schema import MIGRATIONS


@dataclass(frozen=True, slots=True)
class Deed:
    """A change to a project: who makes it, and when."""

    project_id: str
    actor: str
    at: float


class ProjectStore:
    """Projects, members, goals and the activity log.

    Every method is one short transaction, and raises `Refused` for a bad request. Every change is
    noted in the activity log.
    """

    def __init__(self, path: Path) -> None:
        self.connection = open_database(path, MIGRATIONS)

    def close(self) -> None:
        self.connection.close()

    # -- permissions

    def check_reader(self, project_id: str, actor: str) -> dict[str, Any]:
        """Return the project if ``actor`` may read it.

        To others a private project does not exist.
        """
        project = self.head(project_id)
        if project["private"] and self.role(project_id, actor) is None:
            raise _no_project(project_id)
        return project

    def head(self, project_id: str) -> dict[str, Any]:
        """Return the project's row, without checking who asks."""
        row = self.connection.execute("SELECT * FROM projects WHERE project_id = ?", (project_id,)).fetchone()
        if row is None:
            raise _no_project(project_id)
        return {**dict(row), "private": bool(row["private"])}

    def check_writer(self, deed: Deed, *, owner: bool = False, archived: bool = False) -> dict[str, Any]:
        """Return the project if the actor may change it.

        Args:
            owner: refuse members who are not owners.
            archived: allow a change of an archived project.
        """
        project = self.check_reader(deed.project_id, deed.actor)
        role = self.role(deed.project_id, deed.actor)
        if role is None or (owner and role != "owner"):
            raise Refused(
                f"{deed.actor} is not {'an owner' if owner else 'a member'} of project {deed.project_id!r}; "
                "an owner can add one with project.member.add",
                code=Code.FORBIDDEN,
            )
        if project["status"] == "archived" and not archived:
            raise Refused(
                f"project_id: project {deed.project_id!r} is archived; set its status to active first",
                code=Code.CONFLICT, field="project_id", status="archived",
            )  # fmt: skip
        return project

    def role(self, project_id: str, agent_id: str) -> str | None:
        row = self.connection.execute(
            "SELECT role FROM members WHERE project_id = ? AND agent_id = ?", (project_id, agent_id)
        ).fetchone()
        return None if row is None else row["role"]

    # -- projects

    def create(self, deed: Deed, name: str, description: str, private: bool, goals: list[str]) -> dict[str, Any]:
        """Create a project owned by the actor.

        If ``deed.project_id`` is empty, make an id from the name.
        """
        with transaction(self.connection):
            project_id = deed.project_id or self._free_id(id_from_name(name))
            if self._exists(project_id):
                raise Refused(
                    f"project_id: {project_id!r} is taken; choose another", code=Code.CONFLICT, field="project_id"
                )
            deed = Deed(project_id, deed.actor, deed.at)
            self.connection.execute(
                "INSERT INTO projects (project_id, name, description, private, created_by, created_at, updated_at) "
                "VALUES (?, ?, ?, ?, ?, ?, ?)",
                (project_id, name, description, private, deed.actor, deed.at, deed.at),
            )
            self.connection.execute("INSERT INTO members VALUES (?, ?, 'owner', ?)", (project_id, deed.actor, deed.at))
            self.log(deed, "created", name=name)
            for text in goals:
                self._add_goal(deed, text)
            return self.get(project_id, deed.actor)

    def get(self, project_id: str, actor: str) -> dict[str, Any]:
        """Return the project with counts of what it holds and the reader's role."""
        project = self.check_reader(project_id, actor)
        counts = self.connection.execute(
            "SELECT (SELECT count(*) FROM members WHERE project_id = :id) AS members,"
            " (SELECT count(*) FROM artifacts WHERE project_id = :id AND NOT deleted) AS artifacts,"
            " (SELECT count(*) FROM commits WHERE project_id = :id) AS commits,"
            " (SELECT count(*) FROM goals WHERE project_id = :id) AS goals,"
            " (SELECT count(*) FROM goals WHERE project_id = :id AND status = 'open') AS open_goals",
            {"id": project_id},
        ).fetchone()
        return {**project, "counts": dict(counts), "role": self.role(project_id, actor)}

    def list(self, actor: str, status: str | None, mine: bool, after: str, limit: int) -> list[dict[str, Any]]:
        """Return the projects that ``actor`` may read, by id.

        With ``mine``, only its own projects.
        """
        rows = self.connection.execute(
            "SELECT p.*, m.role FROM projects p "
            "LEFT JOIN members m ON m.project_id = p.project_id AND m.agent_id = :actor "
            "WHERE p.project_id > :after AND (:status IS NULL OR status = :status) "
            "AND (m.role IS NOT NULL OR (NOT :mine AND NOT private)) ORDER BY p.project_id LIMIT :limit",
            {"actor": actor, "after": after, "status": status, "mine": mine, "limit": limit},
        )
        return [{**dict(row), "private": bool(row["private"])} for row in rows]

    def update(self, deed: Deed, changes: dict[str, Any]) -> dict[str, Any]:
        """Set name, description or private. Only an owner may change who can see the project."""
        with transaction(self.connection):
            self.check_writer(deed, owner="private" in changes)
            columns = ", ".join(f"{name} = ?" for name in changes)
            self.connection.execute(
                f"UPDATE projects SET {columns} WHERE project_id = ?", (*changes.values(), deed.project_id)
            )
            self.log(deed, "updated", fields=list(changes))
            return self.get(deed.project_id, deed.actor)

    def set_status(self, deed: Deed, status: str, note: str) -> tuple[dict[str, Any], str]:
        """Move to another status. Return the project and its old status."""
        with transaction(self.connection):
            former = self.check_writer(deed, archived=True)["status"]
            check_move(deed.project_id, former, status)
            self.connection.execute("UPDATE projects SET status = ? WHERE project_id = ?", (status, deed.project_id))
            self.log(deed, "status_set", status=status, former=former, note=note)
            return self.get(deed.project_id, deed.actor), former

    # -- members

    def add_member(self, deed: Deed, agent_id: str, role: str) -> dict[str, Any]:
        """Add a member, or change a member's role."""
        with transaction(self.connection):
            self.check_writer(deed, owner=True)
            former = self.role(deed.project_id, agent_id)
            if former == "owner" and role != "owner":
                self._check_other_owner(deed.project_id, agent_id)
            self.connection.execute(
                "INSERT INTO members VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE SET role = excluded.role",
                (deed.project_id, agent_id, role, deed.at),
            )
            if former != role:
                self.log(deed, "member_added" if former is None else "role_changed", agent_id=agent_id, role=role)
            return {"agent_id": agent_id, "role": role, "changed": former != role}

    def remove_member(self, deed: Deed, agent_id: str) -> None:
        """Remove a member. Owners may remove every member, members only themselves."""
        with transaction(self.connection):
            self.check_writer(deed, owner=agent_id != deed.actor)
            role = self.role(deed.project_id, agent_id)
            if role is None:
                raise Refused(
                    f"agent_id: {agent_id} is not a member of project {deed.project_id!r}",
                    code=Code.NOT_FOUND, field="agent_id",
                )  # fmt: skip
            if role == "owner":
                self._check_other_owner(deed.project_id, agent_id)
            self.connection.execute(
                "DELETE FROM members WHERE project_id = ? AND agent_id = ?", (deed.project_id, agent_id)
            )
            self.log(deed, "member_removed", agent_id=agent_id)

    def members(self, project_id: str, after: str = "", limit: int = -1) -> list[dict[str, Any]]:
        rows = self.connection.execute(
            "SELECT agent_id, role, added_at FROM members WHERE project_id = ? AND agent_id > ? ORDER BY agent_id LIMIT ?",
            (project_id, after, limit),
        )
        return [dict(row) for row in rows]

    # -- goals

    def add_goal(self, deed: Deed, text: str) -> dict[str, Any]:
        with transaction(self.connection):
            self.check_writer(deed)
            return self._add_goal(deed, text)

    def update_goal(self, deed: Deed, goal_id: int, text: str | None, status: str | None) -> dict[str, Any]:
        with transaction(self.connection):
            self.check_writer(deed)
            goal = self._goal(deed.project_id, goal_id)
            self.connection.execute(
                "UPDATE goals SET text = ?, status = ?, updated_at = ? WHERE goal_id = ?",
                (text or goal["text"], status or goal["status"], deed.at, goal_id),
            )
            goal = self._goal(deed.project_id, goal_id)
            self.log(deed, "goal_updated", goal_id=goal_id, status=goal["status"])
            return goal

    def goals(self, project_id: str, status: str | None, after: int, limit: int) -> list[dict[str, Any]]:
        rows = self.connection.execute(
            "SELECT goal_id, text, status, created_by, created_at, updated_at FROM goals "
            "WHERE project_id = :id AND goal_id > :after AND (:status IS NULL OR status = :status) "
            "ORDER BY goal_id LIMIT :limit",
            {"id": project_id, "after": after, "status": status, "limit": limit},
        )
        return [dict(row) for row in rows]

    # -- activity

    def log(self, deed: Deed, action: str, **details: Any) -> None:
        """Note a change, inside the transaction that makes it."""
        self.connection.execute(
            "INSERT INTO activity (project_id, at, actor, action, details) VALUES (?, ?, ?, ?, ?)",
            (deed.project_id, deed.at, deed.actor, action, json.dumps(details)),
        )
        self.connection.execute("UPDATE projects SET updated_at = ? WHERE project_id = ?", (deed.at, deed.project_id))

    def activity(self, project_id: str, before: int, limit: int) -> list[dict[str, Any]]:
        """Return the noted changes, newest first."""
        rows = self.connection.execute(
            "SELECT id, at, actor, action, details FROM activity WHERE project_id = ? AND id < ? ORDER BY id DESC LIMIT ?",
            (project_id, before or 2**62, limit),
        )
        return [{**dict(row), "details": json.loads(row["details"])} for row in rows]

    # -- inside

    def _exists(self, project_id: str) -> bool:
        found = self.connection.execute("SELECT 1 FROM projects WHERE project_id = ?", (project_id,)).fetchone()
        return found is not None

    def _free_id(self, wanted: str) -> str:
        # One query for all ids, because trying each number would take a query for each project.
        rows = self.connection.execute("SELECT project_id FROM projects WHERE project_id >= ? AND project_id < ?",
                                       (wanted, wanted + "~"))  # fmt: skip
        taken = {row["project_id"] for row in rows}
        number, free = 2, wanted
        while free in taken:
            free, number = f"{wanted}-{number}", number + 1
        return free

    def _check_other_owner(self, project_id: str, agent_id: str) -> None:
        other = self.connection.execute(
            "SELECT 1 FROM members WHERE project_id = ? AND role = 'owner' AND agent_id != ?", (project_id, agent_id)
        ).fetchone()
        if other is None:
            raise Refused(
                f"agent_id: {agent_id} is the only owner of project {project_id!r}; make another member an owner first",
                code=Code.CONFLICT, field="agent_id",
            )  # fmt: skip

    def _add_goal(self, deed: Deed, text: str) -> dict[str, Any]:
        cursor = self.connection.execute(
            "INSERT INTO goals (project_id, text, created_by, created_at, updated_at) VALUES (?, ?, ?, ?, ?)",
            (deed.project_id, text, deed.actor, deed.at, deed.at),
        )
        assert cursor.lastrowid is not None
        self.log(deed, "goal_added", goal_id=cursor.lastrowid)
        return self._goal(deed.project_id, cursor.lastrowid)

    def _goal(self, project_id: str, goal_id: int) -> dict[str, Any]:
        row = self.connection.execute(
            "SELECT goal_id, text, status, created_by, created_at, updated_at FROM goals "
            "WHERE project_id = ? AND goal_id = ?",
            (project_id, goal_id),
        ).fetchone()
        if row is None:
            raise Refused(
                f"goal_id: project {project_id!r} has no goal {goal_id}", code=Code.NOT_FOUND, field="goal_id"
            )
        return dict(row)


def _no_project(project_id: str) -> Refused:
    return Refused(f"project_id: there is no project {project_id!r}", code=Code.NOT_FOUND, field="project_id")
