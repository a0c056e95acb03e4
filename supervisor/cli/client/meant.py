"""Adds to an error of the network the word that was probably meant: a mod, an event, a path.

The network itself does not look for it when an agent errs: strangers could make it busy that way.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from ..terminal.exits import CliError

if TYPE_CHECKING:
    from .client import Client

PATIENCE = 2.0  # seconds


@contextmanager
def meant(word: str, errors: Iterable[str], known: Callable[[], Iterable[str]]) -> Iterator[None]:
    """Let an error with one of these codes name the known word that is most like ``word``."""
    try:
        yield
    except CliError as error:
        if error.error is None or error.error not in errors or "did you mean" in str(error):
            raise
        raise error.with_hint(_hint(word, known)) from None


def _hint(word: str, known: Callable[[], Iterable[str]]) -> str:
    from ...nearest import did_you_mean

    try:
        return did_you_mean(word, known())
    except CliError:  # the network is gone, or this token may not see it
        return ""


def mod_ids(client: Client) -> list[str]:
    """Return the ids of the loaded mods."""
    return [mod["mod_id"] for mod in _mods(client)]


def event_names(client: Client) -> list[str]:
    """Return the names of the events that the loaded mods handle."""
    return [name for mod in _mods(client) for name in mod.get("patterns") or () if not name.endswith("*")]


def mod_paths(client: Client) -> list[str]:
    """Return the paths that could be loaded."""
    return [mod["mod_path"] for mod in client.get("/mods/available", timeout=PATIENCE)["mods"]]


def _mods(client: Client) -> list[dict[str, Any]]:
    return client.get("/mods", timeout=PATIENCE)["mods"]
