"""The tables of keys in docs/config.md, printed from the dataclasses that hold the keys.

The page has a marker for each table; `printed` fills in what stands between marker and end.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from ..mods.audience import Audience
from ..mods.entry import ENTRY_KEYS
from ..mods.mod import LimitsConfig, RestartConfig
from ..mods.mod_file import MOD_FILE_READERS
from ..mods.placement import PlacementConfig
from ..mods.sandbox import SandboxConfig
from ..network.effects import Effect, names_by_effect
from ..network.network import AdminConfig, JournalConfig, LogConfig, NetworkConfig
from ..network.network_file import TOP_KEYS
from ..sections.agents import AgentsConfig, GroupConfig, GuestsConfig, QuotaConfig
from ..sections.audit import AuditConfig
from ..sections.cluster import ClusterConfig, ClusterTlsConfig, NodeConfig
from ..sections.dashboard import DashboardConfig
from ..sections.http import HttpConfig
from ..sections.metrics import MetricsConfig
from ..sections.relay import RelayConfig
from ..sections.tls import TlsConfig
from ..sections.tracing import TracingConfig
from ..values.env import FROM_KEYS
from ..values.keys import ConfigKey, keys_of

TABLES: dict[str, dict[str, ConfigKey]] = {
    "the file": TOP_KEYS,
    "network": keys_of(NetworkConfig, "network"),
    "network.tls": keys_of(TlsConfig),
    "mods[]": ENTRY_KEYS,
    "mods[].env.NAME": FROM_KEYS,
    "mods[].audience": keys_of(Audience),
    "mods[].limits": keys_of(LimitsConfig),
    "mods[].restart": keys_of(RestartConfig),
    "mods[].sandbox": keys_of(SandboxConfig),
    "mods[].placement": keys_of(PlacementConfig),
    "agent_groups.NAME": keys_of(GroupConfig),
    "agent_groups.NAME.quota": keys_of(QuotaConfig),
    "agents": keys_of(AgentsConfig),
    "agents.guests": keys_of(GuestsConfig),
    "agents.guests.quota": keys_of(QuotaConfig),
    "http": keys_of(HttpConfig),
    "relay": keys_of(RelayConfig),
    "admin": keys_of(AdminConfig),
    "dashboard": keys_of(DashboardConfig),
    "journal": keys_of(JournalConfig),
    "audit": keys_of(AuditConfig),
    "metrics": keys_of(MetricsConfig),
    "tracing": keys_of(TracingConfig),
    "cluster": keys_of(ClusterConfig),
    "cluster.tls": keys_of(ClusterTlsConfig),
    "cluster.nodes.NAME": keys_of(NodeConfig),
    "logs": keys_of(LogConfig),
}
"""The sections of a network file, each with its keys."""

MOD_FILE, CHANGES = "a mod.yaml", "a change"
"""What else of the page is printed: the keys of a mod.yaml, and what a change of a key does."""

_MARKED = re.compile(r"(<!-- keys of ([^:\n]+): printed by make docs -->\n)(.*?)(<!-- end -->)", re.DOTALL)


def printed(page: str) -> str:
    """Return the text of docs/config.md with its tables printed anew."""
    return _MARKED.sub(lambda found: found[1] + _block(found[2]) + found[4], page)


def marked(page: str) -> list[str]:
    """Return the names of the tables that the page has a marker for."""
    return [found[2] for found in _MARKED.finditer(page)]


def _block(name: str) -> str:
    if name == MOD_FILE:
        return ", ".join(f"`{key}`" for key in MOD_FILE_READERS) + ".\n"
    if name == CHANGES:
        return _effects()
    return table(TABLES[name].values())


def _effects() -> str:
    """Return a Markdown table of what a change of each key does; names a section that has one effect once."""
    rows = [(effect.value, ", ".join(f"`{name}`" for name in names_by_effect(effect))) for effect in Effect]
    return _table([("a change", "of"), *rows])


def table(keys: Iterable[ConfigKey]) -> str:
    """Return a Markdown table of keys."""
    rows = [(f"`{each.name}`", each.reader.accepts, each.default_text, each.doc) for each in keys]
    return _table([("key", "type", "default", "meaning"), *rows])


def _table(rows: list[tuple[str, ...]]) -> str:
    lines = [rows[0], ("---",) * len(rows[0]), *rows[1:]]
    return "".join(f"| {' | '.join(map(_escaped, line))} |\n" for line in lines)


def _escaped(cell: str) -> str:
    return cell.replace("|", r"\|")
