"""The journal: what it keeps, which files it sets aside and which it leaves alone, what a bad change takes with it."""

from __future__ import annotations

import shutil
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from modvisor.ipc.errors import ModvisorError, Unserializable
from modvisor.ipc.event import Event
from modvisor.ipc.messages import pack
from modvisor.supervisor.config.network.network import JournalConfig
from modvisor.supervisor.journal import opening as journal_opening
from modvisor.supervisor.journal import schema as journal_schema
from modvisor.supervisor.journal.journal import Journal
from modvisor.supervisor.journal.records import JournalError, KeptMod, LastRun, Quarantine
from modvisor.supervisor.journal.schema import SCHEMA_VERSION
from modvisor.supervisor.journal.store import Store
from modvisor.supervisor.journal.writer import Job

pytestmark = pytest.mark.anyio


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "network.db"


@pytest.fixture
def journal(file: Path) -> Iterator[Journal]:
    journal = Journal(file)
    yield journal
    journal.close()


def registered(agent_id: Any, **changed: Any) -> tuple[str, dict[str, Any]]:
    data = {
        "agent_id": agent_id,
        "metadata": pack({"name": "Ann"}),
        "group": None,
        "secret_hash": b"x",
        "registered_at": 1.0,
    }
    return "register", {**data, **changed}


async def test_a_guest_is_kept_with_its_address_and_whether_it_has_come_back(file: Path) -> None:
    guest = {"guest": True, "address": "192.0.2.1", "returned": False}
    with closing(Journal(file)) as journal:
        journal.open()
        for agent_id in ("alice", "bob"):
            journal.record(*registered(agent_id, **guest))
        journal.record("returned", {"agent_id": "bob"})
        journal.flush()
    with closing(Journal(file)) as journal:
        agents = journal.open().agents
    assert [(agent.is_guest, agent.address, agent.has_returned) for agent in agents] == [
        (True, "192.0.2.1", False),
        (True, "192.0.2.1", True),
    ]


def hold(journal: Journal) -> None:
    """What is asked for from now on waits, and is one batch when it is released."""
    assert journal._writer is not None
    gate, held = threading.Event(), threading.Event()
    gates[journal] = gate

    def wait(store: Store) -> None:
        held.set()
        gate.wait()

    journal._writer.submit(Job("hold", wait))
    held.wait()


def release(journal: Journal) -> None:
    gates.pop(journal).set()


gates: dict[Journal, threading.Event] = {}


def opened(file: Path) -> LastRun:
    journal = Journal(file)
    try:
        return journal.open()
    finally:
        journal.close()


def kept(file: Path) -> tuple[list[str], dict[str, list[str]]]:
    found = opened(file)
    return [agent.agent_id for agent in found.agents], found.channels


def aside(file: Path) -> list[str]:
    return sorted(found.name for found in file.parent.iterdir() if ".damaged-" in found.name)


def test_what_is_recorded_is_there_after_a_restart(file: Path, journal: Journal) -> None:
    assert journal.open() == LastRun()
    for agent_id in ("ann", "bob"):
        journal.record(*registered(agent_id))
        journal.record("join", {"channel": "general", "agent_id": agent_id})
    journal.record("unregister", {"agent_id": "ann"})
    journal.record("leave", {"channel": "general", "agent_id": "ann"})
    journal.flush()
    journal.close()
    assert kept(file) == (["bob"], {"general": ["bob"]})
    assert file.stat().st_mode & 0o777 == 0o600


def test_promotions_are_there_after_a_restart_until_they_are_dropped(file: Path, journal: Journal) -> None:
    journal.open()
    record = {"promoted": {"wiki@2": 1}, "before": [[{"mod_id": "wiki", "audience": None, "promoted": 0}]]}
    journal.keep_family("shop", {"promoted": {}, "before": []})
    journal.keep_family("wiki", {"promoted": {}, "before": []})
    journal.keep_family("wiki", record)
    journal.keep_family("shop", None)
    journal.close()
    assert opened(file).families == {"wiki": record}
    with closing(sqlite3.connect(file)) as database, database:
        database.execute("UPDATE family SET record = x'c1'")
    assert opened(file).families == {}, "not worth the agents of the whole network"


