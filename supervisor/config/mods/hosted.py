"""What mods of other frameworks may do without a line of config.

Their worker says which framework a mod is of (`Manifest.host`). What its entry says of ``speak_for``
and ``permissions`` rules, also an empty list.
"""

from __future__ import annotations

from dataclasses import replace

from ....ipc.address import AGENT
from ....ipc.manifest import OPENAGENTS
from .mod import ModConfig

# Its mods relay what agents say in the agents' names, and put agents into channels.
_USUAL: dict[str, dict[str, frozenset[str]]] = {
    OPENAGENTS: {"speak_for": frozenset({f"{AGENT}:*"}), "permissions": frozenset({"channels"})}
}

_KEYS = frozenset(key for usual in _USUAL.values() for key in usual)


def as_host_says(config: ModConfig, host: str | None) -> ModConfig:
    """Return a mod's config with what the mods of its framework may do; None: a mod of modvisor."""
    usual = None if host is None else _USUAL.get(host)
    if usual is None:
        return config
    more = {key: getattr(config, key) | granted for key, granted in usual.items() if key not in config.given}
    return replace(config, host=host, asked=config.as_asked, **more)


def host_given(config: ModConfig) -> frozenset[str]:
    """Return the given keys that override what the mods of a framework may do."""
    return config.given & _KEYS
