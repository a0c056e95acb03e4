"""All mods of a network: which are loaded, who needs whom, versions and audiences, routes, figures.

May import: the rooms below it and `ipc`. Its own rooms, from the ground up: `read_models.py`, `claims.py`, `mods`,
`responses.py`, `registry`, `commands`, `figures`, and `nodes`, for a network of several nodes.
Never: handles an event itself, and never speaks HTTP.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..faces import lazily

if TYPE_CHECKING:
    from .claims import Claim
    from .commands.audiences import Audiences
    from .commands.autoreload import Autoreload, Saved
    from .commands.commands import ModCommands
    from .commands.forecast import unmet_requirements
    from .commands.loading import Loading
    from .commands.orders import LocalOrders, Orders
    from .commands.plans import Plans
    from .commands.reconfigure import Changes, differs
    from .commands.restored import ModRecords
    from .commands.upkeep import ModUpkeep
    from .figures.history import EVERY, History
    from .figures.monitor import ResourceMonitor
    from .figures.rows import ModRows
    from .figures.stats import (
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
    from .mods.copies import CopyGroup, part_id, part_of, parts_of
    from .mods.elsewhere import Asking, ModElsewhere
    from .mods.workers import Mod, WorkerGroup
    from .nodes.everywhere import Everywhere, SeenRow
    from .nodes.units import Unit, exchange_unit, unit_named, units_of
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
    from .registry.families import NotInAudience
    from .registry.kept import divide
    from .registry.registry import ModRegistry
    from .registry.router import Entry
else:  # hidden from type checkers, which would take any name for one of the room
    __getattr__ = lazily(
        __name__,
        {
            "commands.audiences": "Audiences",
            "commands.autoreload": "Autoreload Saved",
            "commands.commands": "ModCommands",
            "commands.forecast": "unmet_requirements",
            "commands.loading": "Loading",
            "commands.orders": "LocalOrders Orders",
            "commands.plans": "Plans",
            "commands.reconfigure": "Changes differs",
            "commands.restored": "ModRecords",
            "commands.upkeep": "ModUpkeep",
            "figures.history": "EVERY History",
            "figures.monitor": "ResourceMonitor",
            "figures.rows": "ModRows",
            "figures.stats": (
                "NetworkView agent_directory describe_mods health loaded_mods network_stats one_mod_stats "
                "readiness resources supervisor_stats"
            ),
            "mods.copies": "CopyGroup part_id part_of parts_of",
            "mods.elsewhere": "Asking ModElsewhere",
            "mods.workers": "Mod WorkerGroup",
            "nodes.everywhere": "Everywhere SeenRow",
            "nodes.units": "Unit exchange_unit unit_named units_of",
            "registry.families": "NotInAudience",
            "registry.kept": "divide",
            "registry.registry": "ModRegistry",
            "registry.router": "Entry",
        },
        claims="Claim",
        read_models=(
            "Health LoadedMod ModStats NetworkStats Plan Reach Readiness Resources SupervisorStats "
            "VersionStats WorkerStats"
        ),
    )
