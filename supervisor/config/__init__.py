"""What a network file, a mod's entry and a `mod.yaml` may say. Reports every mistake at once.

Each key is a field of a dataclass in `sections`, `mods` or `network`, with its default, reader and meaning.

May import: `ipc`. Its own rooms, from the ground up: `node_folder.py`, `port_urls.py`, `yaml`, `values`, `sections`,
`mods`, `redaction.py`, `network`, `printed`.
Never: looks at a mod's code, starts anything, or writes a file.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..faces import lazily

if TYPE_CHECKING:
    from .mods.audience import Audience, FamilyVersion, Split, family_of
    from .mods.audience_reader import misfit, read_audience, shares_over_100
    from .mods.entry import (
        BUNDLED,
        ENTRY_KEYS,
        entry_hash,
        fingerprint,
        is_as_quarantined,
        is_entry,
        mod_config,
        with_aliases,
        with_bundled_permissions,
        with_changes,
    )
    from .mods.hosted import as_host_says, host_given
    from .mods.mod import (
        AT_LEAST_ONCE,
        BESIDE,
        FORK,
        SIDE_BY_SIDE,
        STOP_FIRST,
        LimitsConfig,
        ModConfig,
        PlaceOf,
        RestartConfig,
    )
    from .mods.mod_file import MOD_FILE_NAME, ModFile, mod_file_given, mod_file_keys, read_mod_file, with_mod_file
    from .mods.placement import ALL_NODES, PlacementConfig
    from .mods.sandbox import Sandbox, resolved_sandbox
    from .network.effects import ORDER, Effect, changed_keys, in_force
    from .network.network import JSON, AdminConfig, JournalConfig, NetworkConfig
    from .network.network_file import at_node, check_open, is_allowed, load_config, parse_config, read_data
    from .node_folder import CLUSTER, NODES
    from .port_urls import port_url
    from .printed.schemas import schema_text
    from .redaction import Redaction, redacted_in
    from .sections.agents import (
        ALL,
        CLOSED,
        GROUP,
        GROUP_PASSWORD,
        INVITE,
        OPEN,
        AgentsConfig,
        GroupConfig,
        QuotaConfig,
    )
    from .sections.audit import BEST_EFFORT, NO_AUDIT, STRICT, AuditConfig
    from .sections.cluster import ClusterConfig, ClusterTlsConfig, NodeConfig
    from .sections.dashboard import DashboardConfig
    from .sections.http import HttpConfig
    from .sections.relay import RelayConfig
    from .sections.tls import TlsConfig, bare_bind
    from .sections.tracing import TracingConfig
    from .values.addresses import IPNetwork
    from .values.basic import AUTO, absolute_path, duration
    from .values.env import EnvValue, is_sha256
    from .values.hosts import HostRule, parsed_host
    from .values.names import is_agent_pattern
    from .values.reader import Location, hint
    from .values.versions import (
        Requirement,
        WrongVersion,
        check_version,
        matching_version,
        newest_final_version,
        parse_version,
        same_version,
        versions_in_order,
    )
    from .yaml.source import BROKEN, ConfigError, Problem, Source, load_yaml
else:  # hidden from type checkers, which would take any name for one of the room
    __getattr__ = lazily(
        __name__,
        {
            "mods.audience": "Audience FamilyVersion Split family_of",
            "mods.audience_reader": "misfit read_audience shares_over_100",
            "mods.entry": (
                "BUNDLED ENTRY_KEYS entry_hash fingerprint is_as_quarantined is_entry mod_config with_aliases "
                "with_bundled_permissions with_changes"
            ),
            "mods.hosted": "as_host_says host_given",
            "mods.mod": (
                "AT_LEAST_ONCE BESIDE FORK LimitsConfig ModConfig PlaceOf RestartConfig SIDE_BY_SIDE STOP_FIRST"
            ),
            "mods.mod_file": "MOD_FILE_NAME ModFile mod_file_given mod_file_keys read_mod_file with_mod_file",
            "mods.placement": "ALL_NODES PlacementConfig",
            "mods.sandbox": "Sandbox resolved_sandbox",
            "network.effects": "Effect ORDER changed_keys in_force",
            "network.network": "AdminConfig JSON JournalConfig NetworkConfig",
            "network.network_file": "at_node check_open is_allowed load_config parse_config read_data",
            "printed.schemas": "schema_text",
            "sections.agents": "ALL AgentsConfig CLOSED GROUP GROUP_PASSWORD GroupConfig INVITE OPEN QuotaConfig",
            "sections.audit": "AuditConfig BEST_EFFORT NO_AUDIT STRICT",
            "sections.cluster": "ClusterConfig ClusterTlsConfig NodeConfig",
            "sections.dashboard": "DashboardConfig",
            "sections.http": "HttpConfig",
            "sections.relay": "RelayConfig",
            "sections.tls": "TlsConfig bare_bind",
            "sections.tracing": "TracingConfig",
            "values.addresses": "IPNetwork",
            "values.basic": "AUTO absolute_path duration",
            "values.env": "EnvValue is_sha256",
            "values.hosts": "HostRule parsed_host",
            "values.names": "is_agent_pattern",
            "values.reader": "Location hint",
            "values.versions": (
                "Requirement WrongVersion check_version matching_version newest_final_version parse_version "
                "same_version versions_in_order"
            ),
            "yaml.source": "BROKEN ConfigError Problem Source load_yaml",
        },
        node_folder="CLUSTER NODES",
        port_urls="port_url",
        redaction="Redaction redacted_in",
    )
