"""The example turns any repository's history into events that the four bundled mods take."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections import Counter
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from modvisor import AgentNetwork, Event

pytestmark = pytest.mark.anyio

ROOT = Path(__file__).parent.parent
MODS = [f"modvisor.mods.workspace.{name}" for name in ("wiki", "project", "messaging", "analytics")]


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """Three commits of two authors, with names that are hard to handle."""
    folder = tmp_path / "a repository"
    folder.mkdir()

    def git(*words: str, author: str = "Ada Lovelace") -> None:
        identity = ["-c", f"user.name={author}", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false"]
        subprocess.run(["git", *identity, *words], cwd=folder, check=True, capture_output=True, timeout=30)

    def commit(message: str, author: str, *files: str) -> None:
        for name in files:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(message)
        git("add", "-A")
        git("commit", "-m", message, author=author)

    git("init", "-q")
    commit("First: add 'things'", "Ada Lovelace", "README.md", "src/ein schöner name.py")
    commit("Second\n\nwith a body\nof two lines", "Ölaf Øst", "src/b.py", "docs/a.md")
    commit("Third", "Ada Lovelace", "docs/b.md")
    return folder


def history(repository: Path, *options: str) -> list[dict]:
    command = [sys.executable, str(ROOT / "examples" / "git_history.py"), str(repository), *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    return [json.loads(line) for line in done.stdout.splitlines()]


async def test_a_history_goes_through_all_four_mods(
    repository: Path, make_network, tmp_path: Path
) -> None:  # fmt: skip
    network: AgentNetwork = make_network(mods=MODS)
    await network.initialize()
    outcomes: Counter[str | None] = Counter()
    for data in history(repository, "--project", "demo"):
        response = await network.process_event(Event.from_dict(data))
        outcomes[response.error] += 1
        assert response.success, response
    assert outcomes.keys() == {None}

    async def ask(name: str, **payload: object) -> dict:
        response = await network.process_event(Event(name, "agent:reader", payload=payload))
        assert response.success, response
        return response.data

    pages = await ask("wiki.page.list")
    assert [page["path"] for page in pages["pages"]] == ["folders/docs", "folders/root", "folders/src"]
    source = await ask("wiki.page.get", path="folders/src")
    assert source["revision"] == 2
    assert "Second" in source["content"]
    commits = await ask("project.commit.list", project_id="demo")
    assert [commit["message"] for commit in commits["commits"]] == ["Third", "Second", "First: add 'things'"]
    assert "src/ein schöner name.py" in commits["commits"][2]["files"]
    messages = await ask("messaging.channel.history", channel="commits")
    assert len(messages["messages"]) == 3
    delivered = [event.event_name for event in await network.poll_events("ada.lovelace")]
    assert delivered == ["messaging.delivery.posted"], "the other author's commit, not her own"


def commits_in(events: list[dict]) -> list[str]:
    return [event["payload"]["sha"] for event in events if event["event_name"] == "project.commit.add"]


def test_a_limit_keeps_the_newest(repository: Path) -> None:
    assert commits_in(history(repository, "--limit", "2")) == commits_in(history(repository))[1:]


def test_a_stream_goes_on_where_the_former_one_ended(repository: Path) -> None:
    _, second, third = commits_in(history(repository))
    later = history(repository, "--after", second)
    assert commits_in(later) == [third]
    assert {event["event_name"] for event in later} & {"project.create", "wiki.page.create"} == set()
    (edit,) = [event for event in later if event["event_name"] == "wiki.page.edit"]
    assert "Second" in edit["payload"]["content"], "the whole page, what was told before included"
    assert len(commits_in(history(repository, "--after", "0" * 40))) == 3


def test_a_folder_that_is_no_repository_is_named(tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "examples" / "git_history.py"), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert f"git log failed in {tmp_path}" in done.stderr


@pytest.mark.slow
def test_the_tour_that_is_ended_ends_its_network(tmp_path: Path) -> None:
    folder, repository = tmp_path / "examples", tmp_path / "repository"
    shutil.copytree(ROOT / "examples", folder, ignore=shutil.ignore_patterns(".modvisor"))
    repository.mkdir()
    identity = ["-c", "user.name=Ada", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false"]
    for words in (["init", "-q"], ["commit", "-q", "--allow-empty", "-m", "First"]):
        subprocess.run(["git", *identity, *words], cwd=repository, check=True, timeout=30)
    command = [sys.executable, str(folder / "run.py"), str(repository), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True) as tour:
        started: list[psutil.Process] = []
        try:
            assert tour.stdout is not None
            for line in tour.stdout:
                if "serving;" in line:
                    break
            started = psutil.Process(tour.pid).children(recursive=True)
            assert any("modvisor" in process.cmdline() for process in started)
            os.killpg(tour.pid, signal.SIGTERM)  # as a terminal or a service manager does: to the network, too
            rest = tour.stdout.read()
            assert tour.wait(30) == 128 + signal.SIGTERM
            assert rest.splitlines()[-1] == "stopped", "it was to end in order, not to be killed"
            assert not any(process.is_running() for process in started), "something of it is left"
        finally:
            tour.kill()
            for process in started:
                with suppress(psutil.NoSuchProcess):
                    process.kill()
