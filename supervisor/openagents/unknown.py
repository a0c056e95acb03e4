"""What the face says of a name that it does not have."""

from __future__ import annotations

from typing import Any, NoReturn


class Named:
    """An object of the face: a name that it lacks is an error which says where the names are listed."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # probes of Python's own: copy, pickle, inspect
            raise AttributeError(name)
        _refuse(type(self).__name__, name)


def _refuse(kind: str, name: str) -> NoReturn:
    raise AttributeError(
        f"{kind} of modvisor.openagents has no {name!r}; docs/openagents.md lists the names that work here"
    )
