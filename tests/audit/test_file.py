"""The files of the audit: what a crash, a full disk or a stranger leaves, and how the network goes on behind it."""

from __future__ import annotations

import logging
import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from modvisor.supervisor.audit import file as room
from modvisor.supervisor.audit.actors import Actor
from modvisor.supervisor.audit.chain import checked
from modvisor.supervisor.audit.file import CURRENT, AuditFile, audit_files
from modvisor.supervisor.audit.key import NoKey, made_key, read_key
from modvisor.supervisor.audit.records import record, refused
from modvisor.supervisor.audit.verifying import Verdict, verify

KEY = b"k" * 32

Sealed = tuple[int, bytes] | None

_made: list[AuditFile] = []


@pytest.fixture(autouse=True)
def _all_are_closed() -> Iterator[None]:
    """Close the files that a test has opened, some of which it leaves as a crash would."""
    yield
    while _made:
        _made.pop().close()


def an_audit(folder: Path, sealed: Sealed = None, *, most_bytes: int = 1_000_000, most_files: int = 3) -> AuditFile:
    made = AuditFile(folder, KEY, most_bytes=most_bytes, most_files=most_files)
    made.resume(sealed)
    _made.append(made)
    return made


def a_record(text: str = "", **detail: Any) -> dict[str, Any]:
    return record(Actor("operator:alice", "192.0.2.7"), "mod.load", "wiki", "ok", {"text": text, **detail})


def sealed_of(audit: AuditFile, *records: dict[str, Any]) -> tuple[int, bytes]:
    audit.append(records or (a_record(),))
    head, seal = audit.sync()
    return head.number, seal


def verified(folder: Path, sealed: Sealed) -> Verdict:
    return verify(folder, KEY, sealed)


def told(folder: Path) -> list[str]:
    found = [checked(KEY, line) for path in audit_files(folder) for line in path.read_bytes().splitlines()]
    return ["?" if line is None else line.record["what"] for line in found]


def test_a_later_run_goes_on_behind_the_last_line(tmp_path: Path) -> None:
    sealed: Sealed = None
    for run in range(3):
        audit = an_audit(tmp_path, sealed)
        sealed = sealed_of(audit, a_record(str(run)), a_record())
        audit.close()
    verdict = verified(tmp_path, sealed)
    assert (verdict.findings, verdict.last) == ([], 6)
    assert (tmp_path / CURRENT).stat().st_mode & 0o777 == 0o600


def test_a_later_run_checks_the_last_line_once_and_syncs_no_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folders: list[Path] = []
    lines: list[bytes] = []
    sync, check = room.sync, room.checked
    monkeypatch.setattr(room, "sync", lambda folder: (folders.append(folder), sync(folder))[1])
    monkeypatch.setattr(room, "checked", lambda key, line: (lines.append(line), check(key, line))[1])
    audit = an_audit(tmp_path)
    sealed = sealed_of(audit)
    audit.close()
    assert (folders, lines) == ([tmp_path], [])
    audit = an_audit(tmp_path, sealed)
    audit.prepare()
    audit.close()
    assert (len(folders), len(lines)) == (1, 1)


def test_full_files_are_put_aside_and_the_oldest_make_room(tmp_path: Path) -> None:
    audit, sealed = an_audit(tmp_path, most_bytes=10_000, most_files=2), None
    for _ in range(100):
        sealed = sealed_of(audit, a_record("x" * 280))
    assert sealed is not None
    assert len(audit_files(tmp_path)) == 3
    verdict = verified(tmp_path, sealed)
    assert verdict.findings == []
    assert verdict.last == sealed[0] > 100
    assert [note for note in verdict.notes if "they made room for new ones" in note]
    audit_files(tmp_path)[0].unlink()
    assert "missing: removed" in verified(tmp_path, sealed).findings[0]


