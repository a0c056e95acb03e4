"""The way from the options to the running network, imported when it is gone: ``--help`` needs none of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .settings import Settings

if TYPE_CHECKING:
    from .client import Client


def connect(settings: Settings) -> Client:
    """A client for the network the options mean; raises `CliError` if they mean none."""
    from .client import Client
    from .target import find_target

    return Client(find_target(settings))
