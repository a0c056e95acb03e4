"""All mods of a network: which are loaded, who needs whom, versions and audiences, routes, figures.

May import: the rooms below it and `ipc`.
Never: handles an event itself, and never speaks HTTP.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..faces import lazily

if TYPE_CHECKING:
    from .audiences import Audiences
    from .autoreload import Autoreload, Saved
    from .commands import ModCommands
    from .families import NotInAudience
    from .forecast import unmet_requirements
    from .loading import Loading
    from .monitor import ResourceMonitor
    from .read_models import Health, LoadedMod, ModStats, NetworkStats, Reach, Resources, SupervisorStats, WorkerStats
    from .reconfigure import Changes, apply_changes
    from .registry import ModRegistry
    from .restored import ModRecords
    from .router import Entry
    from .stats import NetworkView, agent_directory, describe_mods, health, loaded_mods, network_stats, resources
    from .upkeep import ModUpkeep
    from .workers import Mod
else:  # hidden from type checkers, which would take any name for one of the room
    __getattr__ = lazily(
        __name__,
        audiences="Audiences",
        autoreload="Autoreload Saved",
        commands="ModCommands",
        families="NotInAudience",
        forecast="unmet_requirements",
        loading="Loading",
        monitor="ResourceMonitor",
        read_models="Health LoadedMod ModStats NetworkStats Reach Resources SupervisorStats WorkerStats",
        reconfigure="Changes apply_changes",
        registry="ModRegistry",
        restored="ModRecords",
        router="Entry",
        stats="NetworkView agent_directory describe_mods health loaded_mods network_stats resources",
        upkeep="ModUpkeep",
        workers="Mod",
    )
