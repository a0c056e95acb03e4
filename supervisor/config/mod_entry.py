"""A mod's entry as it is asked for while the network runs, and what of it outlives that."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from ...ipc.address import check_mod_path, mod_id_of
from .config import ModConfig, parse_mod

BUNDLED: dict[str, frozenset[str]] = {
    "modvisor.mods.workspace.wiki": frozenset(),
    "modvisor.mods.workspace.project": frozenset(),
    # puts agents into channels on their behalf
    "modvisor.mods.workspace.messaging": frozenset({"channels"}),
    "modvisor.mods.workspace.analytics": frozenset(),
}
"""The bundled mods by mod_path, each with the permissions it has without a line of config."""


def mod_config(
    mod_path: str,
    *,
    base_dir: Path,
    mod_id: str | None = None,
    config: dict[str, Any] | None = None,
    dependency: bool = False,
    **more: Any,
) -> ModConfig:
    """A `ModConfig` for a load at runtime; raises `ConfigError` or `InvalidId`.

    Args:
        dependency: it is loaded only because another mod requires it.
    """
    check_mod_path(mod_path)
    data = {
        "path": mod_path,
        "id": mod_id or mod_id_of(mod_path),
        **({} if config is None else {"config": config}),
        **more,
    }
    spec = {key: value for key, value in data.items() if key not in ("path", "id")}
    if dependency:
        spec["dependency"] = True
    return with_bundled_permissions(replace(parse_mod(data, base_dir=base_dir), spec=spec, dependency=dependency))


def with_bundled_permissions(mod: ModConfig) -> ModConfig:
    """Bundled mods are part of modvisor and get what they need; any other mod gets what its config grants."""
    granted = BUNDLED.get(mod.path, frozenset())
    return replace(mod, permissions=mod.permissions | granted) if granted - mod.permissions else mod


def with_changes(mod: ModConfig, *, path: str | None = None, config: dict[str, Any] | None = None) -> ModConfig:
    """The same mod from another mod_path, or with another free-form part, if they are given. Raises `InvalidEvent`."""
    asked = mod.as_asked if path is not None or config is not None else mod
    if path is not None:
        check_mod_path(path)
        asked = with_bundled_permissions(replace(asked, path=path))
    if config is not None:
        asked = replace(asked, config=config, spec=None if asked.spec is None else {**asked.spec, "config": config})
    return asked


def with_aliases(mod: ModConfig, more: Iterable[str]) -> ModConfig:
    """The same mod, called by other ids too."""
    aliases = mod.aliases | frozenset(more) - {mod.mod_id}
    return replace(mod, aliases=aliases, spec=None if mod.spec is None else {**mod.spec, "aliases": sorted(aliases)})


def fingerprint(config: ModConfig) -> str:
    """Whether two configs of a mod ask for the same: a mod whose entry was changed is given another chance."""
    asked = replace(config.as_asked, spec=None, asked=None, given=frozenset(), audience=None)
    plain = json.dumps(asdict(asked), sort_keys=True, default=_plain)
    return hashlib.sha256(plain.encode()).hexdigest()


def _plain(value: Any) -> Any:
    return sorted(value) if isinstance(value, frozenset) else str(value)
