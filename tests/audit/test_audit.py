"""The audit of a real network: who did what, and what happens when it cannot be written."""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import os
import socket
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from modvisor.ipc.errors import ModvisorError
from modvisor.supervisor import AgentNetwork, Event
from modvisor.supervisor.audit import audit as room
from modvisor.supervisor.audit.actors import acting
from modvisor.supervisor.audit.chain import Head
from modvisor.supervisor.audit.file import AuditFile
from modvisor.supervisor.audit.key import read_key
from modvisor.supervisor.audit.verifying import verify
from modvisor.supervisor.journal import JournalAtRest
from tests.conftest import until
from tests.disks import fill, in_memory

pytestmark = pytest.mark.anyio

Make = Callable[..., AgentNetwork]
Write = Callable[..., str]

HASH = hashlib.sha256(b"open").hexdigest()
GROUPS = {"admins": {"password_hash": HASH, "permissions": ["mods", "agents"]}}


def records(network: AgentNetwork) -> list[dict[str, Any]]:
    file = network.state_dir.root / "audit" / "audit.jsonl"
    return [json.loads(line) for line in file.read_text().splitlines()]


def told(network: AgentNetwork, *keys: str) -> list[tuple[Any, ...]]:
    return [tuple(each[key] for key in keys) for each in records(network)]


def check(network: AgentNetwork) -> list[str]:
    """Verify the audit of a network that has ended."""
    root = network.state_dir.root
    with JournalAtRest(network.state_dir.database) as journal:
        sealed = journal.audit_head()
    assert sealed is not None
    verdict = verify(root / "audit", read_key(root / "audit.key"), sealed)
    assert verdict.last == sealed[0]
    return verdict.findings


async def test_commands_are_recorded_before_and_after_with_who_did_them(make_network: Make, write_mod: Write) -> None:
    network = make_network()
    await network.initialize()
    with acting("operator:alice", "192.0.2.7"):
        await network.load_mod(write_mod("echo"), env={"KEY": "hidden value"})
        await network.reload_mod("echo")
        await network.restart_mod("echo")
        await network.set_audience("echo", percent=50)
        await network.unload_mod("echo")
    await network.unload_mod("nothing")
    await network.shutdown()
    assert told(network, "who", "from", "what", "on", "outcome")[1:-1] == [
        *(
            ("operator:alice", "192.0.2.7", what, "echo", outcome)
            for what in ("mod.load", "mod.reload", "mod.restart", "mod.audience", "mod.unload")
            for outcome in ("asked", "ok")
        ),
        ("program", None, "mod.unload", "nothing", "asked"),
        ("program", None, "mod.unload", "nothing", "no_such_mod"),
    ]
    assert told(network, "what")[0] == ("network.start",)
    assert told(network, "what")[-1] == ("network.stop",)
    assert "hidden value" not in json.dumps(records(network))
    assert check(network) == []


async def test_what_agents_do_bears_their_names(make_network: Make, write_mod: Write) -> None:
    network = make_network(agent_groups=GROUPS)
    await network.initialize()
    payload = {"agent_id": "alice", "password_hash": HASH}
    joined = await network.process_external_event(
        Event("system.register_agent", "alice", payload=payload), address="::1"
    )
    for name, more in (
        ("system.mod.load", {"mod_path": write_mod("echo")}),
        ("system.kick_agent", {"target_agent_id": "bob"}),
    ):
        await network.register_agent("bob")
        event = Event(name, "agent:alice", payload=more, secret=joined.data["secret"])
        assert (await network.process_external_event(event, address="::1")).success
    await network.shutdown()
    assert [each for each in told(network, "who", "from", "what", "on", "outcome") if each[0] == "agent:alice"] == [
        ("agent:alice", "::1", "agent.login", "alice", "ok"),
        ("agent:alice", "::1", "mod.load", "echo", "asked"),
        ("agent:alice", "::1", "mod.load", "echo", "ok"),
        ("agent:alice", "::1", "agent.kick", "bob", "asked"),
        ("agent:alice", "::1", "agent.kick", "bob", "ok"),
    ]
    assert check(network) == []


