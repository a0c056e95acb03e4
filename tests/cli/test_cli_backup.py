"""``modvisor backup``: of a network that runs, and of one that does not, and how a copy is put back."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import stat
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from modvisor.supervisor.journal.state_dir import StateDir

from .conftest import NETWORK, Command, Running, Served

Start = Callable[..., Running]
Serve = Callable[..., Served]


def register(cli: Command, agent_id: str) -> None:
    cli.ok("send", "system.register_agent", f'{{"agent_id": "{agent_id}"}}', "--as", f"agent:{agent_id}")


def agents_in(file: Path) -> list[str]:
    with closing(sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro&immutable=1", uri=True)) as database:
        assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        return [row[0] for row in database.execute("SELECT agent_id FROM agent ORDER BY agent_id")]


def test_a_running_network_copies_its_journal_to_where_we_are(
    served: Served, cli: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    register(cli, "ann")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    file = ("-f", "../network.yaml")
    assert cli.ok("backup", "copy.db", *file).startswith(f"the journal was copied to {tmp_path}/here/copy.db (")
    copy = tmp_path / "here" / "copy.db"
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    assert agents_in(copy) == ["ann"]
    register_more = cli("send", "system.register_agent", '{"agent_id": "bob"}', "--as", "agent:bob", *file)
    assert register_more.exit_code == 0
    document = cli.json("backup", "../here/copy.db", *file)
    assert document["data"] == {"path": str(copy), "bytes": copy.stat().st_size, "by": "network"}
    assert agents_in(copy) == ["ann", "bob"], "the former copy was replaced"
    assert [found.name for found in copy.parent.iterdir()] == ["copy.db"]


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGKILL])
def test_the_journal_of_a_network_that_is_down(
    running: Running, cli: Command, start: Start, tmp_path: Path, signum: int
) -> None:
    register(cli, "ann")
    running.end(signum)
    result = cli("backup", "copy.db")
    assert result.exit_code == 0
    assert result.stderr == "no network is running for network.yaml; this is the journal it left\n"
    assert agents_in(tmp_path / "copy.db") == ["ann"]
    assert cli.json("backup", "copy.db")["data"]["by"] == "command"
    start(network=None)
    assert cli.json("ps")["mods"], "it starts again: nothing is left locked"


def test_a_copy_is_put_back(served: Served, cli: Command, serve: Serve, tmp_path: Path) -> None:
    """As docs/cli.md tells."""
    register(cli, "ann")
    cli.ok("load", "./echo", "--id", "second")
    cli.ok("backup", "copy.db")
    cli.ok("unload", "second")
    served.stop()
    for name in ("network.db", "network.db-wal", "network.db-shm"):
        (tmp_path / ".modvisor" / name).unlink(missing_ok=True)
    shutil.copy(tmp_path / "copy.db", tmp_path / ".modvisor" / "network.db")
    serve(network=None)
    assert [mod["mod_id"] for mod in cli.json("ps")["mods"]] == ["echo", "second"]
    assert cli.json("send", "system.list_agents")["data"]["agents"][0]["agent_id"] == "ann"


def test_the_command_puts_a_copy_back_and_keeps_the_former_journal(
    served: Served, cli: Command, serve: Serve, tmp_path: Path
) -> None:
    register(cli, "ann")
    cli.ok("backup", "copy.db")
    register(cli, "bob")
    running = cli("restore", "copy.db")
    assert (running.exit_code, "'modvisor stop' stops it" in running.stderr) == (7, True)
    served.stop()
    done = cli.json("restore", "copy.db")["data"]
    assert agents_in(Path(done["path"])) == ["ann"]
    assert agents_in(Path(done["replaced"])) == ["ann", "bob"]
    assert stat.S_IMODE(Path(done["path"]).stat().st_mode) == 0o600
    serve(network=None)
    assert cli.json("send", "system.list_agents")["data"]["agents"][0]["agent_id"] == "ann"


def test_what_is_put_back_is_audited_and_the_audit_is_sound_at_the_next_start(
    served: Served, cli: Command, serve: Serve, tmp_path: Path
) -> None:
    cli.ok("backup", "copy.db")
    cli.ok("unload", "echo")
    served.stop()
    cli.ok("restore", "copy.db")
    serve(network=None).stop()
    records = cli.json("audit", "show", "--what", "journal.restore")["records"]
    assert [(each["on"], each["outcome"]) for each in records] == [
        (str(tmp_path / "copy.db"), "asked"),
        (str(tmp_path / "copy.db"), "ok"),
    ]
    assert records[0]["who"].startswith(f"command:uid {os.getuid()} ")
    assert cli.json("audit", "verify")["success"]


def test_what_cannot_be_audited_is_not_put_back(served: Served, cli: Command, tmp_path: Path) -> None:
    register(cli, "ann")
    cli.ok("backup", "copy.db")
    register(cli, "bob")
    served.stop()
    audit = tmp_path / ".modvisor" / "audit"
    audit.rename(audit.with_name("elsewhere"))
    audit.write_text("")
    result = cli("restore", "copy.db")
    assert result.exit_code == 1
    assert "the audit cannot be written" in result.stderr
    assert agents_in(tmp_path / ".modvisor" / "network.db") == ["ann", "bob"]


def test_a_copy_is_put_into_a_state_directory_that_is_not_there_yet(
    served: Served, cli: Command, tmp_path: Path
) -> None:
    register(cli, "ann")
    cli.ok("backup", "copy.db")
    served.stop()
    shutil.rmtree(tmp_path / ".modvisor")
    assert cli.json("restore", "copy.db")["data"]["replaced"] is None
    assert agents_in(tmp_path / ".modvisor" / "network.db") == ["ann"]


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "it is empty, and no journal"),
        (b"no database" * 100, "file is not a database"),
        (None, "a later modvisor wrote it"),
    ],
)
def test_what_is_no_journal_is_not_put_back(
    content: bytes | None, why: str, served: Served, cli: Command, tmp_path: Path
) -> None:
    register(cli, "ann")
    cli.ok("backup", "copy.db")
    served.stop()
    if content is None:
        with closing(sqlite3.connect(tmp_path / "copy.db")) as database:
            database.execute("PRAGMA user_version = 9000")
    else:
        (tmp_path / "copy.db").write_bytes(content)
    result = cli("restore", "copy.db")
    assert result.exit_code == 1
    assert why in result.stderr
    assert agents_in(tmp_path / ".modvisor" / "network.db") == ["ann"]
    assert not list((tmp_path / ".modvisor").glob("*.part"))


def test_a_copy_is_put_back_in_the_place_of_a_damaged_journal(served: Served, cli: Command, tmp_path: Path) -> None:
    register(cli, "ann")
    cli.ok("backup", "copy.db")
    served.stop()
    (tmp_path / ".modvisor" / "network.db").write_bytes(b"torn" * 5000)
    done = cli.json("restore", "copy.db")["data"]
    assert agents_in(Path(done["path"])) == ["ann"]
    assert Path(done["replaced"]).read_bytes() == b"torn" * 5000


def test_a_copy_that_is_not_there_and_a_network_elsewhere(cli: Command, tmp_path: Path) -> None:
    (tmp_path / "network.yaml").write_text(NETWORK)
    assert cli("restore", "copy.db").stderr.strip() == "error: there is no file copy.db"
    assert cli("restore", "copy.db", "--url", "http://127.0.0.1:1").exit_code == 2


def test_over_http_the_path_is_the_networks(serve: Serve, cli: Command, tmp_path: Path) -> None:
    served = serve(network=NETWORK + "admin: {token: a-token-of-some-length}\n")
    over = ("--url", served.url, "--token", "a-token-of-some-length")
    result = cli("backup", "copy.db", *over)
    assert result.exit_code == 2
    assert "with --url the network writes it on its own machine; give an absolute path there" in result.stderr
    assert cli.json("backup", str(tmp_path / "copy.db"), *over)["data"]["by"] == "network"
    assert agents_in(tmp_path / "copy.db") == []
    served.stop()
    assert cli("backup", str(tmp_path / "copy.db"), *over).exit_code == 3


@pytest.mark.parametrize("is_running", [True, False])
def test_what_cannot_be_written_is_named_and_nothing_is_lost(
    served: Served, cli: Command, tmp_path: Path, is_running: bool
) -> None:
    if not is_running:
        served.stop()
    for target, why in {
        "network.yaml": "network.yaml is there and is no copy of a journal; name another file, or remove it",
        "missing/copy.db": "missing/copy.db cannot be written: No such file or directory",
        ".modvisor/network.db": "network.db is the journal itself; name another file",
    }.items():
        result = cli("backup", target)
        assert result.exit_code == 1
        assert why in result.stderr
    assert (tmp_path / "network.yaml").read_text() == NETWORK


def test_there_is_nothing_to_copy(cli: Command, tmp_path: Path) -> None:
    assert cli.json("backup", "copy.db", code=3)["data"]["error"] == "no_network"
    (tmp_path / "network.yaml").write_text(NETWORK)
    result = cli("backup", "copy.db")
    assert result.exit_code == 3
    assert f"and none has left a journal at {tmp_path}/.modvisor/network.db" in result.stderr
    assert not (tmp_path / ".modvisor").exists()


def test_a_network_without_an_admin_api_is_left_alone(served: Served, cli: Command, tmp_path: Path) -> None:
    """Such as one that a program runs: this process owns the state directory meanwhile."""
    served.stop()
    state = StateDir(tmp_path / ".modvisor")
    state.acquire()
    try:
        result = cli("backup", "copy.db")
    finally:
        state.release()
    assert result.exit_code == 7
    assert "belongs to a running network" in result.stderr
    assert "await network.backup(path)" in result.stderr
    assert not (tmp_path / "copy.db").exists()


def test_a_journal_that_is_no_database(served: Served, cli: Command, tmp_path: Path) -> None:
    served.stop()
    (tmp_path / ".modvisor" / "network.db").write_bytes(b"no database" * 1000)
    result = cli("backup", "copy.db")
    assert result.exit_code == 1
    assert "network.db could not be copied: file is not a database" in result.stderr
    assert not list(tmp_path.glob("*copy.db*"))
