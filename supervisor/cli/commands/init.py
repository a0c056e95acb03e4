"""``modvisor init``: a network file with comments, and a first mod, ready to run."""

from __future__ import annotations

import json
import os
from pathlib import Path
from string import Template
from typing import Annotated

import typer

from ...causes import cause
from ..settings import DEFAULT_FILE, Settings
from ..terminal.exits import CliError, ExitCode
from ..terminal.output import Output, printable
from .scaffold import make_mod

MOD = "hello"
SCHEMA_FILE = "network.schema.json"

_NETWORK = Template("""\
# yaml-language-server: $$schema=$schema
# The line above lets an editor complete and check this file; 'modvisor schema' prints the schema anew.
# 'modvisor validate' checks the file, and 'modvisor reconfigure' applies changes while the network runs.

network:
  name: $name
  host: 127.0.0.1 # this machine only
  port: 8700 # 0: any free port; left out: no HTTP at all
  # watch: true # reload a mod when its files are saved; needs: pip install 'modvisor[watch]'

mods:
  # Your first mod: the folder mods/$mod.
  - path: ./$mod
    config:
      greeting: Hello
    limits:
      memory: 512MB

  # 'modvisor mods' lists what else can be loaded, such as the bundled mods:
  # - path: modvisor.mods.workspace.wiki
  # - path: modvisor.mods.workspace.messaging

# Groups of agents with a password and rights. 'modvisor hash-password' prints the hash.
# agent_groups:
#   admins:
#     permissions: [mods, agents, channels]
#     password_hash: "$$argon2id..."

# Which mods may be loaded, now and later. Without this key: all.
# allowed_mods: ["./*", "modvisor.mods.*"]
""")


def init(
    settings: Settings,
    folder: Annotated[
        Path, typer.Argument(metavar="[FOLDER]", help="Where to make them. [dim](default: this folder)[/dim]")
    ] = Path(),
    name: Annotated[
        str | None,
        typer.Option("--name", metavar="NAME", help="The network's name. [dim](default: that of the folder)[/dim]"),
    ] = None,
) -> None:
    """Make a network.yaml with comments and a first mod, ready to run."""
    network = folder / DEFAULT_FILE
    if os.path.lexists(network):
        raise CliError(ExitCode.FAILED, f"{network} is there already; run it with: modvisor run {network}")
    name = name or folder.absolute().resolve().name or "network"
    mod = make_mod(MOD, folder)
    _write(folder / SCHEMA_FILE, _schema())
    text = _NETWORK.substitute(name=json.dumps(name, ensure_ascii=False), mod=MOD, schema=SCHEMA_FILE)
    _write(network, text)
    files = [network, folder / SCHEMA_FILE, *mod.files]
    document = {"success": True, "network": name, "file": str(network), "files": [str(file) for file in files]}
    Output(as_json=settings.json).document(document, lambda: print(printable(_steps(folder, mod.folder))))


def _schema() -> str:
    from ...config import schema_text

    return schema_text("network")


def _write(file: Path, text: str) -> None:
    try:
        with open(file, "x", encoding="utf-8") as opened:
            opened.write(text)
    except OSError as error:
        raise CliError(ExitCode.FAILED, f"cannot write {file}: {cause(error, file)}") from None


def _steps(folder: Path, mod: Path) -> str:
    enter = "" if folder == Path() else f"cd {folder} && "
    return "\n".join(
        [
            f"made {folder / DEFAULT_FILE}, {SCHEMA_FILE} and the mod {mod}",
            f"run it:    {enter}modvisor run",
            f'ask it:    modvisor send {MOD}.greeting.get \'{{"name": "Ada"}}\'',
            "see it:    modvisor status",
            f"change it: edit {mod / 'mod.py'}, then: modvisor reload {MOD}",
        ]
    )
