"""`ProjectMod`: the events of projects. ../README.md describes them."""

from __future__ import annotations

from typing import Any

from ... import BaseMod, Event, EventResponse, Refused, mod_event_handler
from ..fields import Given, actor
from ..paging import MAX_ID, list_answer, read_cursor, read_limit
from ..store_mod import StoreMod
from .files import ArtifactStore, CommitStore, size_of_commit
from .rules import GOAL_STATUSES, MAX_PROJECT_ID, ROLES, STATUSES, check_project_id
from .store import Deed, ProjectStore

MAX_NAME = 200
MAX_DESCRIPTION = 20_000
MAX_GOAL = 2_000
MAX_GOALS = 100
MAX_NOTE = 1_000
MAX_SHA = 64
MAX_MESSAGE = 50_000
MAX_FILES, MAX_FILE = 5_000, 1_000
MAX_TIME = 32_503_680_000  # the year 3000 in Unix seconds: a larger number is milliseconds by mistake


class ProjectMod(StoreMod, BaseMod):
    """Projects, their members, goals, artifacts, commits and activity."""

    version = "1.0.0"
    description = "Projects: goals, members, artifacts with versions, commits, and a log of every change."

    def initialize(self) -> None:
        config = Given(self.config)
        self._max_artifact = config.integer("max_artifact", least=1, most=32_000_000, default=4_000_000)
        self._keep = config.integer("keep_versions", least=1, most=10_000, default=20)
        self._destination = config.destination("announce")
        config.done()

    def activate(self) -> None:
        self._projects = self.open("project.db", ProjectStore, self._destination)
        self._artifacts = ArtifactStore(self._projects, keep=self._keep, max_bytes=self._max_artifact)
        self._commits = CommitStore(self._projects)

    # -- projects

    @mod_event_handler("project.create")
    async def create(self, event: Event) -> EventResponse:
        given = Given(event.payload)
        name = given.line("name", most=MAX_NAME)
        wanted = given.line("project_id", most=MAX_PROJECT_ID, default="")
        description = given.text("description", least=0, most=MAX_DESCRIPTION, default="")
        goals = given.texts("goals", items=MAX_GOALS, most=MAX_GOAL, default=[])
        private = given.flag("private", default=False)
        given.done()
        deed = Deed(check_project_id(wanted) if wanted else "", actor(event), self.clock())
        project = self._projects.create(deed, name, description, private, goals)
        await self._tell("created", deed, project)
        return EventResponse(True, f"Project {project['project_id']} was created.", project)

    @mod_event_handler("project.get")
    async def get(self, event: Event) -> EventResponse:
        given = Given(event.payload)
        project_id = _project_id(given)
        given.done()
        project = self._projects.get(project_id, actor(event))
        return EventResponse(True, f"Project {project['name']}: {project['status']}.", project)

    @mod_event_handler("project.list")
    async def list_projects(self, event: Event) -> EventResponse:
        given = Given(event.payload)
        status = given.choice("status", STATUSES, default=None)
        mine = given.flag("mine", default=False)
        limit, after = read_limit(given), given.text("cursor", least=0, most=MAX_PROJECT_ID, default="")
        given.done()
        rows = self._projects.list(actor(event), status, mine, after, limit + 1)
        return list_answer("projects", rows, limit, "project_id")

    @mod_event_handler("project.update")
    async def update(self, event: Event) -> EventResponse:
        given = Given(event.payload)
        deed = self._deed(given, event)
        changes = {
            "name": given.line("name", most=MAX_NAME, default=None),
            "description": given.text("description", least=0, most=MAX_DESCRIPTION, default=None),
            "private": given.flag("private", default=None),
        }
        given.done()
        changes = {name: value for name, value in changes.items() if value is not None}
        if not changes:
            raise Refused("name: missing; expected at least one of name, description, private", field="name")
        project = self._projects.update(deed, changes)
        await self._tell("updated", deed, project, fields=list(changes))
        return EventResponse(True, f"Project {deed.project_id} was updated.", project)

    @mod_event_handler("project.status.set")
    async def set_status(self, event: Event) -> EventResponse:
        given = Given(event.payload)
        deed = self._deed(given, event)
        status = given.choice("status", STATUSES)
        note = given.text("note", least=0, most=MAX_NOTE, default="")
        given.done()
        return await self._move(deed, status, note)

    @mod_event_handler("project.archive")
    async def archive(self, event: Event) -> EventResponse:
        given = Given(event.payload)
        deed = self._deed(given, event)
        note = given.text("note", least=0, most=MAX_NOTE, default="")
        given.done()
        return await self._move(deed, "archived", note)

    async def _move(self, deed: Deed, status: str, note: str) -> EventResponse:
        project, former = self._projects.set_status(deed, status, note)
        await self._tell("status_set", deed, project, status=status, former=former, note=note)
        return EventResponse(True, f"Project {deed.project_id} was {former} and is now {status}.", project)

    # -- members

    @mod_event_handler("project.member.add")
    async def add_member(self, event: Event) -> EventResponse:
        given = Given(event.payload)
        deed = self._deed(given, event)
        agent_id = given.agent("agent_id")
        role = given.choice("role", ROLES, default="member")
        given.done()
        member = self._projects.add_member(deed, agent_id, role)
        if member["changed"]:
            await self._tell("member_added", deed, agent_id=agent_id, role=role)
        return EventResponse(True, f"{agent_id} is {role} of project {deed.project_id}.", member)

    @mod_event_handler("project.member.remove")
    async def remove_member(self, event: Event) -> EventResponse:
        given = Given(event.payload)
        deed = self._deed(given, event)
        agent_id = given.agent("agent_id")
        given.done()
        self._projects.remove_member(deed, agent_id)
        await self._tell("member_removed", deed, agent_id=agent_id)
        return EventResponse(True, f"{agent_id} left project {deed.project_id}.", {"agent_id": agent_id})

    @mod_event_handler("project.member.list")
    async def list_members(self, event: Event) -> EventResponse:
        given = Given(event.payload)
        project_id = _project_id(given)
        limit, after = read_limit(given), given.text("cursor", least=0, most=MAX_NAME, default="")
        given.done()
        self._projects.check_reader(project_id, actor(event))
        rows = self._projects.members(project_id, after, limit + 1)
        return list_answer("members", rows, limit, "agent_id")

    # -- goals

    @mod_event_handler("project.goal.add")
    async def add_goal(self, event: Event) -> EventResponse:
        given = Given(event.payload)
        deed = self._deed(given, event)
        text = given.text("text", most=MAX_GOAL)
        given.done()
        goal = self._projects.add_goal(deed, text)
        await self._tell("goal_added", deed, goal=goal)
        return EventResponse(True, f"Goal {goal['goal_id']} was added to project {deed.project_id}.", goal)

    @mod_event_handler("project.goal.update")
    async def update_goal(self, event: Event) -> EventResponse:
        given = Given(event.payload)
        deed = self._deed(given, event)
        goal_id = given.integer("goal_id", least=1, most=MAX_ID)
        text = given.text("text", most=MAX_GOAL, default=None)
        status = given.choice("status", GOAL_STATUSES, default=None)
        given.done()
        if text is None and status is None:
            raise Refused("status: missing; expected at least one of text, status", field="status")
        goal = self._projects.update_goal(deed, goal_id, text, status)
        await self._tell("goal_updated", deed, goal=goal)
        return EventResponse(True, f"Goal {goal_id} is {goal['status']}.", goal)

    @mod_event_handler("project.goal.list")
    async def list_goals(self, event: Event) -> EventResponse:
        given = Given(event.payload)
        project_id = _project_id(given)
        status = given.choice("status", GOAL_STATUSES, default=None)
        limit, after = read_limit(given), read_cursor(given)
        given.done()
        self._projects.check_reader(project_id, actor(event))
        rows = self._projects.goals(project_id, status, after, limit + 1)
        return list_answer("goals", rows, limit, "goal_id")

    # -- artifacts

    @mod_event_handler("project.artifact.put")
    async def put_artifact(self, event: Event) -> EventResponse:
        given = Given(event.payload)
        deed = self._deed(given, event)
        name = given.line("name", most=MAX_NAME)
        kind = given.line("kind", most=50, default="file")
        content = given.anything("content")
        base = given.integer("base_version", least=0, most=MAX_ID, default=None)
        given.done()
        artifact = self._artifacts.put(deed, name, kind, content, base)
        await self._tell("artifact_put", deed, artifact=artifact)
        return EventResponse(True, f"Artifact {name} is at version {artifact['version']}.", artifact)

    @mod_event_handler("project.artifact.get")
    async def get_artifact(self, event: Event) -> EventResponse:
        given = Given(event.payload)
        project_id = _project_id(given)
        name = given.line("name", most=MAX_NAME)
        version = given.integer("version", least=1, most=MAX_ID, default=None)
        given.done()
        self._projects.check_reader(project_id, actor(event))
        artifact = self._artifacts.get(project_id, name, version)
        return EventResponse(True, f"Artifact {name}, version {artifact['version']}.", artifact)

    @mod_event_handler("project.artifact.list")
    async def list_artifacts(self, event: Event) -> EventResponse:
        given = Given(event.payload)
        project_id = _project_id(given)
        limit, after = read_limit(given), given.text("cursor", least=0, most=MAX_NAME, default="")
        given.done()
        self._projects.check_reader(project_id, actor(event))
        rows = self._artifacts.list(project_id, after, limit + 1)
        return list_answer("artifacts", rows, limit, "name")

    @mod_event_handler("project.artifact.delete")
    async def delete_artifact(self, event: Event) -> EventResponse:
        given = Given(event.payload)
        deed = self._deed(given, event)
        name = given.line("name", most=MAX_NAME)
        given.done()
        self._artifacts.delete(deed, name)
        await self._tell("artifact_deleted", deed, name=name)
        return EventResponse(True, f"Artifact {name} was deleted with all its versions.", {"name": name})

    # -- commits and activity

    @mod_event_handler("project.commit.add")
    async def add_commit(self, event: Event) -> EventResponse:
        given = Given(event.payload)
        deed = self._deed(given, event)
        sha = given.line("sha", most=MAX_SHA)
        author = given.line("author", most=MAX_NAME)
        timestamp = given.number("timestamp", least=-MAX_TIME, most=MAX_TIME)
        message = given.text("message", least=0, most=MAX_MESSAGE, default="")
        files = given.texts("files", items=MAX_FILES, most=MAX_FILE, default=[])
        given.done()
        commit, new = self._commits.add(deed, sha, author, timestamp, message, files)
        if new:
            told = {name: commit[name] for name in ("sha", "author", "timestamp")}
            await self._tell("commit_added", deed, commit={**told, "message": commit["message"][:MAX_NOTE]})
        message = f"Commit {sha[:12]} was added." if new else f"Commit {sha[:12]} is already known."
        return EventResponse(True, message, {"sha": sha, "new": new})

    @mod_event_handler("project.commit.list")
    async def list_commits(self, event: Event) -> EventResponse:
        given = Given(event.payload)
        project_id = _project_id(given)
        limit, before = read_limit(given), read_cursor(given)
        given.done()
        self._projects.check_reader(project_id, actor(event))
        rows = self._commits.list(project_id, before, limit + 1)
        return list_answer("commits", rows, limit, "id", size=size_of_commit)

    @mod_event_handler("project.activity.list")
    async def list_activity(self, event: Event) -> EventResponse:
        given = Given(event.payload)
        project_id = _project_id(given)
        limit, before = read_limit(given), read_cursor(given)
        given.done()
        self._projects.check_reader(project_id, actor(event))
        rows = self._projects.activity(project_id, before, limit + 1)
        return list_answer("activity", rows, limit, "id", "changes")

    # -- inside

    def _deed(self, given: Given, event: Event) -> Deed:
        return Deed(_project_id(given), actor(event), self.clock())

    async def _tell(self, what: str, deed: Deed, project: dict[str, Any] | None = None, **details: Any) -> None:
        """Announce a change. Only members may see a private project's announcements."""
        project = project or self._projects.head(deed.project_id)
        told = {"project_id": project["project_id"], "name": project["name"], "actor": deed.actor, "at": deed.at}
        only = None
        if project["private"]:
            only = [member["agent_id"] for member in self._projects.members(project["project_id"])]
        await self.announce.send(f"project.change.{what}", told | details, only=only)


def _project_id(given: Given) -> str:
    return check_project_id(given.line("project_id", most=MAX_PROJECT_ID))
