"""The state directory has one owner at a time, and a place for everything."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from modvisor.supervisor.journal.state_dir import StateDir, StateDirBusy


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
