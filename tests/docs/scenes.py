"""What each page takes for granted, by its name. A page that is not here needs nothing but an empty folder."""

from __future__ import annotations

from .pages import ROOT
from .scene_of_cli import SCENE as CLI
from .scene_of_http import SCENE as HTTP
from .walking import Scene

_WIKI = """
from modvisor.mods import BaseMod

class Wiki(BaseMod):
    version = "{version}"

    def initialize(self):
        print("I am", self.version)
"""
_TWO_VERSIONS = {
    "mods/wiki/mod.py": _WIKI.format(version="1.0"),
    "mods/wiki/versions/1.4/mod.py": _WIKI.format(version="1.4"),
    "mods/wiki/versions/2.0/mod.py": _WIKI.format(version="2.0"),
}
_SERVES_WIKI = "network: {name: demo, port: 8700}\nmods: [{path: ./wiki}]\n"

_SERVES_BUNDLED = "network: {name: demo, port: 8700}\nmods: [modvisor.mods.workspace.wiki]\n"
_ENDS = """
import os
from modvisor.mods import BaseMod, mod_event_handler

class Wiki(BaseMod):
    @mod_event_handler("wiki.process.end")
    def end(self, event):
        os._exit(3)
"""
_THEIRS = """\
network:
  name: Team Hub
  mode: centralized
  transports:
    - type: http
      config: {port: 8700}
    - type: grpc
      config: {port: 8600}
  mods:
    - name: openagents.mods.workspace.wiki
    - name: openagents.mods.workspace.forum
"""

_SHARED = """\
network: {name: demo, port: 8700}
mods:
  - modvisor.mods.workspace.wiki
  - {path: modvisor.mods.workspace.messaging, id: chat}
  - {path: modvisor.mods.workspace.wiki, id: search}
"""
_B_HAS_ONE = "until modvisor node ls | grep '^b ' | grep -q '[a-z] *$'; do sleep 0.1; done"

SCENES: dict[str, Scene] = {
    "tutorial.md": Scene(folder="."),
    "index.md": Scene(folder="."),
    "debugging.md": Scene(folder="."),
    "limiting.md": Scene(folder="."),
    "versions.md": Scene(
        files={"network.yaml": _SERVES_WIKI, **_TWO_VERSIONS},
        first=["modvisor run"],
        before={
            "## A folder with several versions": ["modvisor unload wiki@2", "modvisor unload wiki"],
            "modvisor load ./wiki --version 2.0 --id wiki@2 --python": ["python3 -m venv --without-pip venvs/wiki2"],
        },
    ),
    "operating.md": Scene(
        files={
            "network.yaml": "network: {name: demo, port: 8700}\nmods: [{path: ./wiki}, {path: ./wiki, id: shop}]\n",
            **_TWO_VERSIONS,
        },
        first=["modvisor run"],
    ),
    "README.md": Scene(
        before={
            "## Five minutes": [
                f"cp -r {ROOT}/examples ..",
                "cd ..",
                "rm -rf examples/.modvisor",
                "sed -i 's/^  port: .*/  port: 8700/' examples/network.yaml",
                "modvisor -f examples/network.yaml start",
            ],
        },
    ),
    "mods.md": Scene(
        files={"network.yaml": "network: {name: demo, port: 8700}\n"},
        before={"modvisor load": ["modvisor run"]},
    ),
    "metrics.md": Scene(
        files={"network.yaml": "network: {name: demo, port: 8700}\nmods: [./wiki]\n", "mods/wiki/mod.py": _ENDS},
        first=["modvisor run"],
        before={
            '{"time"': ["modvisor send wiki.process.end || true"],
        },
    ),
    "dashboard.md": Scene(files={"network.yaml": _SERVES_BUNDLED}, first=["modvisor run"]),
    "deploying.md": Scene(
        files={"network.yaml": _SERVES_BUNDLED},
        first=["mkdir backups", "modvisor run"],
        instead={"/var/backups": "backups"},
    ),
    "upgrading.md": Scene(
        files={"network.yaml": _SERVES_BUNDLED},
        first=["mkdir backups", "modvisor run"],
        before={"modvisor validate": ["modvisor stop"]},
        instead={"/var/backups": "backups"},
    ),
    "openagents.md": Scene(files={"network.yaml": _THEIRS}),
    "config.md": Scene(
        files={"network.yaml": _SERVES_WIKI, **_TWO_VERSIONS},
        first=["modvisor run"],
        instead={"python3 -m venv": "python3 -m venv --without-pip"},
    ),
    "cli.md": CLI,
    "http.md": HTTP,
    "cluster.md": Scene(
        files={"network.yaml": _SHARED, "../parts/alone.yaml": _SHARED},
        before={
            "modvisor node ls": [_B_HAS_ONE],
            "## From one machine to several, and back": [
                "modvisor stop --node a || true",
                "rm -rf .modvisor",
                "cp ../parts/alone.yaml network.yaml",
                "modvisor run",
            ],
        },
    ),
}
