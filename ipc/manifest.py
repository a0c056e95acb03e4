"""What a mod says of itself: the worker reports it in the handshake, and the core checks and routes by it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from .errors import InvalidEvent, RemoteProtocolError
from .topic import check_pattern

MAX_ENFORCED = 20
MAX_PATTERNS = 1000  # a mod's table of handlers, not a place for data


@dataclass(frozen=True, slots=True)
class Manifest:
    """A mod as its worker found it.

    Attributes:
        mod_class: ``module:Class``.
        version, description: the class attributes of that name.
        patterns: event patterns the mod handles, in the order of their handlers.
        observes: patterns it gets copies of.
        file: the file the class stands in.
        resumable: whether it can be deactivated and activated again: it opens nothing exclusive, or lets go of it.
        enforced: limits that hold for the process itself, by the means that does it: ``{"memory": "RLIMIT_DATA", …}``.
    """

    mod_class: str
    version: str
    description: str
    patterns: tuple[str, ...]
    observes: tuple[str, ...]
    file: str
    resumable: bool = False
    enforced: dict[str, str] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        return {
            "mod_class": self.mod_class,
            "version": self.version,
            "description": self.description,
            "patterns": list(self.patterns),
            "observes": list(self.observes),
            "file": self.file,
            "resumable": self.resumable,
            "enforced": dict(self.enforced),
        }

    @classmethod
    def from_dict(cls, data: Any) -> Manifest:
        """Check what a worker sent; raises `RemoteProtocolError`."""
        match data:
            case {
                "mod_class": str(mod_class),
                "version": str(version),
                "description": str(description),
                "patterns": list(patterns),
                "observes": list(observes),
                "file": str(file),
            }:
                return cls(
                    mod_class[:1000],
                    version[:64],
                    description[:1000],
                    _patterns(patterns),
                    _patterns(observes),
                    file[:4096],
                    data.get("resumable") is True,
                    _enforced(data.get("enforced")),
                )  # fmt: skip
        raise RemoteProtocolError(
            "manifest: expected {mod_class, version, description, file: text, patterns, observes: lists of patterns}"
        )


def _enforced(value: Any) -> dict[str, str]:
    """A word of a stranger that only people read: what is no such word is left out."""
    pairs = list(value.items())[:MAX_ENFORCED] if isinstance(value, dict) else []
    return {key[:64]: means[:64] for key, means in pairs if isinstance(key, str) and isinstance(means, str)}


def _patterns(values: list[Any]) -> tuple[str, ...]:
    if len(values) > MAX_PATTERNS:
        raise RemoteProtocolError(f"manifest: {len(values)} patterns; the cap is {MAX_PATTERNS}")
    try:
        return tuple(check_pattern(value) for value in values)
    except InvalidEvent as error:
        raise RemoteProtocolError(f"manifest: {error}") from None
