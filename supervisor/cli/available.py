"""``modvisor mods``: what there is to load."""

from __future__ import annotations

from typing import Any

from .connect import connect
from .exits import CliError, ExitCode
from .output import Output, printable, show
from .settings import Settings


def mods(settings: Settings) -> None:
    """List the mods that could be loaded: beside the network's file, on its mod_paths, bundled, installed."""
    output = Output(as_json=settings.json)
    client = connect(settings)
    try:
        found = client.get("/mods/available")["mods"]
    except CliError as error:
        # The file says as much, but for what is loaded.
        if error.code is not ExitCode.NO_NETWORK or client.target.storage is None:
            raise
        found = _of_file(settings)
        output.note(f"no network is running for {client.target}; this is what one would find")
    output.document({"mods": found}, lambda: _show(found))


def _of_file(settings: Settings) -> list[dict[str, Any]]:
    from ..config import ConfigError, load_config
    from ..sources import available

    try:
        config = load_config(settings.network_file)
    except ConfigError as error:
        raise CliError(ExitCode.BAD_CONFIG, f"{settings.network_file} has mistakes:\n{error}") from None
    return [{**mod.to_dict(), "loaded": []} for mod in available(config)]


def _show(found: list[dict[str, Any]]) -> None:
    from .render.mods import available_table

    show(available_table(found))
    for mod in found:
        if mod["error"]:
            print(printable(f"{mod['mod_path']}: {mod['error']}"))
