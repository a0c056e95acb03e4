"""The state directory has one owner at a time, and a place for everything."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from modvisor.supervisor.journal.state_dir import StateDir, StateDirBusy, UnsafeStateDir


def test_the_owner_locks_the_directory(tmp_path: Path) -> None:
    one, other = StateDir(tmp_path / "state"), StateDir(tmp_path / "state")
    one.acquire()
    with pytest.raises(StateDirBusy, match=rf"belongs to a running network \(pid {os.getpid()}\)"):
        other.acquire()
    one.release()
    one.release()
    other.acquire()
    other.release()


def test_only_its_user_sees_into_it(tmp_path: Path) -> None:
    state = StateDir(tmp_path / "state")
    state.acquire()
    assert {path.name for path in state.root.iterdir()} == {"state.lock", "run", "logs", "snapshots"}
    assert stat.S_IMODE(state.root.stat().st_mode) == 0o700
    assert stat.S_IMODE((state.root / "state.lock").stat().st_mode) == 0o600
    state.release()
    assert (state.root / "state.lock").read_text() == ""


def test_the_lock_holds_when_its_file_is_deleted(tmp_path: Path) -> None:
    one, other = StateDir(tmp_path / "state"), StateDir(tmp_path / "state")
    one.acquire()
    (one.root / "state.lock").unlink()
    with pytest.raises(StateDirBusy):
        other.acquire()
    one.release()
    other.acquire()
    other.release()


@pytest.mark.parametrize("mask", [0, 0o777], ids=["umask 0", "umask 777"])
def test_what_it_makes_is_private_whatever_the_umask(tmp_path: Path, mask: int) -> None:
    before = os.umask(mask)
    try:
        state = StateDir(tmp_path / "state")
        state.acquire()
        state.storage_of("wiki#1")
        found = {path: stat.S_IMODE(path.stat().st_mode) for path in (state.root, *state.root.rglob("*"))}
    finally:
        os.umask(before)
        state.release()
    assert {path: mode for path, mode in found.items() if mode != (0o700 if path.is_dir() else 0o600)} == {}


def test_folders_of_an_earlier_version_are_made_private(tmp_path: Path) -> None:
    state = StateDir(tmp_path / "state")
    (state.root / "mods").mkdir(parents=True)
    (state.root / "mods").chmod(0o777)
    state.storage_of("wiki")
    assert stat.S_IMODE((state.root / "mods").stat().st_mode) == 0o700


def test_a_folder_that_everybody_can_write_is_refused(tmp_path: Path) -> None:
    root = tmp_path / "state"
    root.mkdir()
    root.chmod(0o777)
    with pytest.raises(UnsafeStateDir, match=rf"every user can write to .*0777.*chmod go-rwx {root}"):
        StateDir(root).acquire()
    root.chmod(0o700)
    state = StateDir(root)
    state.acquire()
    state.release()


def test_a_folder_that_others_can_read_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    root = tmp_path / "state"
    root.mkdir()
    root.chmod(0o755)
    state = StateDir(root)
    state.acquire()
    state.release()
    assert f"others can look into the state directory {root} (mode 0755)" in caplog.text


def test_where_things_are(tmp_path: Path) -> None:
    state = StateDir(tmp_path)
    assert state.database == tmp_path / "network.db"
    assert state.admin_socket == tmp_path / "run" / "admin.sock"
    assert state.log_file("wiki") == tmp_path / "logs" / "wiki.log"


def test_workers_of_one_mod_have_their_folders_in_the_mods(tmp_path: Path) -> None:
    state = StateDir(tmp_path)
    assert state.storage_of("wiki") == tmp_path / "mods" / "wiki"
    assert state.storage_of("wiki#1") == tmp_path / "mods" / "wiki" / "1"
    assert (tmp_path / "mods" / "wiki" / "1").is_dir()
