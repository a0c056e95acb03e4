"""What a network file, a mod's entry and a `mod.yaml` may say. Reports every mistake at once.

Each key is a field in `mod_model`, `agents_model`, `http_model` or `network_model`, with its
default, reader and meaning. `mod_entry` reads the entries of mods, and `network_file` reads the
whole file. `reference` prints the tables of docs/config.md.

May import: `ipc`.
Never: looks at a mod's code, starts anything, or writes a file.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..faces import lazily

if TYPE_CHECKING:
    from .address_values import IPNetwork
    from .agents_model import ALL, CLOSED, GROUP, GROUP_PASSWORD, INVITE, OPEN, AgentsConfig, GroupConfig, QuotaConfig
    from .audience import Audience, FamilyVersion, Split, family_of
    from .audience_values import misfit, read_audience, shares_over_100
    from .audit_model import BEST_EFFORT, NO_AUDIT, STRICT, AuditConfig
    from .cluster_model import ClusterConfig, ClusterTlsConfig, NodeConfig
    from .dashboard_model import DashboardConfig
    from .effects import ORDER, Effect, changed_keys, in_force
    from .env_values import EnvValue, is_sha256
    from .host_values import HostRule, parsed_host
    from .hosted import as_host_says, host_given
    from .http_model import HttpConfig
    from .mod_entry import (
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
    from .mod_file import MOD_FILE_NAME, ModFile, mod_file_given, mod_file_keys, read_mod_file, with_mod_file
    from .mod_model import (
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
    from .name_values import is_agent_pattern
    from .network_file import at_node, check_open, is_allowed, load_config, parse_config, read_data
    from .network_model import JSON, AdminConfig, JournalConfig, NetworkConfig
    from .node_folder import CLUSTER, NODES
    from .placement_model import ALL_NODES, PlacementConfig
    from .port_urls import port_url
    from .reader import Location, hint
    from .redaction import Redaction, redacted_in
    from .relay_model import RelayConfig
    from .sandbox_model import Sandbox, resolved_sandbox
    from .schemas import schema_text
    from .tls_model import TlsConfig, bare_bind
    from .tracing_model import TracingConfig
    from .values import AUTO, absolute_path, duration
    from .versions import (
        Requirement,
        WrongVersion,
        check_version,
        matching_version,
        newest_final_version,
        parse_version,
        same_version,
        versions_in_order,
    )
    from .yaml_source import BROKEN, ConfigError, Problem, Source, load_yaml
else:  # hidden from type checkers, which would take any name for one of the room
    __getattr__ = lazily(
        __name__,
        address_values="IPNetwork",
        agents_model="ALL AgentsConfig CLOSED GROUP GROUP_PASSWORD GroupConfig INVITE OPEN QuotaConfig",
        audience="Audience FamilyVersion Split family_of",
        audience_values="misfit read_audience shares_over_100",
        audit_model="AuditConfig BEST_EFFORT NO_AUDIT STRICT",
        cluster_model="ClusterConfig ClusterTlsConfig NodeConfig",
        dashboard_model="DashboardConfig",
        effects="Effect ORDER changed_keys in_force",
        env_values="EnvValue is_sha256",
        host_values="HostRule parsed_host",
        hosted="as_host_says host_given",
        http_model="HttpConfig",
        mod_entry=(
            "BUNDLED ENTRY_KEYS entry_hash fingerprint is_as_quarantined is_entry mod_config with_aliases "
            "with_bundled_permissions with_changes"
        ),
        mod_file="MOD_FILE_NAME ModFile mod_file_given mod_file_keys read_mod_file with_mod_file",
        mod_model="AT_LEAST_ONCE BESIDE FORK LimitsConfig ModConfig PlaceOf RestartConfig SIDE_BY_SIDE STOP_FIRST",
        name_values="is_agent_pattern",
        network_file="at_node check_open is_allowed load_config parse_config read_data",
        network_model="AdminConfig JSON JournalConfig NetworkConfig",
        node_folder="CLUSTER NODES",
        placement_model="ALL_NODES PlacementConfig",
        port_urls="port_url",
        reader="Location hint",
        redaction="Redaction redacted_in",
        relay_model="RelayConfig",
        sandbox_model="Sandbox resolved_sandbox",
        schemas="schema_text",
        tls_model="TlsConfig bare_bind",
        tracing_model="TracingConfig",
        values="AUTO absolute_path duration",
        versions=(
            "Requirement WrongVersion check_version matching_version newest_final_version parse_version "
            "same_version versions_in_order"
        ),
        yaml_source="BROKEN ConfigError Problem Source load_yaml",
    )