@pytest.mark.parametrize(("sync", "level"), [("normal", 1), ("full", 2)])
def test_how_it_is_synced_and_who_may_read_it(file: Path, sync: str, level: int) -> None:
    journal = Journal(file, JournalConfig(sync=sync))
    journal.open()
    levels: list[Any] = []
    assert journal._writer is not None
    journal._writer.submit(
        Job("look", lambda store: levels.append(store.connection.execute("PRAGMA synchronous").fetchone()))
    )
    journal.flush()
    modes = {found.name: found.stat().st_mode & 0o777 for found in file.parent.iterdir()}
    journal.close()
    assert levels == [(level,)]
    assert modes == {"network.db": 0o600, "network.db-wal": 0o600, "network.db-shm": 0o600}


# -- files that cannot be used


def test_a_file_that_is_no_database_is_set_aside_with_what_is_beside_it(
    file: Path, journal: Journal, caplog: pytest.LogCaptureFixture
) -> None:
    wal = file.with_name("network.db-wal")
    file.write_bytes(b"this is no database " * 100)
    wal.write_bytes(b"the last commits")
    assert journal.open() == LastRun()
    journal.record(*registered("ann"))
    journal.close()
    moved = aside(file)
    assert [name.rpartition("-")[2] for name in moved if name.endswith("-wal")] == ["wal"]
    [moved_wal] = [file.with_name(name) for name in moved if name.endswith("-wal")]
    assert moved_wal.read_bytes() == b"the last commits"
    moved_file = file.with_name(moved_wal.name.removesuffix("-wal"))
    assert moved_file.read_bytes() == b"this is no database " * 100
    assert "agents must register again" in caplog.text
    assert kept(file)[0] == ["ann"]


def test_a_corrupt_database_is_set_aside(file: Path, journal: Journal) -> None:
    journal.open()
    journal.record(*registered("ann"))
    journal.close()
    content = bytearray(file.read_bytes())
    content[100:] = b"\xff" * (len(content) - 100)  # behind a sound header
    file.write_bytes(content)
    assert kept(file) == ([], {})
    assert len(aside(file)) >= 1


@pytest.mark.parametrize(
    "script",
    [
        f"CREATE TABLE other (x TEXT); PRAGMA user_version = {SCHEMA_VERSION}",
        f"CREATE TABLE agent (x TEXT); CREATE TABLE member (y TEXT); PRAGMA user_version = {SCHEMA_VERSION}",
        "CREATE TABLE other (x TEXT)",
    ],
)
def test_a_foreign_database_is_set_aside_as_it_was(file: Path, script: str) -> None:
    with closing(sqlite3.connect(file)) as foreign:
        foreign.executescript(script)
    before = file.read_bytes()
    assert kept(file) == ([], {})
    [name] = [name for name in aside(file) if not name.endswith(("-wal", "-shm"))]
    assert file.with_name(name).read_bytes() == before


@pytest.mark.parametrize("script", ["", "CREATE TABLE more (x TEXT);", "DROP TABLE family;"])
def test_a_journal_of_a_later_version_is_refused_and_stays_as_it_is(file: Path, journal: Journal, script: str) -> None:
    journal.open()
    journal.record(*registered("ann"))
    journal.close()
    with closing(sqlite3.connect(file)) as later:
        later.executescript(f"{script} PRAGMA user_version = {SCHEMA_VERSION + 1}")
    before = file.read_bytes()
    with pytest.raises(ModvisorError, match=rf"a later modvisor wrote it \(schema {SCHEMA_VERSION + 1}") as caught:
        journal.open()
    assert caught.value.code == "start_failed"
    assert "storage" in str(caught.value)
    assert file.read_bytes() == before
    assert aside(file) == []


