"""What the journal keeps of the mods from one run of a network to the next.

It keeps which mods are loaded that the network file does not name, which are in quarantine, and
whether the run ended by itself. The file rules for the mods that it names.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from ....ipc.errors import ModvisorError
from ...config import ModConfig, family_of, is_as_quarantined, mod_config
from ...journal import Journal, JournalError, KeptMod, LastRun, Quarantine
from ...lifecycle import naming
from ...process import CrashReport
from ...sources import SnapshotStore
from ..mods.workers import Mod
from ..registry.kept import Division, divide, kept_entry
from ..registry.registry import ModRegistry
from .repartition import hand_on_count

logger = logging.getLogger("modvisor.records")


class ModRecords:
    """Reads back what the previous run kept, and keeps what the next run needs.

    Attributes:
        resumed: ids of mods that go on here from where another node left them: they start from their
            last good version.
    """

    def __init__(self, mods: ModRegistry, journal: Journal, snapshots: SnapshotStore) -> None:
        self._mods = mods
        self._journal = journal
        self._snapshots = snapshots
        self._quarantines: dict[str, Quarantine] = {}  # of the previous run, until the mod is loaded
        self._crashes: dict[str, list[CrashReport]] = {}  # of the previous run, likewise
        self._was_cut_off = False
        self.resumed: set[str] = set()

    # -- the previous run

    def restore(self, kept: LastRun) -> None:
        """Take what the journal kept. Call it before any mod is loaded."""
        self._quarantines = dict(kept.quarantines)
        self._crashes = {mod_id: [*_reports(found)] for mod_id, found in kept.crashes.items()}
        self._was_cut_off = not kept.clean
        self._mods.families.restore(kept.families)

    def without_mods(self, kept: LastRun) -> LastRun:
        """Forget the mods that the journal kept, their versions and their quarantines."""
        for mod in kept.mods:
            if place := mod.spec.get("instead_of"):  # its accepted events are for the mod that comes back
                self._journal.hand_on(mod.mod_id, place[0])
            self._journal.drop_mod(mod.mod_id)
        for mod_id in kept.quarantines:
            self._journal.release(mod_id)
        for family in kept.families:
            self._journal.keep_family(family, None)
        return replace(kept, mods=[], quarantines={}, families={}, clean=True)

    def divided(self, kept: Iterable[KeptMod]) -> Division:
        """Return who is loaded at the start, and say where that is not what the network file says."""
        configs: list[ModConfig] = []
        for mod in kept:
            try:
                configs.append(mod_config(mod.path, base_dir=self._mods.base_dir, mod_id=mod.mod_id, **mod.spec))
            except (ModvisorError, TypeError, ValueError) as error:
                logger.error(
                    "mod %s, which ran when the network last ran, did not start: %s: %s", mod.mod_id, mod.path, error
                )
        made = divide(configs, self._mods.file_entries())
        for mod_id in made.named:
            self._journal.drop_mod(mod_id)
        for entry, mod in made.instead.items():
            logger.warning(
                "the network file names mod %s, and mod %s (%s) took its place in a swap: mod %s is loaded; "
                "write it into the file, or change the entry of %s to have that back",
                entry, mod.mod_id, mod.path, mod.mod_id, entry,
            )  # fmt: skip
        for mod, entry in made.superseded:
            self._give_back(mod, entry)
        return made

    def _give_back(self, mod: ModConfig, entry: str) -> None:
        """Give what is kept of a mod back to the mod of the file whose place it had."""
        logger.warning(
            "mod %s had taken the place of mod %s in a swap, and the network file's entry of %s was changed since: "
            "mod %s is loaded",
            mod.mod_id, entry, entry, entry,
        )  # fmt: skip
        for index in range(mod.workers or 0):
            self._journal.hand_on(f"{mod.mod_id}#{index}", f"{entry}#{index}")
        hand_on_count(mod.mod_id, entry, self._journal)
        self._journal.hand_on(mod.mod_id, entry)

    def started(self) -> None:
        """Treat every mod that is loaded from now on as a new one."""
        self._was_cut_off = self._mods.is_starting = False
        self._crashes.clear()
        self._mods.families.forget_gone()

    def recall_crashes(self, mod: Mod) -> None:
        """Give the workers of a mod the crash reports of the previous run."""
        for worker in mod.keepers:
            worker.crashes.recall(self._crashes.pop(worker.mod_id, ()))

    def take_quarantines(self, mod_id: str, quarantines: Sequence[Quarantine]) -> None:
        """Have the workers of a mod be in the quarantines that another node tells, and in no others."""
        for worker in [each for each in self._quarantines if each == mod_id or each.startswith(f"{mod_id}#")]:
            del self._quarantines[worker]
            self._journal.release(worker)
        for quarantine in quarantines:
            self._quarantines[quarantine.mod_id] = quarantine
            self._journal.quarantine(quarantine)

    def stay_quarantined(self, mod: Mod) -> str | None:
        """Keep the workers in quarantine that were in it when the previous run ended.

        Returns:
            the reason, if all workers are in quarantine.
        """
        kept = [(worker, self._quarantine_of(worker.config)) for worker in mod.keepers]
        for worker, quarantine in kept:
            if quarantine is not None:
                worker.stay_quarantined(quarantine)
        reasons = [quarantine.reason for _, quarantine in kept if quarantine is not None]
        return reasons[0] if len(reasons) == len(kept) else None

    def _quarantine_of(self, config: ModConfig) -> Quarantine | None:
        """Return the quarantine of a worker, unless its entry has changed."""
        quarantine = self._quarantines.pop(config.mod_id, None)
        if quarantine is None or is_as_quarantined(quarantine.fingerprint, config):
            return quarantine
        self._journal.release(config.mod_id)
        return None

    async def find_snapshots(self, mod: Mod) -> bool:
        """Return whether a mod starts from snapshots, because the previous run was cut off.

        Its last good version is what ran, its files may be in the middle of a change.

        Raises `StartFailed`: which version that is cannot be told.
        """
        goes_on = self._was_cut_off or mod.mod_id in self.resumed
        for worker in mod.keepers:
            config = worker.config
            with naming(worker.mod_id):
                worker.kept.has_snapshot = goes_on and await self._snapshots.is_of(
                    worker.mod_id, config.path, config.version
                )
        return any(worker.kept.has_snapshot for worker in mod.keepers)

    # -- the next run

    async def check_room(self, *mods: ModConfig) -> None:
        """Raise `JournalError` if what is to be done with mods could not be kept.

        Asked before it is done: what has no room on the disk is refused as a whole. The network
        file rules for the mods that it names, so nothing is kept of them.
        """
        if any(mod.spec is not None for mod in mods):
            await self._journal.try_room()

    async def remember(self, *mods: Mod) -> None:
        """Keep mods that the network file does not name, so that the next run loads them again.

        Returns when the journal has them on disk. Raises `JournalError` if it has none of them.
        """
        _, saved = self._journal.together("loaded mod", lambda: self._keep_entries(mods))
        await saved

    def _keep_entries(self, mods: Iterable[Mod]) -> None:
        order = list(self._mods)
        for mod in mods:
            first = order.index(mod)
            for position, each in enumerate(order[first:], first):  # the mods behind it may have moved
                if each is mod or each.is_member:
                    self._keep_entry(each, position)
            self._keep_promotions(mod)

    async def remember_families(self, mods: Sequence[Mod]) -> None:
        """Keep how the families of mods are divided. Raises `JournalError`, and keeps nothing then."""

        def keep() -> None:
            for family in {family_of(mod.mod_id) for mod in mods}:
                self._mods.families.keep(family)
            # A mod that is being loaded is remembered afterwards.
            self._keep_entries([mod for mod in mods if self._mods.find(mod.mod_id) is mod and mod.is_member])

        _, saved = self._journal.together("audiences", keep)
        await saved

    async def remember_soon(self, mod: Mod) -> None:
        """Do the same for nobody who waits: a failure is logged."""
        try:
            await self.remember(mod)
        except JournalError as error:
            logger.error("how mod %s runs now could not be kept for the next run: %s", mod.mod_id, error)

    def forget_if_gone(self, mod: Mod) -> asyncio.Future[None]:
        """Drop a mod that was unloaded; one that is loaded stays.

        The future is done when the journal has done so on disk. It may raise `JournalError`.
        """

        def forget() -> None:
            if mod in self._mods:
                return
            self._journal.forget_mod(mod.mod_id, [worker.mod_id for worker in mod.keepers])
            self._keep_promotions(mod)

        try:
            _, saved = self._journal.together("unloaded mod", forget)
        except JournalError as error:
            saved = asyncio.get_running_loop().create_future()
            saved.set_exception(error)
        saved.add_done_callback(lambda done: done.cancelled() or done.exception())  # perhaps nobody waits for it
        return saved

    def drop(self, mod: Mod) -> None:
        """Drop the entry of a mod whose load was given up."""
        self._journal.drop_mod(mod.mod_id)

    def _keep_promotions(self, mod: Mod) -> None:
        family = family_of(mod.mod_id)
        if mod.promoted or self._mods.families.promotions(family):
            self._mods.families.keep(family)

    def _keep_entry(self, mod: Mod, position: int) -> None:
        if (entry := kept_entry(mod.config, mod.audience, position, mod.loaded_at)) is not None:
            self._journal.keep_mod(entry)


def _reports(kept: Iterable[dict[str, Any]]) -> Iterator[CrashReport]:
    for data in kept:
        if (report := CrashReport.from_dict(data)) is not None:
            yield report
