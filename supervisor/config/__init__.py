"""What a network file, a mod's entry and a `mod.yaml` may say: read and checked, every mistake at once.

May import: `ipc`.
Never: looks at a mod's code, starts anything, or writes a file.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..faces import lazily

if TYPE_CHECKING:
    from .audience import Audience, Split, Version, family_of
    from .audience_values import misfit, read_audience, too_much
    from .config import (
        AT_LEAST_ONCE,
        FORK,
        STOP_FIRST,
        AgentsConfig,
        GroupConfig,
        JournalConfig,
        LimitsConfig,
        ModConfig,
        NetworkConfig,
        RestartConfig,
        is_allowed,
        load_config,
        parse_config,
    )
    from .mod_entry import BUNDLED, fingerprint, mod_config, with_aliases, with_bundled_permissions, with_changes
    from .mod_file import NAME, ModFile, keys_of, read_mod_file, settled
    from .values import AUTO, Place, duration, path
    from .versions import Requirement, WrongVersion, check, in_order, matching, newest_final, parsed, same
    from .yaml_source import BROKEN, ConfigError, Problem, Source, load_yaml
else:  # hidden from type checkers, which would take any name for one of the room
    __getattr__ = lazily(
        __name__,
        audience="Audience Split Version family_of",
        audience_values="misfit read_audience too_much",
        config=(
            "AT_LEAST_ONCE AgentsConfig FORK GroupConfig JournalConfig LimitsConfig ModConfig NetworkConfig "
            "RestartConfig STOP_FIRST is_allowed load_config parse_config"
        ),
        mod_entry="BUNDLED fingerprint mod_config with_aliases with_bundled_permissions with_changes",
        mod_file="ModFile NAME keys_of read_mod_file settled",
        values="AUTO Place duration path",
        versions="Requirement WrongVersion check in_order matching newest_final parsed same",
        yaml_source="BROKEN ConfigError Problem Source load_yaml",
    )
