"""Completion: offer mods and events of the running network, and mods that could be loaded, after a Tab.

A completion never fails and never waits long: without a network it offers nothing.
"""

from __future__ import annotations

from typing import Any

import typer

from ..settings import Settings
from ..terminal.exits import CliError
from .options import settings_so_far

PATIENCE = 0.5  # seconds; a person is waiting with a finger on the key


def loaded_mods(ctx: typer.Context, incomplete: str) -> list[str]:
    """Offer the ids of the loaded mods."""
    return _starting(incomplete, (mod["mod_id"] for mod in _mods(settings_so_far(ctx))))


def dead_letters(ctx: typer.Context, incomplete: str) -> list[str]:
    """Offer the numbers of the newest dead letters."""
    return _starting(incomplete, (str(letter["letter_id"]) for letter in _letters(settings_so_far(ctx))))


def mods_with_letters(ctx: typer.Context, incomplete: str) -> list[str]:
    """Offer the mods that have dead letters, loaded or not."""
    letters = _letters(settings_so_far(ctx))
    return _starting(incomplete, sorted({letter["mod_id"] for letter in letters}))


def letters_or_mods(ctx: typer.Context, incomplete: str) -> list[str]:
    """Offer mods behind ``dlq replay --all``, else numbers of dead letters."""
    return mods_with_letters(ctx, incomplete) if ctx.params.get("every") else dead_letters(ctx, incomplete)


def event_names(ctx: typer.Context, incomplete: str) -> list[str]:
    """Offer the event names that the loaded mods listen to, and the fixed beginnings of their patterns."""
    patterns = (pattern for mod in _mods(settings_so_far(ctx)) for pattern in mod.get("patterns") or ())
    return _starting(incomplete, sorted({pattern.removesuffix("*") for pattern in patterns}))


def mod_paths(ctx: typer.Context, incomplete: str) -> list[str]:
    """Offer the bundled mods, and the folders under ``mods/`` beside the network file."""
    from ...config import BUNDLED

    folder = settings_so_far(ctx).network_file.absolute().parent / "mods"
    local = (f"./{entry.name}" for entry in sorted(folder.iterdir()) if entry.is_dir()) if folder.is_dir() else ()
    return _starting(incomplete, (*(path for path in local if "__pycache__" not in path), *BUNDLED))


def limits(incomplete: str) -> list[str]:
    """Offer the keys of a mod's limits."""
    from dataclasses import fields

    from ...config import LimitsConfig

    return _starting(incomplete, (f"{each.name}=" for each in fields(LimitsConfig)))


def tokens(ctx: typer.Context, incomplete: str) -> list[str]:
    """Offer the names of the operators' tokens."""
    found = _asked(settings_so_far(ctx), "/tokens", "tokens")
    return _starting(incomplete, (token["name"] for token in found))


def invites(ctx: typer.Context, incomplete: str) -> list[str]:
    """Offer the ids of the invites that can still be used."""
    found = _asked(settings_so_far(ctx), "/invites", "invites")
    return _starting(incomplete, (invite["invite_id"] for invite in found))


def _mods(settings: Settings) -> list[dict[str, Any]]:
    return _asked(settings, "/mods", "mods")


def _letters(settings: Settings) -> list[dict[str, Any]]:
    return _asked(settings, "/dead-letters", "dead_letters")


def _asked(settings: Settings, path: str, key: str) -> list[dict[str, Any]]:
    from ..client.connect import connect

    try:
        return connect(settings).get(path, timeout=PATIENCE)[key]
    except CliError:
        return []


def _starting(incomplete: str, offers: Any) -> list[str]:
    return [offer for offer in offers if offer and offer.startswith(incomplete)]