def test_a_file_that_was_renamed_is_not_removed_in_place_of_the_oldest(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Else the network itself would remove new lines, and say that they made room."""
    audit = an_audit(tmp_path, most_bytes=10_000, most_files=2)
    while len(audit_files(tmp_path)) < 3:
        sealed_of(audit, a_record("x" * 280))
    _, newer, _ = audit_files(tmp_path)
    newer.rename(tmp_path / "audit-000000000001.jsonl")
    sealed = sealed_of(audit)
    while len(audit_files(tmp_path)) < 4:
        sealed = sealed_of(audit, a_record("x" * 280))
    assert "is not removed" in caplog.text
    assert not verified(tmp_path, sealed).is_sound


def test_a_crash_between_two_files_loses_nothing(tmp_path: Path) -> None:
    audit = an_audit(tmp_path)
    sealed = sealed_of(audit, a_record(), a_record())
    audit.close()
    (tmp_path / CURRENT).rename(tmp_path / "audit-000000000002.jsonl")
    sealed = sealed_of(an_audit(tmp_path, sealed))
    verdict = verified(tmp_path, sealed)
    assert (verdict.findings, verdict.last) == ([], 3)


@pytest.mark.parametrize("whole", [False, True])
def test_a_torn_last_line_is_removed_and_told(tmp_path: Path, whole: bool) -> None:
    audit = an_audit(tmp_path)
    sealed = sealed_of(audit)
    if not whole:
        audit.append([a_record("never whole")])
    audit.close()
    file = tmp_path / CURRENT
    os.truncate(file, file.stat().st_size - (1 if whole else 5))
    assert verified(tmp_path, sealed).is_sound
    sealed = sealed_of(an_audit(tmp_path, sealed))
    verdict = verified(tmp_path, sealed)
    assert verdict.findings == []
    assert told(tmp_path) == (["mod.load"] * 2 if whole else ["mod.load", "audit.torn", "mod.load"])


def test_lines_that_are_missing_at_a_start_are_told_and_stay_found(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    audit = an_audit(tmp_path)
    sealed = sealed_of(audit, *(a_record() for _ in range(5)))
    audit.close()
    lines = (tmp_path / CURRENT).read_bytes().splitlines(keepends=True)
    (tmp_path / CURRENT).write_bytes(b"".join(lines[:3]))
    assert verified(tmp_path, sealed).findings == [
        "records 4 to 5 are missing at the end: the journal knows of record 5"
    ]
    sealed = sealed_of(an_audit(tmp_path, sealed))
    assert "lines 4 to 5 of the audit" in caplog.text
    assert verified(tmp_path, sealed).findings == ["records 4 to 5 are missing: removed"]
    assert told(tmp_path)[-2:] == ["audit.gap", "mod.load"]


def test_a_file_that_is_removed_while_the_network_runs_is_found(tmp_path: Path) -> None:
    audit = an_audit(tmp_path)
    sealed_of(audit)
    (tmp_path / CURRENT).unlink()
    sealed = sealed_of(audit)
    assert verified(tmp_path, sealed).findings == ["record 1 is missing: removed"]


def test_junk_at_the_end_does_not_swallow_the_next_line(tmp_path: Path) -> None:
    audit = an_audit(tmp_path)
    sealed_of(audit)
    audit.close()
    with (tmp_path / CURRENT).open("ab") as file:
        file.write(b"x" * 200_000)
    sealed = sealed_of(an_audit(tmp_path))
    verdict = verified(tmp_path, sealed)
    assert len(verdict.findings) == 1
    assert "line 2: changed, or not written by the network" in verdict.findings[0]


@contextmanager
def no_larger_file(file: Path, more: int) -> Iterator[None]:
    """Writes fail with EFBIG behind so many more bytes, in the middle of a line too."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (file.stat().st_size + more, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_write_that_ends_within_a_line_leaves_nothing(tmp_path: Path) -> None:
    audit = an_audit(tmp_path)
    sealed = sealed_of(audit)
    with no_larger_file(tmp_path / CURRENT, 500):
        for _ in range(2):
            with pytest.raises(OSError, match="File too large"):
                audit.append([a_record("x" * 200), a_record("x" * 200), a_record("x" * 200)])
    assert verified(tmp_path, sealed).is_sound
    sealed = sealed_of(audit)
    verdict = verified(tmp_path, sealed)
    assert (verdict.findings, verdict.last, told(tmp_path)) == ([], 2, ["mod.load"] * 2)


def test_a_link_in_the_place_of_the_file_is_not_followed(tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.write_text("mine")
    (tmp_path / "audit").mkdir()
    (tmp_path / "audit" / CURRENT).symlink_to(other)
    with pytest.raises(OSError, match="symbolic links"):
        an_audit(tmp_path / "audit").append([a_record()])
    assert other.read_text() == "mine"


# -- the key


def test_the_key_is_made_once_and_for_its_owner_only(tmp_path: Path) -> None:
    key = made_key(tmp_path / "audit.key")
    assert len(key) == 64
    assert made_key(tmp_path / "audit.key") == key
    assert (tmp_path / "audit.key").stat().st_mode & 0o777 == 0o600


def test_a_key_that_cannot_be_used_is_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(NoKey, match=r"cannot be read from .*key: No such file.*openssl rand -hex 32 > .*key"):
        read_key(tmp_path / "key")
    (tmp_path / "key").write_text("short\n")
    with pytest.raises(NoKey, match="has 5 characters; at least 32 are needed"):
        read_key(tmp_path / "key")
    (tmp_path / "key").write_text("k" * 32)
    (tmp_path / "key").chmod(0o644)
    caplog.set_level(logging.WARNING)
    assert read_key(tmp_path / "key") == KEY
    assert "others can read the key of the audit" in caplog.text


# -- refused requests


def test_refusals_take_no_more_than_their_bytes_and_the_largest_sums_come_first() -> None:
    sums = [("forbidden", f"192.0.2.{n}", n, "x" * 1000) for n in range(200)]
    made = refused(sums, 4096)
    assert len(made) < 10
    assert [each["detail"]["count"] for each in made[:2]] == [199, 198]
    assert (made[0]["from"], made[0]["outcome"]) == ("192.0.2.199", "forbidden")
    assert sum(each["detail"]["count"] for each in made) == sum(range(200))
    assert made[-1]["outcome"] == "various"
    assert made[-1]["detail"]["sums"] == 200 - len(made) + 1


def test_a_record_is_bounded_whatever_others_send() -> None:
    made = record(Actor("x" * 10_000), "mod.load", "y" * 10_000, "ok", {"a": "z" * 10_000, "b": ["z" * 50_000]})
    assert all(len(str(value)) < 400 for value in made.values())
