"""The last good version of a mod, as it is kept on disk."""

from __future__ import annotations

from pathlib import Path

import pytest

from modvisor.ipc.errors import RemoteProtocolError
from modvisor.supervisor.config.mods.mod_file import ModFile
from modvisor.supervisor.sources.home import Home
from modvisor.supervisor.sources.snapshots import SnapshotStore

MODULES = {"local_mods.wiki.mod": {"path": "/mod.py", "source": b"x = 1", "is_package": False}}


@pytest.mark.anyio
async def test_a_snapshot_is_of_a_path_and_of_the_version_that_was_asked_for(tmp_path: Path) -> None:
    store = SnapshotStore(tmp_path / "snapshots")
    modules = {"local_mods.wiki.mod": {"path": "/mod.py", "source": b"", "is_package": False}}
    where = Home(tmp_path / "1.0", ModFile("/mod.yaml", "durable: true"), True)
    await store.write("wiki", "./wiki", modules, where, "1.0")
    assert [await store.is_of("wiki", path, asked) for path in ("./wiki", "./other") for asked in ("1.0", "2.0", None)] == [
        True, False, False, False, False, False,
    ]  # fmt: skip
    kept = await store.read("wiki")
    assert kept is not None
    assert (kept.modules, kept.home) == (modules, where)
    await store.write("wiki", "pkg.wiki", modules)
    assert await store.is_of("wiki", "pkg.wiki")
    (tmp_path / "snapshots" / "wiki.msgpack").write_bytes(b"\xc1")
    assert await store.read("wiki") is None


@pytest.mark.anyio
async def test_a_version_on_trial_is_read_only_after_it_was_accepted(tmp_path: Path) -> None:
    store = SnapshotStore(tmp_path)
    trial = {"wiki": {**MODULES["local_mods.wiki.mod"], "source": b"x = 2"}}
    await store.write("wiki", "./wiki", MODULES)
    await store.write("wiki", "./wiki", trial, on_trial=True)
    kept = await store.read("wiki")
    assert kept is not None
    assert kept.modules == MODULES
    await store.accept("wiki")
    kept = await store.read("wiki")
    assert kept is not None
    assert kept.modules == trial
    await store.forget("wiki")
    assert await store.read("wiki") is None
    assert not list(tmp_path.iterdir())


@pytest.mark.anyio
@pytest.mark.parametrize(
    "modules", [None, [], {"wiki": {}}, {5: MODULES["local_mods.wiki.mod"]}, {"wiki": {"path": 1}}]
)
async def test_malformed_modules_are_refused(tmp_path: Path, modules: object) -> None:
    with pytest.raises(RemoteProtocolError, match=r"expected \{module:"):
        await SnapshotStore(tmp_path).write("wiki", "./wiki", modules)
