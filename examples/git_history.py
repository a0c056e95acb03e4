"""Turn the history of any git repository into a stream of events for a modvisor network.

    python examples/git_history.py [REPOSITORY] [--limit N] > history.jsonl
    modvisor replay history.jsonl

Each author becomes an agent. Each commit goes to the project mod, and is announced in the channel
``commits`` of the messaging mod. Each top-level folder gets a page in the wiki, which is edited
when a commit touches the folder. The output has one event per line.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

CHANNEL = "commits"
_FIELDS = "%H%x1f%an%x1f%at%x1f%s"


@dataclass
class Commit:
    sha: str
    author: str
    timestamp: int
    subject: str
    files: list[str] = field(default_factory=list)

    @property
    def folders(self) -> list[str]:
        """The top-level folders that the commit touched; ``root`` stands for files in no folder."""
        return sorted({path.split("/", 1)[0] if "/" in path else "root" for path in self.files})


def read_commits(repository: Path, limit: int | None = None) -> Iterator[Commit]:
    """Yield the commits, oldest first, each with the files that it changed."""
    command = [
        "git",
        "-C",
        str(repository),
        "log",
        "--reverse",
        "--name-only",
        "--no-merges",
        "-z",
        f"--format=%x1e{_FIELDS}",
    ]
    done = subprocess.run(command, capture_output=True, check=False)
    if done.returncode:
        raise SystemExit(f"git log failed in {repository}: {done.stderr.decode(errors='replace').strip()}")
    records = [record for record in done.stdout.decode(errors="replace").split("\x1e") if record.strip("\0\n")]
    for record in records[-limit:] if limit else records:
        head, _, files = record.partition("\0")
        sha, author, timestamp, subject = head.strip("\n").split("\x1f")
        names = [name for name in files.replace("\n", "\0").split("\0") if name]
        yield Commit(sha, author, int(timestamp), subject, names)


def agent_id_of(author: str) -> str:
    """Make an agent id of an author's name: ``Ada Lovelace`` becomes ``ada.lovelace``."""
    return re.sub(r"[^a-z0-9]+", ".", author.lower()).strip(".")[:64] or "somebody"


def page_of(folder: str) -> str:
    """Return the wiki path of a folder."""
    return "folders/" + (re.sub(r"[^A-Za-z0-9_-]+", "-", folder).strip("-") or "other")


def events_of(commits: list[Commit], project: str, after: str | None = None) -> Iterator[dict[str, Any]]:
    """Yield the whole stream: agents, a project, a channel, then the events of each commit.

    Args:
        after: the last commit of an earlier stream. Only later commits get events, and pages are
            edited instead of created.
    """
    authors = {commit.author: agent_id_of(commit.author) for commit in commits}
    known = next((index + 1 for index, commit in enumerate(commits) if commit.sha == after), 0)
    for author, agent in sorted(authors.items()):
        yield event("system.register_agent", agent, {"agent_id": agent, "metadata": {"name": author}})
    first = authors[commits[0].author]
    if not known:
        yield event(
            "project.create", first, {"project_id": project, "name": project, "description": "from its git history"}
        )
        yield event("messaging.channel.create", first, {"channel": CHANNEL, "topic": "one message per commit"})
    for agent in sorted({agent for agent in authors.values() if agent != first}):
        yield event("project.member.add", first, {"project_id": project, "agent_id": agent})
        yield event("messaging.channel.join", agent, {"channel": CHANNEL})
    pages: dict[str, list[str]] = {}
    for index, commit in enumerate(commits):
        edits = [page_event(pages, folder, commit, authors[commit.author]) for folder in commit.folders]
        if index >= known:
            yield from commit_events(commit, authors[commit.author], project)
            yield from edits


def commit_events(commit: Commit, agent: str, project: str) -> Iterator[dict[str, Any]]:
    """Yield a commit's events for the project mod and the messaging mod."""
    yield event("project.commit.add", agent, {
        "project_id": project, "sha": commit.sha, "author": commit.author, "timestamp": commit.timestamp,
        "message": commit.subject[:1000], "files": commit.files[:500],
    }, "commit-" + commit.sha)  # fmt: skip
    text = f"{commit.sha[:10]} {commit.subject[:500]} ({len(commit.files)} files)"
    yield event("messaging.message.send", agent, {"channel": CHANNEL, "text": text}, "message-" + commit.sha)


def page_event(pages: dict[str, list[str]], folder: str, commit: Commit, agent: str) -> dict[str, Any]:
    """Return the event that creates a folder's page, or edits the page that exists."""
    path = page_of(folder)
    new = path not in pages
    lines = pages.setdefault(path, [])
    lines.insert(0, f"- {commit.sha[:10]} {commit.subject}")
    del lines[200:]
    content = f"# {folder}\n\nNewest changes first.\n\n" + "\n".join(lines)
    event_id = f"page-{commit.sha}-{path}"
    if new:
        return event("wiki.page.create", agent, {"path": path, "title": folder, "content": content}, event_id)
    return event("wiki.page.edit", agent, {"path": path, "content": content, "summary": commit.subject[:200]}, event_id)


def event(name: str, agent: str, payload: dict[str, Any], event_id: str | None = None) -> dict[str, Any]:
    """Return an event. With ids from the history, a second replay changes nothing."""
    made: dict[str, Any] = {"event_name": name, "source_id": f"agent:{agent}", "payload": payload}
    if event_id is not None:
        made["event_id"] = event_id
    return made


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("repository", nargs="?", default=".", type=Path)
    parser.add_argument("--limit", type=int, help="only the newest N commits")
    parser.add_argument("--after", metavar="SHA", help="only commits after this one; all commits if it is unknown")
    parser.add_argument("--project", help="the project's id (default: the folder's name)")
    options = parser.parse_args(arguments)
    project = options.project or agent_id_of(options.repository.resolve().name)
    commits = list(read_commits(options.repository, options.limit))
    if not commits:
        raise SystemExit(f"{options.repository} has no commits yet; make one, or name another repository")
    for made in events_of(commits, project, options.after):
        sys.stdout.write(json.dumps(made, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    try:
        main()
    except BrokenPipeError:  # the reader closed the pipe
        sys.stderr.close()
