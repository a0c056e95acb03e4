"""``modvisor version`` and ``modvisor --version``."""

from __future__ import annotations

import platform

from ....ipc import __version__
from ..settings import Settings
from ..terminal.output import Output


def version(settings: Settings) -> None:
    """Print the version of modvisor and of its Python."""
    Output(as_json=settings.json).document(_found(), lambda: print(version_text()))


def version_text() -> str:
    """Return the versions as one line."""
    found = _found()
    return f"modvisor {found['modvisor']} (Python {found['python']}, {found['platform']})"


def _found() -> dict[str, str]:
    return {"modvisor": __version__, "python": platform.python_version(), "platform": platform.platform()}
