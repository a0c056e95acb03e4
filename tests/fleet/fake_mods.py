"""Mods that are only looked at: what the pure parts of the fleet read of a mod, and nothing behind it."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

from modvisor.ipc.event import Event
from modvisor.supervisor.calls.counters import ModCounters
from modvisor.supervisor.calls.journey import Journey
from modvisor.supervisor.config import ModConfig, mod_config
from modvisor.supervisor.lifecycle.states import State


def config(mod_id: str, **entry: Any) -> ModConfig:
    return mod_config(f"pkg.{mod_id.partition('@')[0]}", base_dir=Path("/"), mod_id=mod_id, **entry)


def fake_mod(
    mod_id: str, *, version: str = "1.0", state: State = State.READY, patterns: tuple[str, ...] = ("a.*",), **entry: Any
) -> Any:
    mod = SimpleNamespace(mod_id=mod_id, config=config(mod_id, **entry), state=state, counters=ModCounters())
    mod.manifest = SimpleNamespace(version=version, patterns=patterns, observes=(), description="a mod")
    mod.audience, mod.promoted, mod.is_member = mod.config.audience, 0, True
    mod.incarnation, mod.loaded_at, mod.last_error = None, 1.0, None
    mod.keepers = [mod]
    return Hashable(mod)


class Hashable:
    """A namespace that may be a key, as a mod may."""

    def __init__(self, namespace: SimpleNamespace) -> None:
        self.__dict__.update(vars(namespace))
        self.keepers = [self]


def journey(source: str, destination: str = "mod:wiki") -> Journey:
    return Journey(Event("a.b", source, destination), deadline=0.0)