@pytest.mark.parametrize(
    "code", ["SQLITE_FULL", "SQLITE_IOERR_READ", "SQLITE_CANTOPEN", "SQLITE_BUSY", "SQLITE_READONLY"]
)
def test_a_passing_failure_leaves_the_database_where_it_is(
    file: Path, journal: Journal, monkeypatch: pytest.MonkeyPatch, code: str
) -> None:
    journal.open()
    journal.record(*registered("ann"))
    journal.close()

    def fail(store: Store) -> Any:
        error = sqlite3.OperationalError("something passing")
        error.sqlite_errorcode = getattr(sqlite3, code)
        raise error

    with monkeypatch.context() as patched:
        patched.setattr(Store, "take_over", fail)
        with pytest.raises(ModvisorError, match=r"network\.db.*something passing") as caught:
            journal.open()
    assert caught.value.code == "start_failed"
    assert aside(file) == []
    assert kept(file)[0] == ["ann"]


def test_a_database_that_cannot_be_opened_is_named(file: Path, journal: Journal) -> None:
    file.mkdir()
    with pytest.raises(ModvisorError, match=r"network\.db cannot be opened: unable to open database file") as caught:
        journal.open()
    assert caught.value.code == "start_failed"
    assert file.is_dir()


@pytest.mark.timeout(10)
def test_a_connection_that_works_only_once_does_not_hang_the_start(
    file: Path, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when the descriptors run out in between: there is nothing in between."""
    connect, made = sqlite3.connect, []

    def once(*args: Any, **options: Any) -> sqlite3.Connection:
        made.append(args)
        if len(made) > 1:
            raise sqlite3.OperationalError("unable to open database file")
        return connect(*args, **options)

    monkeypatch.setattr(sqlite3, "connect", once)
    assert journal.open() == LastRun()


def test_a_writer_that_cannot_start_is_told(file: Path, journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", fail)
        with pytest.raises(ModvisorError, match="can't start new thread"):
            journal.open()
    assert journal.open() == LastRun()


# -- files of a former version

VERSION_1 = """
CREATE TABLE agent (
    agent_id TEXT PRIMARY KEY, secret_hash BLOB NOT NULL, agent_group TEXT, metadata BLOB NOT NULL, registered_at REAL NOT NULL
) STRICT;
CREATE TABLE member (
    channel TEXT NOT NULL, agent_id TEXT NOT NULL, joined INTEGER PRIMARY KEY AUTOINCREMENT, UNIQUE (channel, agent_id)
) STRICT;
PRAGMA user_version = 1;
"""


@pytest.fixture
def version_1(file: Path) -> Path:
    """As a network of schema 1 left it."""
    with closing(sqlite3.connect(file, isolation_level=None)) as former:
        former.execute("PRAGMA journal_mode = WAL")
        former.executescript(VERSION_1)
        for number in range(300):
            row = (f"agent{number}", b"hash", "admins" if number else None, pack({"n": number}), float(number))
            former.execute("INSERT INTO agent VALUES (?, ?, ?, ?, ?)", row)
            former.execute("INSERT INTO member (channel, agent_id) VALUES ('general', ?)", row[:1])
    return file


def test_a_file_of_version_1_is_migrated_with_all_it_holds(version_1: Path, journal: Journal) -> None:
    found = journal.open()
    assert {agent.agent_id: (agent.secret_hash, agent.group, agent.metadata) for agent in found.agents} == {
        f"agent{number}": (b"hash", "admins" if number else None, {"n": number}) for number in range(300)
    }
    assert found.channels == {"general": [f"agent{number}" for number in range(300)]}
    assert (found.mods, found.quarantines, found.clean) == ([], {}, True)
    journal.keep_mod(KeptMod("wiki", "pkg.wiki", {}, 0, 1.0))
    journal.close()
    assert aside(version_1) == []
    with closing(sqlite3.connect(version_1)) as database:
        assert database.execute("PRAGMA user_version").fetchone() == (SCHEMA_VERSION,)
        assert database.execute("PRAGMA auto_vacuum").fetchone() == (2,)
    assert [mod.mod_id for mod in opened(version_1).mods] == ["wiki"]


def test_a_migration_that_fails_leaves_the_former_version(
    version_1: Path, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    *former, newest = journal_schema.MIGRATIONS
    with monkeypatch.context() as patched:
        patched.setattr(journal_schema, "MIGRATIONS", (*former, newest + "INSERT INTO no_such_table VALUES (1);"))
        with pytest.raises(ModvisorError, match="no_such_table"):
            journal.open()
    assert aside(version_1) == []
    with closing(sqlite3.connect(version_1)) as database:
        assert database.execute("PRAGMA user_version").fetchone() == (1,)
        assert {name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")} == {
            "agent", "member", "sqlite_sequence",
        }  # fmt: skip
    assert len(journal.open().agents) == 300


def test_a_new_file_and_a_migrated_one_have_the_same_tables(tmp_path: Path, version_1: Path) -> None:
    opened(version_1)
    opened(tmp_path / "new.db")
    schemas = []
    for name in ("network.db", "new.db"):
        with closing(sqlite3.connect(tmp_path / name)) as database:
            schemas.append(database.execute("SELECT type, name, tbl_name FROM sqlite_master ORDER BY name").fetchall())
    assert schemas[0] == schemas[1]


# -- mods, quarantines, how the former owner ended


def test_mods_come_back_in_load_order_with_all_they_were_loaded_with(file: Path, journal: Journal) -> None:
    journal.open()
    spec = {"config": {"public": True, "raw": b"\0"}, "limits": {"memory": 1 << 40}}
    mods = [KeptMod("b", "pkg.b", spec, 1, 2.0), KeptMod("c", "pkg.c", {}, 1, 3.0), KeptMod("a", "pkg.a", {}, 2, 1.0)]
    for mod in [
        mods[2],
        mods[0],
        KeptMod("gone", "pkg.gone", {}, 0, 1.0),
        KeptMod("c", "pkg.old", {}, 9, 9.0),
        mods[1],
    ]:
        journal.keep_mod(mod)
    journal.drop_mod("gone")
    journal.close()
    assert journal.open().mods == mods


def test_a_mod_whose_spec_cannot_be_read_back_costs_nobody_else(
    file: Path, journal: Journal, caplog: pytest.LogCaptureFixture
) -> None:
    journal.open()
    journal.record(*registered("ann"))
    journal.keep_mod(KeptMod("bad", "pkg.bad", {}, 0, 1.0))
    journal.keep_mod(KeptMod("odd", "pkg.odd", {}, 0, 1.0))
    journal.keep_mod(KeptMod("good", "pkg.good", {}, 1, 1.0))
    journal.close()
    with closing(sqlite3.connect(file)) as database, database:
        database.execute("UPDATE mod SET spec = X'c1' WHERE mod_id = 'bad'")
        database.execute("UPDATE mod SET spec = X'c0' WHERE mod_id = 'odd'")
    found = journal.open()
    assert [mod.mod_id for mod in found.mods] == ["good"]
    assert len(found.agents) == 1
    assert "2 loaded mods (bad, odd) cannot be read back" in caplog.text


def test_a_spec_that_is_not_plain_data_is_refused_where_it_is_given(journal: Journal) -> None:
    journal.open()
    with pytest.raises(Unserializable, match="config"):
        journal.keep_mod(KeptMod("a", "pkg.a", {"config": object()}, 0, 1.0))


def test_quarantines_stay_until_they_are_released(journal: Journal) -> None:
    journal.open()
    wiki = Quarantine("wiki", "pkg.wiki", "crashed 5 times in 60 s", 12.5, "abc")
    journal.quarantine(Quarantine("wiki", "pkg.wiki", "another reason", 1.0, "xyz"))
    journal.quarantine(wiki)
    journal.quarantine(Quarantine("chat", "pkg.chat", "…", 1.0, ""))
    journal.release("chat")
    journal.release("unknown")
    journal.close()
    assert journal.open().quarantines == {"wiki": wiki}


async def test_of_a_mod_that_was_unloaded_nothing_stays(journal: Journal) -> None:
    journal.open()
    for mod_id in ("wiki", "wiki#1", "wiki2"):
        journal.keep_mod(KeptMod(mod_id, "pkg.wiki", {}, 0, 1.0))
        journal.quarantine(Quarantine(mod_id, "pkg.wiki", "…", 1.0, ""))
        await journal.save_checkpoint(mod_id, "1.0", {"pages": 1})
    journal.forget_mod("wiki", ["wiki", "wiki#1"])
    journal.close()
    kept = journal.open()
    assert ([mod.mod_id for mod in kept.mods], list(kept.quarantines)) == (["wiki#1", "wiki2"], ["wiki2"])
    left = [mod_id for mod_id in ("wiki", "wiki#1", "wiki2") if await journal.checkpoint(mod_id) is not None]
    assert left == ["wiki2"]


def test_whether_the_former_owner_closed_is_told(file: Path, tmp_path: Path, journal: Journal) -> None:
    assert journal.open().clean
    journal.flush()
    killed = tmp_path / "killed.db"  # what a process that is killed now would leave
    for suffix in ("", "-wal"):
        shutil.copy(file.with_name(file.name + suffix), killed.with_name(killed.name + suffix))
    journal.close()
    assert journal.open().clean
    journal.close()
    assert not opened(killed).clean
    assert opened(killed).clean


def test_two_damaged_files_in_one_second_are_both_set_aside(file: Path) -> None:
    for content in (b"first damage " * 100, b"second damage " * 100):
        for suffix in ("-wal", "-shm"):
            file.with_name(file.name + suffix).unlink(missing_ok=True)
        file.write_bytes(content)
        assert kept(file) == ([], {})
    found = [file.with_name(name).read_bytes() for name in aside(file) if not name.endswith(("-wal", "-shm"))]
    assert sorted(content[:6] for content in found) == [b"first ", b"second"]


# -- a journal that is not open


async def test_a_journal_that_is_not_open_says_so(journal: Journal, caplog: pytest.LogCaptureFixture) -> None:
    async def refused() -> None:
        with pytest.raises(JournalError, match="is not open") as caught:
            await journal.accept("wiki", Event("a.b"))
        assert caught.value.code == "not_running"

    await refused()
    journal.open()
    journal.close()
    journal.close()
    journal.flush()
    await refused()
    journal.record(*registered("ann"))
    assert "a change (register) came when the journal" in caplog.text


def test_close_commits_what_is_queued(file: Path, journal: Journal) -> None:
    journal.open()
    hold(journal)
    for number in range(2000):
        journal.record(*registered(f"agent{number}"))
    release(journal)
    journal.close()
    assert len(kept(file)[0]) == 2000


# -- changes that cannot be kept


@pytest.mark.parametrize(
    "bad",
    [
        registered("bad", secret_hash=None),  # refused by the schema
        registered("bad", metadata={}),  # no SQLite type
        registered("bad\ud800"),  # no UTF-8
        ("register", {"agent_id": "bad"}),  # a parameter is missing
    ],
)
def test_a_bad_change_does_not_take_its_batch_with_it(
    file: Path, journal: Journal, bad: tuple[str, dict[str, Any]], caplog: pytest.LogCaptureFixture
) -> None:
    journal.open()
    hold(journal)
    for kind, data in [registered("ann"), bad, registered("bob")]:
        journal.record(kind, data)
    release(journal)
    journal.close()
    assert journal.stats()["write_errors"] == 1
    assert journal.stats()["last_error"].startswith("register: ")
    assert "1 of 3 changes could not be kept" in caplog.text
    assert kept(file)[0] == ["ann", "bob"]


def test_a_locked_database_is_waited_for_once_not_for_every_change(
    file: Path, journal: Journal, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a lock that is never given up: the batch waits for it, then its first change, and the rest do not."""
    monkeypatch.setattr(journal_opening, "BUSY_TIMEOUT", 0.2)
    journal.open()
    hold(journal)
    for number in range(100):
        journal.record(*registered(f"agent{number}"))
    with closing(sqlite3.connect(file, isolation_level=None)) as somebody:
        somebody.execute("BEGIN IMMEDIATE")
        release(journal)
        started = time.monotonic()
        journal.flush()
        waited = time.monotonic() - started
    assert waited < 0.2 * 50  # a hundred waits are twenty seconds
    assert "100 of 100 changes could not be kept" in caplog.text
    journal.record(*registered("later"))
    journal.close()
    assert kept(file) == (["later"], {})
