"""Dead letters on the command line: of a mod in a real network that kills itself on an event."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from modvisor.ipc.event import Event
from modvisor.ipc.messages import pack
from modvisor.supervisor.cli.commands.dlq import PAGE
from tests import warm

from .conftest import COMMAND, DEADLINE, Command, Served, Shell

Serve = Callable[..., Served]

FRAGILE = """
    import asyncio
    import os
    from modvisor.mods import BaseMod, EventResponse, mod_event_handler

    class Fragile(BaseMod):
        version = "1.0"

        @mod_event_handler("work.do")
        async def do(self, event):
            if event.payload.get("poison"):
                os._exit(3)
            while not os.path.exists(event.payload.get("until", "/")):
                await asyncio.sleep(0.005)
            return EventResponse(True, f"done {event.payload['n']}")
"""
MENDED = FRAGILE.replace("os._exit(3)", "pass")
NETWORK = """
network: {name: demo, port: 0}
mods:
  - path: ./fragile
    id: work
    max_attempts: 1
    restart: {first_delay: 10ms, max_delay: 20ms, max_restarts: 100}
"""


@pytest.fixture
def fragile(serve: Serve, write_mod: Callable[..., str]) -> Served:
    """A network whose mod ``work`` dies of events with ``poison`` in their payload."""
    write_mod("fragile", FRAGILE)
    return serve(network=NETWORK)


@pytest.fixture
def die(fragile: Served, cli: Command) -> Callable[..., int]:
    """Send an event that the mod dies of; the number of its letter."""

    def die(n: int, **payload: object) -> int:
        event = json.dumps({"n": n, "poison": True, **payload})
        answer = cli.json("send", "work.do", event, "--as", "agent:ann", code=1)
        assert answer["data"]["error"] == "dead_lettered", answer
        return answer["data"]["dead_letter"]

    return die


def ids(cli: Command, *args: str) -> list[int]:
    return [letter["letter_id"] for letter in cli.json("dlq", "ls", *args)["dead_letters"]]


def bury(folder: Path, count: int) -> None:
    """Letters of a mod that is not loaded any more, put where a network finds them that starts."""
    event = Event("old.work.do", "agent:ann", payload={"n": 1}).to_dict()
    row = ("old", time.time(), 2, "dead_lettered", "it ended", 100, pack(event), None)
    with closing(sqlite3.connect(folder / ".modvisor" / "network.db")) as database, database:
        database.executemany(
            "INSERT INTO dead_letter (mod_id, at, attempts, code, reason, size, event, report) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            [row] * count,
        )


def test_letters_are_listed_and_shown(cli: Command, die: Callable[..., int]) -> None:
    assert cli.ok("dlq", "ls") == "no dead letters\n"
    first, second = die(1), die(2, note="\x1b[31mred")
    header, *lines = cli.ok("dlq", "ls").splitlines()
    assert header.split() == ["ID", "GIVEN", "UP", "MOD", "EVENT", "FROM", "ATTEMPTS", "WHY"]
    assert [line.split()[0] for line in lines] == [str(second), str(first)]
    assert lines[0].split()[3:] == ["work", "work.do", "agent:ann", "1", "exit", "code", "3"]
    text = cli.ok("dlq", "show", str(second))
    assert f"{second} of mod work" in text
    assert '"n": 2' in text
    assert r"\u001b[31mred" in text
    assert "was handling work.do from agent:ann" in text
    letter = cli.json("dlq", "show", str(second))
    assert letter["event"]["payload"] == {"n": 2, "poison": True, "note": "\x1b[31mred"}
    assert letter["report"]["detail"] == "exit code 3"


def test_a_mod_that_is_not_there_is_named_with_the_one_that_was_meant(fragile: Served, cli: Command) -> None:
    assert "no mod" not in cli("dlq", "ls", "work").stderr
    missed = cli("dlq", "ls", "wrk")
    assert (missed.exit_code, missed.stdout) == (0, "no dead letters of mod wrk\n")
    assert missed.stderr == "no mod 'wrk' is loaded; did you mean 'work'?\n"


def test_a_list_has_pages(cli: Command, die: Callable[..., int]) -> None:
    newest = [die(n) for n in range(3)][::-1]
    page = cli.json("dlq", "ls", "--limit", "2")
    assert [letter["letter_id"] for letter in page["dead_letters"]] == newest[:2]
    assert page["next"] == newest[1]
    assert ids(cli, "--before", str(page["next"])) == newest[2:]
    result = cli("dlq", "ls", "work", "-n", "2")
    assert result.stderr == f"there are older ones: modvisor dlq ls work --before {newest[1]}\n"
    assert len(result.stdout.splitlines()) == 3


def test_letters_of_a_mod_that_is_not_loaded(cli: Command, die: Callable[..., int]) -> None:
    letter_id = die(1)
    cli.ok("unload", "work")
    assert ids(cli, "work") == [letter_id]
    assert cli.ok("dlq", "ls", "other") == "no dead letters of mod other\n"
    result = cli("dlq", "replay", str(letter_id))
    assert result.exit_code == 1
    assert result.stdout.splitlines() == [
        f"{letter_id}  -  no_such_mod: dead letter {letter_id} is for mod work, which is not loaded; load it first",
        "0 of 1 done; failed: 1 no_such_mod",
    ]
    assert ids(cli) == [letter_id]


def test_a_replay_says_what_became_of_each(
    cli: Command, die: Callable[..., int], write_mod: Callable[..., str]
) -> None:
    letters = [die(n) for n in range(3)]
    document = cli.json("dlq", "replay", str(letters[0]), "999", code=1)
    killed, missing = document.pop("outcomes")
    assert document == {"success": False, "letters": 2, "done": 0, "failed": {"dead_lettered": 1, "not_found": 1}}
    assert (killed["letter_id"], killed["error"]) == (letters[0], "dead_lettered")
    assert killed["dead_letter"] == letters[2] + 1, "it is a new letter in place of the former"
    assert (missing["letter_id"], missing["error"], missing["dead_letter"]) == (999, "not_found", None)
    write_mod("fragile", MENDED)
    cli.ok("reload", "work")
    assert (
        cli.ok("dlq", "replay", str(letters[1]), str(letters[1])) == f"{letters[1]}  work.do  ok: done 1\n1 of 1 done\n"
    )
    document = cli.json("dlq", "replay", "--all", "./fragile")
    assert (document["success"], document["letters"], document["done"], document["failed"]) == (True, 2, 2, {})
    assert [outcome["letter_id"] for outcome in document["outcomes"]] == [letters[2], killed["dead_letter"]], (
        "oldest first"
    )
    assert cli.ok("dlq", "replay", "--all") == "no dead letters to replay\n"
    assert ids(cli) == []


def test_a_replay_of_all_does_not_meet_the_letters_it_makes(cli: Command, die: Callable[..., int]) -> None:
    letters = [die(n) for n in range(3)]
    document = cli.json("dlq", "replay", "--all", code=1)
    assert [outcome["letter_id"] for outcome in document["outcomes"]] == letters
    assert ids(cli) == [outcome["dead_letter"] for outcome in reversed(document["outcomes"])]


def test_a_replay_that_is_interrupted_says_what_it_has_done(
    fragile: Served, cli: Command, die: Callable[..., int], write_mod: Callable[..., str], tmp_path: Path
) -> None:
    quick, slow = die(1), die(2, until=str(tmp_path / "morning"))
    write_mod("fragile", MENDED)
    cli.ok("reload", "work")
    with warm.Popen([*COMMAND, "--json", "dlq", "replay", "--all"], stdout=subprocess.PIPE) as replaying:
        try:
            while ids(cli) != [slow] or cli.json("stats", "work")["traffic"]["in_flight"] == 0:  # in this order
                assert replaying.poll() is None
            replaying.send_signal(signal.SIGINT)
            out, _ = replaying.communicate(timeout=DEADLINE)
        finally:
            replaying.kill()
    assert replaying.returncode == 5
    document = json.loads(out)
    assert (document["success"], document["data"], document["done"]) == (False, {"error": "interrupted"}, 1)
    assert [outcome["letter_id"] for outcome in document["outcomes"]] == [quick]
    (tmp_path / "morning").touch()  # the network finishes what was begun
    while ids(cli):
        pass


@pytest.mark.slow
def test_ten_thousand_letters_are_listed_and_purged(fragile: Served, cli: Command, serve: Serve) -> None:
    fragile.stop()
    bury(fragile.folder, 10_000)
    serve(network=None)
    assert len(set(ids(cli, "--limit", "20000"))) == 10_000
    assert cli.json("dlq", "replay", "--all", "work")["outcomes"] == []
    assert cli.json("dlq", "purge", "--all")["data"] == {"removed": 10_000}


@pytest.mark.slow
def test_all_are_replayed_however_many_pages_they_are(fragile: Served, cli: Command, serve: Serve) -> None:
    fragile.stop()
    bury(fragile.folder, 2 * PAGE + 1)
    serve(network=None)
    document = cli.json("dlq", "replay", "--all", code=1)
    assert document["failed"] == {"no_such_mod": 2 * PAGE + 1}
    assert [outcome["letter_id"] for outcome in document["outcomes"]] == list(range(1, 2 * PAGE + 2))


def test_letters_are_purged(fragile: Served, cli: Command, serve: Serve, die: Callable[..., int]) -> None:
    letters = [die(n) for n in range(4)]
    assert cli.ok("dlq", "purge", str(letters[0]), str(letters[1])) == "2 dead letters removed\n"
    result = cli("dlq", "purge", str(letters[0]), str(letters[2]))
    assert (result.exit_code, result.stdout) == (1, "1 dead letter removed\n")
    assert f"there is no dead letter {letters[0]}; 'modvisor dlq ls' shows" in result.stderr
    document = cli.json("dlq", "purge", str(letters[0]), code=1)
    assert document["data"] == {"removed": 0, "missing": [letters[0]], "error": "not_found"}
    assert cli.ok("dlq", "purge", "--mod", "work", "--older-than", "1h") == "0 dead letters removed\n"
    assert cli.ok("dlq", "purge", "--mod", "other") == "0 dead letters removed\n"
    assert ids(cli) == [letters[3]]
    assert cli.ok("dlq", "purge", "--mod", "./fragile") == "1 dead letter removed\n"


@pytest.mark.parametrize(
    ("args", "complaint"),
    [
        (("purge",), "say which, in one way: IDs; --mod MOD, --older-than DURATION or both; --all for every one (got nothing)"),
        (("purge", "7", "--all"), "say which, in one way"),
        (("purge", "--all", "--mod", "work"), "say which, in one way"),
        (("purge", "--older-than", "soon"), "--older-than: expected seconds or a duration such as '30s' (units: ms, s"),
        (("purge", "--older-than", "0"), "--older-than: expected more than 0 seconds"),
        (("purge", "x7"), "ID 'x7': expected the number of a dead letter, as 'modvisor dlq ls' shows it"),
        (("show", "work"), "ID 'work': expected the number of a dead letter"),
        (("replay",), "say which: the IDs that 'modvisor dlq ls' shows, or --all, or --all MOD"),
        (("replay", "--all", "work", "other"), "--all takes one MOD, got work, other"),
        (("replay", "work"), "ID 'work': expected the number of a dead letter"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_a_usage_error(cli: Command, args: tuple[str, ...], complaint: str) -> None:
    """And nobody is asked for anything: there is no network here."""
    result = cli("dlq", *args)
    assert result.exit_code == 2
    assert complaint in result.stderr


def test_a_letter_that_is_not_there(fragile: Served, cli: Command) -> None:
    assert cli.json("dlq", "show", "12", code=1)["data"]["error"] == "not_found"
    assert cli.json("dlq", "purge", "--mod", "No Mod", code=1)["data"]["error"] == "invalid_event"


def test_without_a_network(fragile: Served, cli: Command) -> None:
    fragile.stop()
    assert cli.json("dlq", "ls")["dead_letters"] == []  # from the journal that it left
    assert "there is no dead letter 1" in cli("dlq", "show", "1").output
    for args in (("replay", "1"), ("replay", "--all"), ("purge", "1")):
        assert cli.json("dlq", *args, code=3)["data"]["error"] == "no_network"


def test_options_may_stand_before_and_behind_the_group(fragile: Served, cli: Command) -> None:
    os.rename("network.yaml", "other.yaml")
    for line in ("--json -f other.yaml dlq ls", "dlq --json -f other.yaml ls", "--json dlq ls --file other.yaml"):
        assert json.loads(cli.ok(*line.split())) == {"dead_letters": [], "next": None}


def test_the_shell_completes_letters_and_mods(fragile: Served, die: Callable[..., int], shell: Shell) -> None:
    first, second = die(1), die(2)
    assert shell("modvisor dlq ") == ["ls", "show", "replay", "purge"]
    assert shell("modvisor dlq show ") == [str(second), str(first)]
    assert shell("modvisor dlq replay ") == [str(second), str(first)]
    assert shell("modvisor dlq replay --all ") == ["work"]
    assert shell("modvisor dlq ls w") == ["work"]
    assert shell("modvisor dlq purge --mod ") == ["work"]
    os.rename("network.yaml", "other.yaml")
    assert shell("modvisor -f other.yaml dlq show ") == [str(second), str(first)]
    assert shell("modvisor dlq -f other.yaml show ") == [str(second), str(first)]
    assert shell("modvisor dlq show ") == []
