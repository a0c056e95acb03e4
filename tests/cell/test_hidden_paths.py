"""Where the paths of a cell lead: a mount hides a place, whatever the links to it."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from modvisor.ipc.cell import LISTED, STRICT
from modvisor.supervisor.cell import cell_of
from modvisor.supervisor.cell.readable import own_python
from modvisor.supervisor.config import mod_config
from modvisor.supervisor.config.mods.sandbox import SandboxConfig
from modvisor.supervisor.config.network.network_file import parse_config


def test_links_are_followed_and_what_is_missing_stays_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "real" / "mods" / "wiki").mkdir(parents=True)
    (tmp_path / "state").symlink_to("real")
    config = parse_config({"network": {"name": "demo"}}, base_dir=tmp_path)
    state = tmp_path / "state"
    code = [tmp_path / "missing", state / "gone"]
    cell = cell_of(
        mod_config("pkg.wiki", base_dir=tmp_path), config, state=state, storage=state / "mods/wiki", code=code
    )
    real = os.fsencode(tmp_path.resolve() / "real")
    assert real in cell.hidden
    assert cell.storage == real + b"/mods/wiki"
    assert cell.read == (os.fsencode(tmp_path.resolve() / "missing"), real + b"/gone")


def test_a_strict_cell_lists_links_as_they_are_written_too_and_the_networks_python(tmp_path: Path) -> None:
    (tmp_path / "release").mkdir()
    (tmp_path / "code").symlink_to("release")
    config = parse_config({"network": {"name": "demo"}}, base_dir=tmp_path)
    mod = replace(mod_config("pkg.wiki", base_dir=tmp_path), sandbox=SandboxConfig(STRICT))
    storage = tmp_path / "state"
    cell = cell_of(mod, config, state=storage, storage=storage, code=[tmp_path / "code"])
    assert cell.files == LISTED
    assert {os.fsencode(tmp_path / "code"), os.fsencode(tmp_path.resolve() / "release")} <= set(cell.read)
    assert {os.fsencode(path) for path in own_python()} <= set(cell.read)


def test_the_state_of_every_node_here_and_what_a_node_is_known_by_are_hidden(tmp_path: Path) -> None:
    for name in ("secret", "creds", "seed"):
        (tmp_path / name).write_text("ea1c5a9145c8606059e0a4c4")
    cluster = {
        "node": "a",
        "servers": ["nats://10.0.0.5"],
        "secret": {"from": "file:secret"},
        "credentials": "creds",
        "tls": {"cert": "cert", "key": "seed"},
    }
    config = parse_config({"network": {"name": "demo"}, "cluster": cluster}, base_dir=tmp_path)
    assert config.storage == tmp_path / ".modvisor/nodes/a"
    (tmp_path / ".modvisor/nodes/b").mkdir(parents=True)
    storage = config.storage / "mods/wiki"
    storage.mkdir(parents=True)
    cell = cell_of(mod_config("pkg.wiki", base_dir=tmp_path), config, state=config.storage, storage=storage)
    here = tmp_path.resolve()
    expected = {here / ".modvisor", here / "secret", here / "creds", here / "seed"}
    assert {os.fsencode(path) for path in expected} <= set(cell.hidden)
    assert cell.storage == os.fsencode(here / ".modvisor/nodes/a/mods/wiki")
