"""A damaged journal: what can be read is kept row by row, what cannot is named and kept beside it."""

from __future__ import annotations

import asyncio
import json
import random
import shutil
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from modvisor.ipc.event import Event
from modvisor.ipc.messages import pack
from modvisor.supervisor.agents import AgentRegistry
from modvisor.supervisor.config import AgentsConfig
from modvisor.supervisor.journal import DeadLetter, Journal, KeptMod, LastRun, Quarantine

pytestmark = pytest.mark.anyio

AGENTS, EVENTS, LETTERS = 60, 40, 20


def registered(agent_id: str) -> tuple[str, dict[str, Any]]:
    metadata = pack({"name": agent_id, "text": "x" * 60})
    data = {"agent_id": agent_id, "metadata": metadata, "group": None, "secret_hash": b"h" * 32, "registered_at": 1.0}
    return "register", data


def event(number: int) -> Event:
    return Event("wiki.page.create", "agent:alice", payload={"text": "x" * 150}, event_id=f"event-{number}")


async def fill(journal: Journal) -> None:
    for number in range(AGENTS):
        journal.record(*registered(f"agent{number}"))
        journal.record("join", {"channel": f"room{number % 3}", "agent_id": f"agent{number}"})
    for mod_id in ("wiki", "chat", "shop"):
        journal.keep_mod(KeptMod(mod_id, f"pkg.{mod_id}", {"config": {"public": True}}, 0, 1.0))
        journal.quarantine(Quarantine(f"{mod_id}2", "pkg.x", "crashed 5 times in 60 s", 1.0, "f"))
        journal.keep_family(mod_id, {"promoted": {mod_id: 1}, "before": []})
        await journal.save_checkpoint(mod_id, "1.0", {"pages": "p" * 6000})
    await asyncio.gather(*(journal.accept("wiki", event(number)) for number in range(EVENTS)))
    for number in range(LETTERS):
        letter = DeadLetter(
            None, "wiki", event(1000 + number).to_dict(), 2, "dead_lettered", "…", {"a": 1}, time.time()
        )
        await journal.bury(letter)


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A journal with rows in every table, closed."""
    file = tmp_path_factory.mktemp("sound") / "network.db"
    journal = Journal(file)
    journal.open()
    asyncio.run(fill(journal))
    journal.close()
    return file


@pytest.fixture
def file(sound: Path, tmp_path: Path) -> Path:
    shutil.copy(sound, tmp_path / "network.db")
    return tmp_path / "network.db"


def run_sql(file: Path, script: str) -> None:
    with closing(sqlite3.connect(file)) as database:
        database.executescript(script)


def ids(found: LastRun) -> set[str]:
    return {agent.agent_id for agent in found.agents}


async def use(file: Path) -> tuple[LastRun, dict[str, int]]:
    """Open a journal, read all of it, write to it, close it, and open it again."""
    journal = Journal(file)
    found = journal.open()
    try:
        counts = {"agents": len(found.agents), "mods": len(found.mods)}
        counts["durable"] = len(await journal.pending("wiki"))
        counts["letters"] = len(await journal.dead_letters())
        assert len(await journal.letter_heads()) == counts["letters"]
        counts["checkpoints"] = sum([await journal.checkpoint(mod) is not None for mod in ("wiki", "chat", "shop")])
        seq = await journal.accept("wiki", event(5000))
        journal.record(*registered("newcomer"))
        await journal.save_checkpoint("wiki", "2.0", {"pages": 1})
        await journal.bury(DeadLetter(None, "wiki", event(1).to_dict(), 1, "timeout", "…", None, time.time()), seq=seq)
        await journal.committed()
        stats = journal.stats()
        assert stats["write_errors"] == 0, stats
        assert stats["durable_events"] >= counts["durable"]
    finally:
        journal.close()
    again = journal.open()
    journal.close()
    assert ids(again) == ids(found) | {"newcomer"}
    return found, counts


# -- one bad row


@pytest.mark.parametrize(
    "change",
    [
        "metadata = X'c1'", "metadata = X'01'", "agent_id = CAST(X'ff41' AS TEXT)", "agent_group = CAST(X'ff' AS TEXT)",
        "registered_at = 1e300", "agent_id = '../x'",
    ],
)  # fmt: skip
async def test_one_bad_agent_costs_no_other_row(file: Path, change: str, caplog: pytest.LogCaptureFixture) -> None:
    run_sql(file, f"UPDATE agent SET {change} WHERE agent_id = 'agent7'")
    found, counts = await use(file)
    assert len(ids(found)) == AGENTS - 1
    assert counts == {"agents": AGENTS - 1, "mods": 3, "durable": EVENTS, "letters": LETTERS, "checkpoints": 3}
    assert "1 agent (" in caplog.text
    [side] = file.parent.glob("*.jsonl")
    assert side.name in caplog.text
    assert side.stat().st_mode & 0o777 == 0o600
    row = json.loads(side.read_text())
    assert (row["table"], set(row["row"])) == (
        "agent",
        {"agent_id", "secret_hash", "agent_group", "metadata", "registered_at", "guest", "address", "returned"},
    )


@pytest.mark.parametrize(
    ("table", "change", "told"),
    [
        ("mod", "path = 'no path'", "loaded mods"), ("mod", "position = -1", "loaded mods"),
        ("quarantine", "reason = CAST(X'ff' AS TEXT)", "quarantines"), ("quarantine", "at = -1", "quarantines"),
        ("family", "record = X'01'", "families' promotions"), ("member", "channel = 'a b' || joined", "channel members"),
        ("durable", "event = X'80'", "durable events"), ("durable", "mod_id = CAST(X'77ff' AS TEXT)", None),
        ("durable", "accepted_at = 1e200", "durable events"), ("durable", "attempt = 1 << 40", "durable events"),
        ("dead_letter", "reason = CAST(X'ff' AS TEXT)", "dead letters"), ("dead_letter", "event = X'c1'", "dead letters"),
        ("checkpoint", "version = CAST(X'ff' AS TEXT)", "checkpoint"),
    ],
)  # fmt: skip
async def test_bad_rows_of_any_table_are_named_and_kept_beside(
    file: Path, table: str, change: str, told: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    run_sql(file, f"UPDATE {table} SET {change}")
    found, counts = await use(file)
    assert len(found.agents) == AGENTS
    assert sum(value == 0 for value in counts.values()) <= 1
    if told is not None:
        assert told in caplog.text
        assert {
            json.loads(line)["table"] for side in file.parent.glob("*.jsonl") for line in side.read_text().splitlines()
        } == {table}


async def test_wrong_sizes_do_not_keep_events_out(file: Path) -> None:
    run_sql(file, "UPDATE durable SET size = 1 << 60 WHERE seq = 3; UPDATE dead_letter SET size = -5")
    _, counts = await use(file)
    assert (counts["durable"], counts["letters"]) == (EVENTS, LETTERS)


async def test_bytes_of_a_row_stand_in_no_message(file: Path, caplog: pytest.LogCaptureFixture) -> None:
    run_sql(file, "UPDATE agent SET agent_id = 'secret words', metadata = X'c1' WHERE agent_id = 'agent7'")
    await use(file)
    assert "1 agent (?)" in caplog.text
    assert "secret" not in caplog.text


# -- bad pages


async def test_damage_found_while_the_network_runs_is_mended(file: Path, caplog: pytest.LogCaptureFixture) -> None:
    journal = Journal(file)
    journal.open()
    try:
        with closing(sqlite3.connect(file)) as other:
            names = ("durable", "sqlite_autoindex_durable_1")
            roots = other.execute("SELECT rootpage FROM sqlite_master WHERE name IN (?, ?)", names).fetchall()
        await journal.ask("cache", lambda store: store.connection.execute("PRAGMA shrink_memory").fetchall())
        with file.open("r+b") as disk:
            for (root,) in roots:
                disk.seek((root - 1) * 4096)
                disk.write(b"\xff" * 4096)
        before = journal.stats()
        seq = await journal.accept("wiki", event(6000))
        assert seq > EVENTS
        assert [found.seq for found in await journal.pending("wiki")] == [seq]
        assert (await journal.dead_letters())[0].letter_id == LETTERS
        stats = journal.stats()
        assert (stats["durable_events"], stats["dead_letters"]) == (1, before["dead_letters"])
        assert "an unknown part of the durable events" in caplog.text
    finally:
        journal.close()
    assert len(journal.open().agents) == AGENTS
    journal.close()


def flip(content: bytearray, chance: random.Random, count: int = 200) -> None:
    for _ in range(count):
        content[chance.randrange(len(content))] ^= chance.randrange(1, 256)


def cut(content: bytearray, chance: random.Random) -> None:
    del content[chance.randrange(1, len(content)) :]


def blank(content: bytearray, chance: random.Random) -> None:
    """A page that was never written, as after a lost write."""
    page = chance.randrange(len(content) // 4096) * 4096
    content[page : page + 4096] = bytes(4096)


def swap(content: bytearray, chance: random.Random) -> None:
    """A page that was written to the place of another."""
    a, b = (chance.randrange(len(content) // 4096) * 4096 for _ in range(2))
    content[a : a + 4096] = content[b : b + 4096]


def flip_one(content: bytearray, chance: random.Random) -> None:
    flip(content, chance, 1)


def flip_first_page(content: bytearray, chance: random.Random) -> None:
    for _ in range(20):
        content[chance.randrange(4096)] ^= chance.randrange(1, 256)


KINDS: list[Callable[[bytearray, random.Random], None]] = [flip, flip_first_page, cut, blank, swap, flip_one]


async def damaged_copy(sound: Path, folder: Path, seed: int) -> dict[str, int]:
    chance, kind = random.Random(seed), KINDS[seed % len(KINDS)]
    content = bytearray(sound.read_bytes())
    kind(content, chance)
    file = folder / f"{seed}" / "network.db"
    file.parent.mkdir()
    file.write_bytes(content)
    before = time.monotonic()
    try:
        found, counts = await use(file)
    except Exception as error:
        error.add_note(f"copy {seed}, {kind.__name__}")
        raise
    assert time.monotonic() - before < 10
    assert [path.name for path in file.parent.iterdir() if path.name.startswith(".")] == []
    AgentRegistry(AgentsConfig(), {}, lambda kind, data: None).restore(found.agents, found.channels)
    return counts


@pytest.mark.parametrize("seed", range(len(KINDS)))
async def test_a_damaged_copy_opens_and_is_used(sound: Path, tmp_path: Path, seed: int) -> None:
    await damaged_copy(sound, tmp_path, seed)


@pytest.mark.slow
@pytest.mark.timeout(600)
async def test_200_damaged_copies_open_and_are_used(sound: Path, tmp_path: Path) -> None:
    kept = [await damaged_copy(sound, tmp_path, seed) for seed in range(200)]
    whole = {"agents": AGENTS, "mods": 3, "durable": EVENTS, "letters": LETTERS, "checkpoints": 3}
    for what, count in whole.items():
        share = sum(counts[what] for counts in kept) / (count * len(kept))
        print(f"{what}: {share:.0%} kept")
        assert share > 0.6, what
