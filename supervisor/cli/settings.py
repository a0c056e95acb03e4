"""The options of every command: which network it asks, and whether a person or a program reads the answer."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

DEFAULT_FILE = "network.yaml"


@dataclass(frozen=True, slots=True)
class Settings:
    """The options as given; None: not given."""

    json: bool = False
    file: Path | None = None
    socket: Path | None = None
    url: str | None = None
    token: str | None = None
    node: str | None = None

    @property
    def named_file(self) -> Path | None:
        """The network file named by option or variable; None if none is."""
        variable = os.environ.get("MODVISOR_FILE")
        return self.file or (Path(variable) if variable else None)

    @property
    def named_node(self) -> str | None:
        """The node of a cluster named by option or variable; None if none is."""
        return self.node or os.environ.get("MODVISOR_NODE") or None

    @property
    def network_file(self) -> Path:
        return self.named_file or Path(DEFAULT_FILE)
