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
    from .claims import Claim
    from .commands import ModCommands
    from .copies import CopyGroup, part_id, part_of, parts_of
    from .elsewhere import Asking, ModElsewhere
    from .everywhere import Everywhere, SeenRow
    from .families import NotInAudience
    from .forecast import unmet_requirements
    from .history import EVERY, History
    from .kept import divide
    from .loading import Loading
    from .monitor import ResourceMonitor
    from .orders import LocalOrders, Orders
    from .plans import Plans
    from .read_models import (
        Health,
        LoadedMod,
        ModStats,
        NetworkStats,
        Plan,
        Reach,
        Readiness,
        Resources,
        SupervisorStats,
        VersionStats,
        WorkerStats,
    )
    from .reconfigure import Changes, differs
    from .registry import ModRegistry
    from .restored import ModRecords
    from .router import Entry
    from .rows import ModRows
    from .stats import (
        NetworkView,
        agent_directory,
        describe_mods,
        health,
        loaded_mods,
        network_stats,
        one_mod_stats,
        readiness,
        resources,
        supervisor_stats,
    )
    from .units import Unit, exchange_unit, unit_named, units_of
    from .upkeep import ModUpkeep
    from .workers import Mod, WorkerGroup
else:  # hidden from type checkers, which would take any name for one of the room
    __getattr__ = lazily(
        __name__,
        audiences="Audiences",
        autoreload="Autoreload Saved",
        claims="Claim",
        commands="ModCommands",
        copies="CopyGroup part_id part_of parts_of",
        elsewhere="Asking ModElsewhere",
        everywhere="Everywhere SeenRow",
        families="NotInAudience",
        forecast="unmet_requirements",
        history="EVERY History",
        kept="divide",
        loading="Loading",
        monitor="ResourceMonitor",
        orders="LocalOrders Orders",
        plans="Plans",
        read_models=(
            "Health LoadedMod ModStats NetworkStats Plan Reach Readiness Resources SupervisorStats VersionStats "
            "WorkerStats"
        ),
        reconfigure="Changes differs",
        registry="ModRegistry",
        restored="ModRecords",
        router="Entry",
        rows="ModRows",
        stats=(
            "NetworkView agent_directory describe_mods health loaded_mods network_stats one_mod_stats readiness "
            "resources supervisor_stats"
        ),
        units="Unit exchange_unit unit_named units_of",
        upkeep="ModUpkeep",
        workers="Mod WorkerGroup",
    )
