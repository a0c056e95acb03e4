"""What a network has left: crashes, dead letters and figures, read while it is down, and after its next start."""

from __future__ import annotations

import signal
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from modvisor.supervisor.journal import JournalAtRest

from .conftest import DEADLINE, Command, Running, Served

FRAGILE = """
    import os
    from modvisor.mods import BaseMod, EventResponse, mod_event_handler

    class Fragile(BaseMod):
        version = "1.0"

        @mod_event_handler("work.die")
        async def die(self, event):
            print("last words", flush=True)
            os._exit(3)

        @mod_event_handler("work.ok")
        async def ok(self, event):
            return EventResponse(True)
"""
NETWORK = """
network: {name: demo, port: 0}
journal: {stats_every: 50ms}
mods:
  - path: ./fragile
    id: work
    max_attempts: 1
    restart: {first_delay: 1ms, max_delay: 1ms, max_restarts: 100}
  - path: ./hopeless
    restart: {first_delay: 1ms, max_delay: 1ms, max_restarts: 2}
"""
HOPELESS = """
    import os, threading
    from modvisor.mods import BaseMod

    class Hopeless(BaseMod):
        def activate(self):
            threading.Timer(0.01, os._exit, [7]).start()
"""
PAYLOAD = "a payload that no list shows"


@pytest.fixture
def folder(write_mod: Callable[..., str], tmp_path: Path) -> Path:
    write_mod("fragile", FRAGILE)
    write_mod("hopeless", HOPELESS)
    return tmp_path


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def quarantined(cli: Command) -> bool:
    return cli.json("stats")["mods"]["hopeless"]["state"] == "quarantined"


def last_crashes(folder: Path) -> int:
    """The crashes in the figures that the network has kept so far."""
    with JournalAtRest(folder / ".modvisor" / "network.db") as journal:
        kept = journal.last_stats()
    return 0 if kept is None else kept[1]["mods"]["work"]["crashes"]


def harm(cli: Command) -> None:
    assert cli.json("send", "work.ok", "{}")["success"]
    answer = cli.json("send", "work.die", f'{{"text": "{PAYLOAD}"}}', "--as", "agent:ann", code=1)
    assert answer["data"]["error"] == "dead_lettered"
    until(lambda: quarantined(cli))


def check_what_is_left(cli: Command) -> None:
    crashes = cli.json("crashes")["crashes"]
    assert {report["mod_id"] for report in crashes} == {"work", "hopeless"}
    [of_work] = cli.json("crashes", "work")["crashes"]
    assert (of_work["detail"], of_work["in_flight"][0]["event_name"]) == ("exit code 3", "work.die")
    assert any("last words" in line for line in of_work["log"])
    assert len(cli.json("crashes", "./hopeless")["crashes"]) == 3
    assert "this is what the last one left" in cli("crashes").output
    [letter] = cli.json("dlq", "ls")["dead_letters"]
    assert letter["mod_id"] == "work"
    assert cli.json("dlq", "ls", "hopeless")["dead_letters"] == []
    assert cli.json("dlq", "show", str(letter["letter_id"]))["event"]["payload"] == {"text": PAYLOAD}
    assert PAYLOAD not in cli.ok("crashes") + cli.ok("dlq", "ls") + cli.ok("stats", "--last")
    stats = cli.json("stats", "--last")
    assert not stats["is_running"]
    assert stats["mods"]["work"]["crashes"] == 1
    assert stats["mods"]["hopeless"]["state"] == "quarantined"
    assert "3 times" in cli.ok("stats", "hopeless", "--last")
    assert "modvisor stats --last" in cli("stats").output


def test_what_a_stopped_network_left_is_read_without_it_and_is_there_after_its_next_start(
    folder: Path, serve: Callable[..., Served], cli: Command
) -> None:
    served = serve(NETWORK)
    harm(cli)
    served.stop()
    before = (folder / ".modvisor" / "network.db").read_bytes()
    check_what_is_left(cli)
    assert (folder / ".modvisor" / "network.db").read_bytes() == before
    again = serve(NETWORK)
    [of_work] = cli.json("crashes", "work")["crashes"]
    assert of_work["detail"] == "exit code 3"
    stats = cli.json("stats")["mods"]["hopeless"]
    assert (stats["state"], stats["crashes"]) == ("quarantined", 0)
    assert stats["last_crash"]["detail"] == "exit code 7"
    assert cli("restart", "hopeless").exit_code in (0, 1)
    until(lambda: quarantined(cli))
    assert len(cli.json("crashes", "hopeless")["crashes"]) > 3
    again.stop()
    assert len(cli.json("crashes", "hopeless")["crashes"]) > 3


@pytest.mark.slow
def test_what_a_killed_network_left_is_read_without_it(
    folder: Path, start: Callable[..., Running], cli: Command
) -> None:
    running = start(network=NETWORK)
    harm(cli)
    until(lambda: last_crashes(folder) == 1)
    running.end(signal.SIGKILL)
    check_what_is_left(cli)


def test_without_a_journal_or_with_a_damaged_one_the_command_says_so(
    folder: Path, serve: Callable[..., Served], cli: Command
) -> None:
    (folder / "network.yaml").write_text(NETWORK)
    assert "no network is running" in cli("crashes").output
    assert cli("dlq", "ls").exit_code == 3
    file = folder / ".modvisor" / "network.db"
    file.parent.mkdir()
    file.write_bytes(b"this is no database" * 100)
    result = cli("crashes")
    assert result.exit_code == 1
    assert "mends a damaged journal" in result.output
    file.unlink()
    with closing(sqlite3.connect(file)) as earlier:
        earlier.execute("CREATE TABLE family (name)")  # of an earlier modvisor, without crash reports
    assert cli.json("crashes")["crashes"] == []
    assert "left no figures" in cli("stats", "--last").output
