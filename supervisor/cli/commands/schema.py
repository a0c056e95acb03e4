"""What the programs around modvisor need: the JSON Schemas of its files for editors, its completion for shells."""

from __future__ import annotations

import sys
from enum import StrEnum
from typing import Annotated

import typer

from ..settings import Settings


class Kind(StrEnum):
    """Which file the schema is of."""

    NETWORK = "network"
    MOD = "mod"


def schema(
    settings: Settings,
    kind: Annotated[Kind, typer.Argument(metavar="[network|mod]", help="network.yaml, or mod.yaml.")] = Kind.NETWORK,
) -> None:
    """Print the JSON Schema of network.yaml or mod.yaml, by which an editor completes and checks the file."""
    from ...config import schema_text

    sys.stdout.write(schema_text(kind.value))


class Shell(StrEnum):
    """A shell that completes commands."""

    BASH = "bash"
    ZSH = "zsh"
    FISH = "fish"


def completion(
    settings: Settings,
    shell: Annotated[Shell, typer.Argument(metavar="SHELL", help="bash, zsh or fish.")],
) -> None:
    """Print the completion script of a shell: commands, options, and ids of the running network.

    'modvisor --install-completion' sets it up for the shell it is typed into.
    """
    from typer.completion import get_completion_script  # pyright: ignore[reportPrivateImportUsage]

    print(get_completion_script(prog_name="modvisor", complete_var="_MODVISOR_COMPLETE", shell=shell.value))
