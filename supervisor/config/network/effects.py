"""What a change of each key of the network file does to a network that runs.

`EFFECTS` has every key of the file once. A key that it lacks counts as one that needs a restart, so
that a change is never reported as done when it is not; a test refuses such a key.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from enum import StrEnum
from typing import Any

from ..values.keys import ConfigKey, key_of
from .network import NetworkConfig


class Effect(StrEnum):
    """What a running network does with a changed key."""

    NOW = "applied now"
    MODS = "reloads these mods"
    RESTART = "needs a restart"


TOP = "the file"

_QUOTA = "events_per_second bytes_per_second subscriptions inbox_size inbox_bytes"

_TABLE: Mapping[str, Mapping[Effect, str]] = {
    TOP: {Effect.NOW: "allowed_mods redact"},
    "network": {
        Effect.NOW: "spares",
        Effect.RESTART: (
            "name id host port insecure event_timeout polling event_loop log_format scheduling storage mod_paths watch cgroups "
            "preload preload_timeout sandbox sandbox_fallback sandbox_uids"
        ),
    },
    "network.tls": {Effect.RESTART: "cert key client_ca client_required"},
    "mods[]": {
        Effect.MODS: (
            "path name id enabled required config permissions speak_for delivery max_attempts suspects "
            "durable checkpoint_every workers partition_by overlap reload launch probation aliases watch version paths python "
            "command requires optional sandbox_fallback"
        ),
    },
    "mods[].env.NAME": {Effect.MODS: "from"},
    "mods[].audience": {Effect.NOW: "percent groups agents"},
    "mods[].limits": {
        Effect.MODS: (
            "concurrency queue queue_bytes observe_queue event_timeout start_timeout hang_timeout drain_timeout "
            "shutdown_timeout term_timeout unload_timeout memory memory_soft disk cpu cpu_yield cpu_seconds open_files "
            "processes threads log_rate"
        ),
    },
    "mods[].sandbox": {Effect.MODS: "profile processes files network exec syscalls user read write tmp"},
    "mods[].placement": {Effect.MODS: "on spread", Effect.RESTART: "copies"},
    "mods[].restart": {
        Effect.MODS: "policy max_restarts window first_delay max_delay healthy_after probe_after",
    },
    "agent_groups.NAME": {
        Effect.NOW: "permissions password_hash description metadata send receive directory may_register"
    },
    "agent_groups.NAME.quota": {Effect.NOW: _QUOTA},
    "agents": {
        Effect.NOW: (
            "inbox_size inbox_policy expire_after max_agents max_channels channels_per_agent default_group requires_password "
            "inbox_bytes metadata_bytes guest_share guests_per_address guest_inbox_bytes guest_return kick_cooldown "
            "wrong_passwords password_delay password_delay_max subscriptions patterns all_patterns registration "
            "reserved directory password_queue max_invites"
        ),
    },
    "agents.guests": {Effect.NOW: "send receive directory"},
    "agents.guests.quota": {Effect.NOW: _QUOTA},
    "http": {
        Effect.NOW: (
            "trusted_proxies trusted_addresses hosts origins connections connections_per_address connections_per_agent "
            "stranger_timeout stranger_share guest_share header_timeout body_timeout keep_alive stop_timeout min_rate "
            "anonymous_body bodies json_values ws_ping ws_credit ws_in_flight"
        ),
    },
    "relay": {Effect.RESTART: "connections connect_timeout idle_timeout"},
    "admin": {Effect.NOW: "remote", Effect.RESTART: "token"},
    "dashboard": {Effect.NOW: "enabled session sessions link_age live_streams ways"},
    "journal": {
        Effect.RESTART: (
            "sync dead_letters dead_letter_bytes dead_letter_age durable_events durable_bytes checkpoint_bytes "
            "file_bytes mod_files_bytes mod_files crash_reports crash_report_bytes crash_report_age stats_every "
            "answer_bytes answer_age"
        ),
    },
    "audit": {
        Effect.NOW: "mode refused_bytes",
        Effect.RESTART: "file_bytes files key_file syslog",
    },
    "metrics": {Effect.NOW: "public cache"},
    "tracing": {Effect.RESTART: "otlp sample follow per_second queue"},
    "cluster": {
        Effect.RESTART: (
            "servers node network secret credentials nkey user password labels lease replicas wait timeout max_payload "
            "inboxes allow_mixed"
        ),
    },
    "cluster.tls": {Effect.RESTART: "ca cert key"},
    "cluster.nodes.NAME": {Effect.RESTART: "labels host port"},
    "logs": {Effect.RESTART: "max_bytes backups"},
}

EFFECTS: Mapping[str, Effect] = {
    f"{section}.{name}": effect
    for section, effects in _TABLE.items()
    for effect, names in effects.items()
    for name in names.split()
}
"""The effect of each key, by its section in docs/config.md and its name: ``agents.max_agents``."""

ORDER = "mods (order)"
"""How a change of the order of the mods is named. It is applied now."""

_ENTRIES = "mods"  # compared with the mods that run, see `modvisor.supervisor.fleet.commands.reconfigure`


@dataclass(frozen=True, slots=True)
class ChangedKey:
    """A key whose value differs. ``name`` is as in the file; keys of ``network`` stand alone."""

    name: str
    effect: Effect


def changed_keys(old: NetworkConfig, new: NetworkConfig) -> list[ChangedKey]:
    """Return the keys whose values differ, in the order of the fields, without those of mods."""
    found: list[ChangedKey] = []
    for field_name, key in _keys(new):
        if key.name != _ENTRIES:
            found += _differences(_place(key), key.name, getattr(old, field_name), getattr(new, field_name))
    return found


def in_force(old: NetworkConfig, new: NetworkConfig) -> NetworkConfig:
    """Return ``new`` as far as it takes effect without a restart."""
    taken = {
        field_name: _in_force(_place(key), getattr(old, field_name), getattr(new, field_name))
        for field_name, key in _keys(new)
        if key.name != _ENTRIES
    }
    return replace(new, base_dir=old.base_dir, **taken)


def names_by_effect(effect: Effect) -> list[str]:
    """Return the keys with this effect; a section whose keys all have it stands for them."""
    named = [ORDER] if effect is Effect.NOW else []
    for section, effects in _TABLE.items():
        if section != TOP and effects.keys() == {effect}:
            named.append(section)
        else:
            named += [name if section == TOP else f"{section}.{name}" for name in effects.get(effect, "").split()]
    return named


def _effect(place: str) -> Effect:
    return EFFECTS.get(place, EFFECTS.get(f"{TOP}.{place}", Effect.RESTART))


def _keys(config: Any) -> Iterator[tuple[str, ConfigKey]]:
    """Return the keys of a dataclass with the names of their fields."""
    for each in fields(config):
        if (key := key_of(each)) is not None:
            yield each.name, key


def _place(key: ConfigKey) -> str:
    return f"{key.section}.{key.name}" if key.section else key.name


def _differences(place: str, name: str, before: Any, after: Any) -> Iterator[ChangedKey]:
    """Return what differs: a key, keys of a section, or named sections such as groups."""
    if before == after:
        return
    if is_dataclass(before) and is_dataclass(after) and any(_keys(after)):
        for field_name, key in _keys(after):
            values = getattr(before, field_name), getattr(after, field_name)
            yield from _differences(f"{place}.{key.name}", f"{name}.{key.name}", *values)
    elif isinstance(before, dict) and isinstance(after, dict) and place not in EFFECTS:
        for part in [*after, *(before.keys() - after.keys())]:
            if part in before and part in after:
                yield from _differences(f"{place}.NAME", f"{name}.{part}", before[part], after[part])
            else:
                yield ChangedKey(f"{name}.{part}", _effect_of_all(f"{place}.NAME"))
    else:
        yield ChangedKey(name, _effect(place))


def _effect_of_all(section: str) -> Effect:
    """Return the effect of adding or removing a whole section."""
    effects = set(_TABLE.get(section, {}))
    return effects.pop() if len(effects) == 1 else Effect.RESTART


def _in_force(place: str, before: Any, after: Any) -> Any:
    if is_dataclass(before) and is_dataclass(after) and any(_keys(after)):
        taken = {
            field_name: _in_force(f"{place}.{key.name}", getattr(before, field_name), getattr(after, field_name))
            for field_name, key in _keys(after)
        }
        return replace(after, **taken)  # type: ignore[type-var]
    if isinstance(before, dict) and isinstance(after, dict) and place not in EFFECTS:
        return after if _effect_of_all(f"{place}.NAME") is Effect.NOW else before
    return after if _effect(place) is Effect.NOW else before
