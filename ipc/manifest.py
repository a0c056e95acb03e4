"""The manifest of a mod: its worker reports it, the core checks it and routes by it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from .errors import InvalidEvent, RemoteProtocolError
from .topic import check_pattern

MAX_ENFORCED = 20
MAX_PATTERNS = 1000  # enough for any mod's handlers; patterns are not a place for data

OPENAGENTS = "openagents"
"""The `Manifest.host` of mods of OpenAgents."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """A mod as its worker loaded it.

    Attributes:
        mod_class: ``module:Class``.
        version, description: the class attributes of that name.
        patterns: patterns of the events that the mod handles, in the order of its handlers.
        observes: patterns of the events that it gets copies of.
        file: the file that defines the class.
        resumable: whether it can be deactivated and activated again: it opens nothing exclusive, or
            closes it in deactivate().
        side_by_side: whether another process of the mod may handle events beside this one: it opens
            nothing in activate(), and its answers depend on nothing that only one process knows.
        host: which framework's mod it is, such as `OPENAGENTS`; None: one of modvisor.
        enforced: which limits the process itself enforces, and the means: ``{"memory":
            "RLIMIT_DATA", …}``.
    """

    mod_class: str
    version: str
    description: str
    patterns: tuple[str, ...]
    observes: tuple[str, ...]
    file: str
    resumable: bool = False
    side_by_side: bool = False
    host: str | None = None
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
            "side_by_side": self.side_by_side,
            "host": self.host,
            "enforced": dict(self.enforced),
        }

    @classmethod
    def from_dict(cls, data: Any) -> Manifest:
        """Build a manifest from what a worker sent; raise `RemoteProtocolError`."""
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
                    data.get("side_by_side") is True,
                    _host(data.get("host")),
                    _enforced(data.get("enforced")),
                )  # fmt: skip
        raise RemoteProtocolError(
            "manifest: expected {mod_class, version, description, file: text, patterns, observes: lists of patterns}"
        )


def _host(value: Any) -> str | None:
    """Return the name of a framework. A name that is none is dropped: only known names mean anything."""
    return value[:64] if isinstance(value, str) and value else None


def _enforced(value: Any) -> dict[str, str]:
    """Return the pairs of text. Only people read them, so others are dropped, not refused."""
    pairs = list(value.items())[:MAX_ENFORCED] if isinstance(value, dict) else []
    return {key[:64]: means[:64] for key, means in pairs if isinstance(key, str) and isinstance(means, str)}


def _patterns(values: list[Any]) -> tuple[str, ...]:
    if len(values) > MAX_PATTERNS:
        raise RemoteProtocolError(f"manifest: {len(values)} patterns; the cap is {MAX_PATTERNS}")
    try:
        return tuple(check_pattern(value) for value in values)
    except InvalidEvent as error:
        raise RemoteProtocolError(f"manifest: {error}") from None
