"""The options of every command: which network it asks, and whether a person or a program reads the answer."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .client import Client

DEFAULT_FILE = "network.yaml"


@dataclass(frozen=True, slots=True)
class Settings:
    """The options as given; None: not given."""

    json: bool = False
    file: Path | None = None
    socket: Path | None = None
    url: str | None = None
    token: str | None = None

    @property
    def named_file(self) -> Path | None:
        """The network file named by option or variable; None if none is."""
        variable = os.environ.get("MODVISOR_FILE")
        return self.file or (Path(variable) if variable else None)

    @property
    def network_file(self) -> Path:
        return self.named_file or Path(DEFAULT_FILE)


def connect(settings: Settings) -> Client:
    """Return a client of the network that the options name; raises `CliError` if they name none.

    Imports the client when it is called: `--help` needs none of it.
    """
    from .client import Client
    from .target import find_target

    return Client(find_target(settings))