async def test_what_a_mod_does_bears_its_name_whoever_loaded_it(make_network: Make, write_mod: Write) -> None:
    source = """
        from modvisor.mods import BaseMod, Event, EventResponse, mod_event_handler

        class Mod(BaseMod):
            @mod_event_handler("test.unload")
            async def on_unload(self, event):
                await self.context.send_event(Event("system.mod.unload", payload={"mod_id": "echo"}))
                return EventResponse(True)
    """
    network = make_network()
    await network.initialize()
    with acting("operator:alice", "192.0.2.7"):
        await network.load_mod(write_mod("boss", source), permissions=["mods"])
        await network.load_mod(write_mod("echo"))
    assert (await network.process_event(Event("test.unload", "agent:bob"))).success
    await network.shutdown()
    assert ("mod:boss", None, "mod.unload", "ok") in told(network, "who", "from", "what", "outcome")


async def test_the_text_of_a_failure_tells_no_secret(make_network: Make, write_mod: Write) -> None:
    network = make_network()
    await network.initialize()
    source = "import os\nraise RuntimeError(os.environ['API_KEY'])\n"
    response = await network.load_mod(write_mod("broken", source), env={"API_KEY": "a hidden value"})
    assert not response.success
    await network.shutdown()
    assert records(network)[-2]["outcome"] == response.error
    assert "a hidden value" not in json.dumps(records(network))


async def test_refused_requests_are_summed(make_network: Make) -> None:
    network = make_network()
    await network.initialize()
    for _ in range(50):
        event = Event("system.mod.load", "agent:mallory", payload={"mod_path": "x"}, secret="wrong")
        await network.process_external_event(event, address="192.0.2.66")
    await network.shutdown()
    [found] = [each for each in records(network) if each["what"] == "refused"]
    assert (found["from"], found["outcome"], found["detail"]["count"]) == ("192.0.2.66", "unauthenticated", 50)
    assert "mallory" in found["detail"]["first"]


async def test_a_run_goes_on_behind_the_last_one_and_a_cut_end_is_told(
    make_network: Make, caplog: pytest.LogCaptureFixture
) -> None:
    network = make_network()
    for _ in range(2):
        await network.initialize()
        await network.shutdown()
    assert [each[0] for each in told(network, "n")] == [1, 2, 3, 4]
    assert check(network) == []
    file = network.state_dir.root / "audit" / "audit.jsonl"
    file.write_text("".join(file.read_text().splitlines(keepends=True)[:-1]))
    with JournalAtRest(network.state_dir.database) as journal:
        sealed = journal.audit_head()
    assert verify(file.parent, read_key(network.state_dir.root / "audit.key"), sealed).count == 1
    await network.initialize()
    assert "lines 4 to 4 of the audit" in caplog.text


async def test_a_killed_network_leaves_an_audit_that_is_sound(make_network: Make) -> None:
    """The journal may not have heard of the last lines; what it knows is there."""
    network = make_network()
    await network.initialize()
    await network.unload_mod("nothing")
    await until(lambda: not network._running().audit._is_unsynced)
    await network._running().journal.committed()
    copy = {path: path.read_bytes() for path in network.state_dir.root.rglob("*") if path.is_file()}
    await network.shutdown()
    for path, content in copy.items():
        path.write_bytes(content)
    assert check(network) == []


# -- when it cannot be written


def has_begun(root: Path) -> bool:
    """Whether the first line is written: the start of the network."""
    file = root / "audit" / "audit.jsonl"
    return file.exists() and file.stat().st_size > 0


def break_folder(root: Path) -> None:
    """Put a file in the place of the folder: nobody can write into it, not even root."""
    (root / "audit").rename(root / "audit.away")
    (root / "audit").write_text("")


