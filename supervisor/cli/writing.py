"""Commands for those who write mods."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .output import Output
from .settings import Settings


def new(
    settings: Settings,
    name: Annotated[str, typer.Argument(metavar="NAME", help="The mod's id: lower-case letters, digits, underscores.")],
    folder: Annotated[
        Path | None,
        typer.Option("--dir", metavar="DIR", help="Make DIR/mods/NAME. [dim](default: beside the network file)[/dim]"),
    ] = None,
) -> None:
    """Make the folder of a new mod, with a handler and a test that passes."""
    from .scaffold import make_mod

    made = make_mod(name, folder or settings.network_file.parent)
    document = {"success": True, "mod_path": f"./{name}", "files": [str(file) for file in made.files]}
    Output(as_json=settings.json).document(document, lambda: print(made.text()))
