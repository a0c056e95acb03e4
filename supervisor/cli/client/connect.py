"""From the options to the running network. Apart from `settings`, which the client itself imports."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..settings import Settings
from .progress import is_shown, waiting

if TYPE_CHECKING:
    from .client import Client


def connect(settings: Settings) -> Client:
    """Return a client of the network that the options name; raises `CliError` if they name none.

    Imports the client when it is called: `--help` needs none of it.
    """
    from .client import Client
    from .target import find_target

    client = Client(find_target(settings))
    if not settings.json and is_shown():
        client.waiting = waiting
    return client