def mend_folder(root: Path) -> None:
    (root / "audit").unlink()
    (root / "audit.away").rename(root / "audit")


async def test_strict_refuses_what_changes_something_while_it_cannot_be_written(
    make_network: Make, write_mod: Write, caplog: pytest.LogCaptureFixture
) -> None:
    network = make_network(agent_groups=GROUPS)
    await network.initialize()
    assert (await network.load_mod(write_mod("echo"))).success
    break_folder(network.state_dir.root)
    refused = [
        await network.unload_mod("echo"),
        await network.reload_mod("echo"),
        await network.load_mod(write_mod("other")),
        await network.set_audience("echo", percent=10),
    ]
    assert [(each.success, each.error) for each in refused] == [(False, "storage_full")] * 4
    assert "nothing was changed" in str(refused[0].message)
    for attempt in (
        network.create_token("ci", "read"),
        network.add_agent("eve", {}, password_hash=HASH, group="admins"),
    ):
        with pytest.raises(ModvisorError, match="the audit cannot be written") as caught:
            await attempt
        assert caught.value.code == "storage_full"
    assert list(network.get_loaded_mods()) == ["echo"]
    assert network.list_tokens() == []
    assert (await network.process_event(Event("test.echo", "agent:bob"))) is not None  # events go on
    mend_folder(network.state_dir.root)
    assert (await network.unload_mod("echo")).success
    assert "the audit is written again" in caplog.text
    await network.shutdown()
    assert check(network) == []


async def test_best_effort_goes_on_and_writes_what_it_kept_when_it_can(make_network: Make, write_mod: Write) -> None:
    network = make_network(audit="best_effort")
    await network.initialize()
    await until(lambda: has_begun(network.state_dir.root))
    break_folder(network.state_dir.root)
    assert (await network.load_mod(write_mod("echo"))).success
    mend_folder(network.state_dir.root)
    assert (await network.unload_mod("echo")).success
    await network.shutdown()
    assert told(network, "what", "outcome")[1:-1] == [("mod.load", "ok"), ("mod.unload", "ok")]
    assert check(network) == []


async def test_the_changed_mode_lets_its_own_change_pass(make_network: Make) -> None:
    network = make_network()
    await network.initialize()
    await until(lambda: has_begun(network.state_dir.root))
    break_folder(network.state_dir.root)
    config = network.config
    with pytest.raises(ModvisorError, match="the audit cannot be written"):
        await network.reconfigure(replace(config, redact=("pin",)))
    assert network.config.redact == ()
    changes = await network.reconfigure(replace(config, audit=replace(config.audit, mode="best_effort")))
    assert changes.applied == ["audit.mode"]
    assert (await network.unload_mod("nothing")).error == "no_such_mod"
    mend_folder(network.state_dir.root)


async def test_off_writes_nothing(make_network: Make, write_mod: Write) -> None:
    network = make_network(audit=False)
    await network.initialize()
    assert (await network.load_mod(write_mod("echo"))).success
    await network.shutdown()
    assert not (network.state_dir.root / "audit").exists()
    assert not (network.state_dir.root / "audit.key").exists()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    with in_memory(tmp_path / "disk", "4m") as folder:
        yield folder


async def test_a_full_disk_refuses_commands_until_there_is_room(
    make_network: Make, write_mod: Write, small_disk: Path, caplog: pytest.LogCaptureFixture
) -> None:
    network = make_network({"storage": str(small_disk / "state")})
    await network.initialize()
    assert (await network.load_mod(write_mod("echo"))).success
    answers = [await network.restart_mod("echo")]
    while answers[-1].success:  # the last page of the file has some room, and each restart frees a worker's mark
        fill(small_disk)
        answers.append(await network.restart_mod("echo"))
    assert answers[-1].error == "storage_full"
    assert "No space left on device" in str(answers[-1].message)
    await until(lambda: len(list(network.state_dir.marks.iterdir())) == 1)  # the other workers freed theirs
    ballast = fill(small_disk)
    assert {(await network.restart_mod("echo")).error for _ in range(20)} == {"storage_full"}
    assert [each.levelno for each in caplog.records if "the audit in" in each.getMessage()] == [logging.ERROR]
    ballast.unlink()
    assert (await network.restart_mod("echo")).success
    await network.shutdown()
    assert check(network) == []


