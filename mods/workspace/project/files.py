"""Artifacts with their versions, and commits. Both lie in the projects' database."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from typing import Any

from ... import Code, Refused
from ..database import transaction
from .rules import decode_content, encode_content
from .store import Deed, ProjectStore

_HEAD = "v.name, v.version, kind, format, size, author, at"


class ArtifactStore:
    """Keeps artifacts by name, with the newest ``keep`` versions of each."""

    def __init__(self, projects: ProjectStore, *, keep: int, max_bytes: int) -> None:
        self._projects = projects
        self._connection = projects.connection
        self._keep = keep
        self._max_bytes = max_bytes

    def put(self, deed: Deed, name: str, kind: str, content: Any, base: int | None) -> dict[str, Any]:
        """Write a new version.

        Args:
            base: the newest version that the sender knows (0 for none). A newer one is a conflict.
        """
        form, data = encode_content(content, self._max_bytes)
        with transaction(self._connection):
            self._projects.check_writer(deed)
            row = self._connection.execute(
                "SELECT version, deleted FROM artifacts WHERE project_id = ? AND name = ?", (deed.project_id, name)
            ).fetchone()
            newest = 0 if row is None or row["deleted"] else row["version"]
            if base is not None and base != newest:
                raise Refused(
                    f"base_version: artifact {name!r} is at version {newest}, not {base}; get it and change that version",
                    code=Code.CONFLICT, field="base_version", version=newest,
                )  # fmt: skip
            version = 1 if row is None else row["version"] + 1
            self._write(deed, name, version, kind, form, data)
            self._projects.log(deed, "artifact_put", name=name, version=version, size=len(data))
        return {"name": name, "version": version, "kind": kind, "format": form, "size": len(data)}

    def get(self, project_id: str, name: str, version: int | None) -> dict[str, Any]:
        """Return a version with its content; the newest if ``version`` is None."""
        row = self._connection.execute(
            f"SELECT {_HEAD}, content FROM artifacts a JOIN versions v USING (project_id, name) "
            "WHERE project_id = ? AND v.name = ? AND v.version = coalesce(?, a.version) AND NOT deleted",
            (project_id, name, version),
        ).fetchone()
        if row is None:
            raise self._missing(project_id, name, version)
        return {**dict(row), "content": decode_content(row["format"], row["content"])}

    def list(self, project_id: str, after: str, limit: int) -> list[dict[str, Any]]:
        """Return the newest version of each artifact, without content, by name."""
        rows = self._connection.execute(
            f"SELECT {_HEAD} FROM artifacts a JOIN versions v USING (project_id, name, version) "
            "WHERE project_id = ? AND name > ? AND NOT deleted ORDER BY name LIMIT ?",
            (project_id, after, limit),
        )
        return [dict(row) for row in rows]

    def delete(self, deed: Deed, name: str) -> None:
        """Remove every version. A later `put` of that name continues the numbers."""
        with transaction(self._connection):
            self._projects.check_writer(deed)
            done = self._connection.execute(
                "UPDATE artifacts SET deleted = 1 WHERE project_id = ? AND name = ? AND NOT deleted",
                (deed.project_id, name),
            )
            if done.rowcount == 0:
                raise self._missing(deed.project_id, name, None)
            self._connection.execute("DELETE FROM versions WHERE project_id = ? AND name = ?", (deed.project_id, name))
            self._projects.log(deed, "artifact_deleted", name=name)

    def _write(self, deed: Deed, name: str, version: int, kind: str, form: str, data: bytes) -> None:
        self._connection.execute(
            "INSERT INTO artifacts (project_id, name, version) VALUES (?, ?, ?) "
            "ON CONFLICT DO UPDATE SET version = excluded.version, deleted = 0",
            (deed.project_id, name, version),
        )
        self._connection.execute(
            "INSERT INTO versions (project_id, name, version, kind, format, size, author, at, content) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (deed.project_id, name, version, kind, form, len(data), deed.actor, deed.at, data),
        )
        self._connection.execute(
            "DELETE FROM versions WHERE project_id = ? AND name = ? AND version <= ?",
            (deed.project_id, name, version - self._keep),
        )

    def _missing(self, project_id: str, name: str, version: int | None) -> Refused:
        kept = [
            row["version"]
            for row in self._connection.execute(
                "SELECT version FROM versions WHERE project_id = ? AND name = ? ORDER BY version", (project_id, name)
            )
        ]
        if not kept:
            return Refused(f"name: project {project_id!r} has no artifact {name!r}", code=Code.NOT_FOUND, field="name")
        return Refused(
            f"version: artifact {name!r} has no version {version}; versions {kept[0]} to {kept[-1]} are kept",
            code=Code.NOT_FOUND, field="version", versions=kept[-50:],
        )  # fmt: skip


class CommitStore:
    """Keeps the commits of a project's source repository, in the order in which they come."""

    def __init__(self, projects: ProjectStore) -> None:
        self._projects = projects
        self._connection = projects.connection

    def add(
        self, deed: Deed, sha: str, author: str, timestamp: float, message: str, files: list[str]
    ) -> tuple[dict[str, Any], bool]:
        """Add a commit, unless there is one with that ``sha``: a stream of commits may be repeated.

        Returns:
            the commit, and whether it is new.
        """
        with transaction(self._connection):
            self._projects.check_writer(deed)
            cursor = self._connection.execute(
                "INSERT INTO commits (project_id, sha, author, timestamp, message, files, added_by, added_at) "
                "VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
                (deed.project_id, sha, author, timestamp, message, json.dumps(files), deed.actor, deed.at),
            )
            if cursor.rowcount:
                self._projects.log(deed, "commit_added", sha=sha, author=author)
            row = self._connection.execute(
                "SELECT * FROM commits WHERE project_id = ? AND sha = ?", (deed.project_id, sha)
            ).fetchone()
            return _commit(row), bool(cursor.rowcount)

    def list(self, project_id: str, before: int, limit: int) -> Iterator[dict[str, Any]]:
        """Yield commits, the last added first.

        A page of large commits may end early (`size_of_commit`).
        """
        rows = self._connection.execute(
            "SELECT * FROM commits WHERE project_id = ? AND id < ? ORDER BY id DESC LIMIT ?",
            (project_id, before or 2**62, limit),
        )
        return (_commit(row) for row in rows)


def size_of_commit(commit: dict[str, Any]) -> int:
    """Return about how many bytes a commit adds to an answer. It may name thousands of files."""
    return len(commit["message"]) + sum(map(len, commit["files"]))


def _commit(row: sqlite3.Row) -> dict[str, Any]:
    return {**dict(row), "files": json.loads(row["files"])}
