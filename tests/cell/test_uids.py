"""A user id for each mod, and its storage given to it."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

from modvisor.ipc.errors import ModvisorError
from modvisor.supervisor.cell import uids
from modvisor.supervisor.cell.uids import FILE, Uids, belongs_to, check_code, give, give_once

as_root = pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="root on Linux")


def test_each_mod_keeps_its_id(tmp_path: Path) -> None:
    first = Uids(tmp_path, 5000, 10)
    assert [first.of("wiki"), first.of("chat"), first.of("wiki")] == [5000, 5001, 5000]
    assert [Uids(tmp_path, 5000, 10).of(mod) for mod in ("chat", "new", "wiki")] == [5001, 5002, 5000]


def test_a_full_range_gives_the_ids_of_mods_that_are_gone(tmp_path: Path) -> None:
    (tmp_path / "mods" / "kept").mkdir(parents=True)
    ids = Uids(tmp_path, 5000, 2)
    assert (ids.of("kept"), ids.of("gone"), ids.of("new")) == (5000, 5001, 5001)
    (tmp_path / "mods" / "new").mkdir()
    with pytest.raises(ModvisorError, match=r"all 2 ids of network\.sandbox_uids are taken"):
        ids.of("one more")


def test_another_range_gives_other_ids(tmp_path: Path) -> None:
    Uids(tmp_path, 5000, 10).of("wiki")
    assert Uids(tmp_path, 7000, 10).of("wiki") == 7000


def test_a_file_that_cannot_be_read_is_made_anew(tmp_path: Path) -> None:
    (tmp_path / FILE).write_text("{")
    assert Uids(tmp_path, 5000, 10).of("wiki") == 5000
    assert json.loads((tmp_path / FILE).read_text()) == {"wiki": 5000}


@pytest.fixture
def storage(tmp_path: Path) -> Path:
    folder = tmp_path / "storage"
    (folder / "deep" / "er").mkdir(parents=True)
    (folder / "file").write_text("x")
    (folder / "deep" / "er" / "file").write_text("x")
    return folder


def owners(folder: Path) -> set[int]:
    return {each.lstat().st_uid for each in (folder, *folder.rglob("*"))}


@as_root
def test_a_folder_is_given_with_all_that_is_in_it(storage: Path) -> None:
    assert give(storage, 5000) == (5, 0)
    assert owners(storage) == {5000}
    assert give(storage, 0) == (5, 0)
    assert owners(storage) == {0}


@as_root
def test_links_lead_to_nobody_elses_files(storage: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("x")
    (storage / "symbolic").symlink_to(secret)
    (storage / "hard").hardlink_to(secret)
    (storage / "folder").symlink_to(tmp_path)
    os.mkfifo(storage / "fifo")
    assert give(storage, 5000) == (8, 1)
    assert secret.stat().st_uid == 0
    assert tmp_path.stat().st_uid == 0
    assert (storage / "symbolic").lstat().st_uid == (storage / "fifo").lstat().st_uid == 5000


@as_root
def test_a_file_with_two_names_in_the_storage_is_the_mods_own(storage: Path) -> None:
    (storage / "deep" / "second").hardlink_to(storage / "file")
    assert give(storage, 5000) == (6, 0)
    assert owners(storage) == {5000}


@as_root
def test_a_run_that_was_cut_short_is_done_again(
    storage: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "modvisor.cell")
    chown, calls = os.chown, []

    def fails_later(path: str, uid: int, gid: int) -> None:
        calls.append(path)
        if len(calls) > 2:
            raise OSError(5, "the disk is gone")
        chown(path, uid, gid)

    with monkeypatch.context() as patch:
        patch.setattr(uids.os, "chown", fails_later)
        with pytest.raises(OSError, match="disk is gone"):
            give_once("wiki", storage, 5000)
    assert not belongs_to(storage, 5000)
    give_once("wiki", storage, 5000)
    assert owners(storage) == {5000}
    give_once("wiki", storage, 5000)
    assert [record.getMessage() for record in caplog.records] == [
        "mod wiki: its storage belongs to user 5000 now: 5 files"
    ]


def test_code_that_its_user_may_not_read_is_named_with_what_to_do(tmp_path: Path) -> None:
    folder = tmp_path / "wiki"
    folder.mkdir(mode=0o755)
    file = folder / "mod.py"
    file.touch(0o644)
    check_code(folder, 5000)
    for path, mode in ((file, 0o600), (folder, 0o711)):
        before = path.stat().st_mode
        path.chmod(mode)
        with pytest.raises(ModvisorError, match=f"user 5000, who may not read {path}; open it with 'chmod -R o\\+rX"):
            check_code(folder, 5000)
        path.chmod(before)
    check_code(folder, os.geteuid())