def counted_syncs(monkeypatch: pytest.MonkeyPatch) -> list[AuditFile]:
    syncs: list[AuditFile] = []
    sync = AuditFile.sync
    monkeypatch.setattr(AuditFile, "sync", lambda file: (syncs.append(file), sync(file))[1])
    return syncs


async def test_after_a_sync_that_failed_records_wait_for_the_disk_until_one_works(
    make_network: Make, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(room, "SYNC_EVERY", 1000.0)
    network = make_network()
    await network.initialize()
    await until(lambda: has_begun(network.state_dir.root))
    audit = network._running().audit
    assert audit._file is not None
    assert audit._file._descriptor is not None
    reader, writer = os.pipe()
    os.dup2(writer, audit._file._descriptor, inheritable=False)  # nobody can sync a pipe
    await audit._sync()
    assert "cannot be written: [Errno 22]" in caplog.text
    syncs = counted_syncs(monkeypatch)
    for _ in range(3):
        assert (await network.unload_mod("nothing")).error == "no_such_mod"
    assert len(syncs) == 1, "for the first record alone"
    os.close(reader), os.close(writer)
    await network.shutdown()
    assert check(network) == []


async def test_what_is_synced_at_the_end_is_not_synced_again_after_it(
    make_network: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "SYNC_EVERY", 1000.0)
    network = make_network()
    await network.initialize()
    await until(lambda: has_begun(network.state_dir.root))
    audit, syncs = network._running().audit, counted_syncs(monkeypatch)
    async with asyncio.TaskGroup() as tasks, audit._writing:
        for _ in range(2):
            tasks.create_task(audit._sync())
        await asyncio.sleep(0)
    assert len(syncs) == 1


async def test_a_start_on_a_full_disk_takes_no_commands_and_is_no_failure_of_the_audit(
    make_network: Make, tmp_path: Path
) -> None:
    network = make_network()
    network.state_dir.root.mkdir(mode=0o700)
    (network.state_dir.root / "audit").write_text("")
    await network.initialize()
    assert (await network.unload_mod("nothing")).error == "storage_full"


async def test_a_key_that_the_file_names_must_be_there(make_network: Make) -> None:
    network = make_network(audit={"key_file": "no.key"})
    with pytest.raises(ModvisorError, match=r"the key of the audit cannot be read from .*no\.key"):
        await network.initialize()


async def test_syslog_is_told_the_newest_line(make_network: Make, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as log:
        log.bind(str(tmp_path / "log"))
        log.setblocking(False)
        network = make_network(audit={"syslog": "log"})
        await network.initialize()
        await network.unload_mod("nothing")
        await network.shutdown()
        messages = []
        while len(messages) < 100:
            try:
                messages.append(log.recv(1000).decode())
            except BlockingIOError:
                break
    number, mac = messages[-1].rpartition(" ")[2].split(":")
    root = network.state_dir.root
    key = read_key(root / "audit.key")
    assert verify(root / "audit", key, None, Head(int(number), mac)).findings == []
    lines = (root / "audit" / "audit.jsonl").read_text().splitlines(keepends=True)
    (root / "audit" / "audit.jsonl").write_text("".join(lines[:-1]))
    assert "somebody noted record" in verify(root / "audit", key, None, Head(int(number), mac)).findings[0]


async def test_many_commands_at_once_are_written_together(make_network: Make) -> None:
    network = make_network()
    await network.initialize()
    await asyncio.gather(*(network.unload_mod(f"mod{number}") for number in range(200)))
    await network.shutdown()
    assert sum(each["what"] == "mod.unload" for each in records(network)) == 400
    assert check(network) == []
