"""A mod that gets a user of its own gets its storage with it, and nothing that it made a name for there."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from modvisor.supervisor import AgentNetwork

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.skipif(os.geteuid() != 0, reason="only root gives mods users of their own"),
]


async def test_links_out_of_a_storage_give_nothing_away(
    make_network: Callable[..., AgentNetwork], write_mod: Callable[..., str], tmp_path: Path
) -> None:
    for folder in (tmp_path, *tmp_path.parents[:2]):
        folder.chmod(0o755)
    secret, others = tmp_path / "secret", tmp_path / "others"
    secret.write_text("secret")
    others.mkdir()
    (others / "file").write_text("theirs")
    network = make_network()
    await network.initialize()
    storage = network.state_dir.storage_of("echo")
    (storage / "own").write_text("own")
    (storage / "below").mkdir()
    os.link(storage / "own", storage / "below" / "own too")
    os.symlink(secret, storage / "soft")
    os.symlink(others, storage / "folder")
    os.link(secret, storage / "hard")
    os.mkfifo(storage / "fifo")
    deep = storage
    for _ in range(60):
        deep = deep / "deep"
        deep.mkdir()
    loaded = await network.load_mod(write_mod("echo"), sandbox="strict")
    assert loaded.success, loaded.message
    user = storage.stat().st_uid
    assert user != 0
    assert {path.lstat().st_uid for path in (storage / "own", storage / "fifo", storage / "soft", deep)} == {user}
    assert [path.stat().st_uid for path in (secret, storage / "hard", others, others / "file")] == [0] * 4
