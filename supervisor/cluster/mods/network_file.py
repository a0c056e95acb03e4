"""Compares the mods of the network files of all nodes, and applies a changed file on one node.

Every node has the same file. A node that joins with another one is refused. A file that changes is read
again node by node (`modvisor reconfigure`): each node tells a digest of the mods of its file with its
session, so each sees which nodes have another one, and says so until all have the same.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from hashlib import sha256
from typing import Any

from ....ipc.errors import Code, ModvisorError
from ....ipc.event import EventResponse
from ...config import Effect, ModConfig, NetworkConfig, changed_keys, entry_hash, in_force
from ...fleet import Changes, Loading, differs
from ..link.buckets import Bucket
from ..nodes.session import Session
from .desired import Desired
from .digests import differences, digests_of_entries
from .placing import Placing
from .swapping import runs_here
from .wanted import Wanted

logger = logging.getLogger("modvisor.cluster")

FILE = "file"
"""The key of the state bucket with the digests of the mods of the network file."""


class NetworkFile:
    """The mods of this node's network file, and the other nodes' files.

    Args:
        allow_mixed: join with another file than the other nodes'.
    """

    def __init__(self, bucket: Bucket, session: Session, *, allow_mixed: bool) -> None:
        self._bucket = bucket
        self._session = session
        self._allow_mixed = allow_mixed
        self._ours: dict[str, str] = {}
        self._told: dict[str, str] | None = None  # what the servers have taken
        self._named: dict[str, str] = {}  # nodes with another file that the log has named, with its digest

    async def join(self, entries: dict[str, ModConfig]) -> None:
        """Refuse to join with another network file than the nodes that are there."""
        ours, kept = digests_of_entries(entries), await self._bucket.get(FILE)
        others = [info.node for info in self._session.nodes.values() if info.node != self._session.node]
        found = [] if kept is None else differences(ours, kept.value)
        if found and others and not self._allow_mixed:
            text = (
                f"this node's network file is not that of the nodes that are there ({', '.join(sorted(others))}): "
                f"{'; '.join(found[:10])}. Give all nodes the same file, or join with --allow-mixed for an upgrade"
            )
            raise ModvisorError(text, code=Code.START_FAILED, differences=found)
        self._told = None if kept is None or found else ours
        await self._take(ours)

    async def changed(self, entries: dict[str, ModConfig]) -> None:
        """Tell the other nodes that this one has read its file again."""
        await self._take(digests_of_entries(entries))

    async def _take(self, ours: dict[str, str]) -> None:
        self._ours = ours
        self._session.describe(file=self._digest, soon=True)
        if ours != self._told:
            self._told = None  # what is not taken now may be stored later
            await self._bucket.put(FILE, ours)
            self._told = ours

    @property
    def _digest(self) -> str:
        return sha256(repr(list(self._ours.items())).encode()).hexdigest()[:12]

    def others(self) -> dict[str, str]:
        """Return the nodes whose files differ from this one's, and what to do about each."""
        return {
            node: f"its network file ({digest}) differs from that of node {self._session.node} ({self._digest}); give it "
            f"the same file, then 'modvisor reconfigure --node {node}'"
            for node, digest in self._differing()
        }

    def _differing(self) -> Iterator[tuple[str, str]]:
        for info in self._session.nodes.values():
            digest = info.value.get("file")
            if info.node != self._session.node and digest not in (None, self._digest):
                yield info.node, str(digest)

    def look(self) -> None:
        """Name the nodes in the log that have another file by now."""
        differing = dict(self._differing())
        for node, digest in differing.items():
            if self._named.get(node) != digest:
                logger.warning("node %s: %s", node, self.others()[node])
        self._named = differing


class Reconfiguring:
    """Applies a changed network file on this node. See `apply_changes`, which does it on one machine.

    Args:
        follow: takes the new entries as what is wanted.
        settled: waits until mods serve somewhere or have failed.
        doers: returns the nodes that should run a mod.
        outcome: returns what has become of a mod.
    """

    def __init__(
        self,
        loading: Loading,
        file: NetworkFile,
        desired: Desired,
        wanted: Wanted,
        placing: Placing,
        follow: Callable[[], None],
        settled: Callable[[list[str]], Awaitable[None]],
        doers: Callable[[str], list[str]],
        outcome: Callable[[ModConfig], EventResponse],
    ) -> None:
        self._loading = loading
        self._mods = loading.commands.mods
        self._file = file
        self._desired = desired
        self._wanted = wanted
        self._placing = placing
        self._follow = follow
        self._settled = settled
        self._doers = doers
        self._outcome = outcome

    async def apply(self, old: NetworkConfig, new: NetworkConfig) -> Changes:
        """End, reload and start what changes here, and name the nodes that have another file."""
        changes = Changes()
        for key in changed_keys(old, new):
            (changes.applied if key.effect is Effect.NOW else changes.needs_restart).append(key.name)
        before = self._mods.file_entries()
        self._mods.use_config(in_force(old, self._without_copies(before, new, changes)))
        entries = self._mods.file_entries()
        await self._forget_overrides(entries)
        self._follow()
        for mod_id in self._loading.dependents_first([each for each in before if self._is_gone(each, entries)]):
            changes.removed[mod_id] = await self._loading.unload(mod_id)
        for mod_id, entry in entries.items():
            await self._change(mod_id, entry, changes)
        self._placing.look()
        await self._file.changed({mod.mod_id: mod for mod in new.mods if mod.enabled})
        changes.elsewhere = self._file.others()
        added = [entry for mod_id, entry in entries.items() if mod_id not in before.keys() | changes.swapped.keys()]
        changes.added = await self._added(added, set(changes.elsewhere))
        return changes

    @staticmethod
    def _without_copies(before: dict[str, ModConfig], new: NetworkConfig, changes: Changes) -> NetworkConfig:
        """Leave mods with copies as they are: several nodes run one, which read the file one after the other."""
        after = {mod.mod_id: mod for mod in new.mods}
        stay: dict[str, ModConfig] = {}
        for mod_id, entry in before.items():
            found = after.get(mod_id)
            is_same = found is not None and found.enabled and entry_hash(found) == entry_hash(entry)
            if not is_same and (entry.placement.has_copies or (found is not None and found.placement.has_copies)):
                stay[mod_id] = entry
        changes.needs_restart += [f"mods.{mod_id}" for mod_id in stay]
        return replace(new, mods=tuple({**after, **stay}.values())) if stay else new

    async def _added(self, added: list[ModConfig], others: set[str]) -> dict[str, EventResponse]:
        """Wait for new mods, but for those of nodes that do not know them yet."""
        unknown = {entry.mod_id: found for entry in added if (found := others.intersection(self._doers(entry.mod_id)))}
        known = [entry for entry in added if entry.mod_id not in unknown]
        if known:
            await self._settled([entry.mod_id for entry in known])
        waits = {
            mod_id: EventResponse(
                True, f"mod {mod_id} waits until node {', '.join(sorted(found))} has read the file", {}
            )
            for mod_id, found in unknown.items()
        }
        return {entry.mod_id: self._outcome(entry) for entry in known} | waits

    async def _forget_overrides(self, entries: dict[str, ModConfig]) -> None:
        for mod_id in entries:
            record = self._desired.records.get(mod_id)
            if record is not None and record.override is not None:
                await self._desired.edit(mod_id, lambda found: found.changed(override=None))

    def _is_gone(self, mod_id: str, entries: dict[str, ModConfig]) -> bool:
        return mod_id not in entries and mod_id not in self._wanted.configs and runs_here(self._mods.get(mod_id))

    async def _change(self, mod_id: str, entry: ModConfig, changes: Changes) -> None:
        mod, wanted = self._mods.get(mod_id), self._wanted.configs.get(mod_id)
        if wanted is None:  # another mod has its place, or it was unloaded
            places = self._desired.records.values()
            changes.swapped.update((mod_id, each.mod_id) for each in places if each.place_of == mod_id and each.path)
        elif mod is None or not wanted.from_file or not differs(mod.config, entry):
            return
        elif runs_here(mod):
            changes.changed[mod_id] = await self._loading.commands.swap(mod_id, entry)
        else:
            mod.config = entry  # the node that has it reads its own file


def as_notes(others: dict[str, str]) -> list[dict[str, Any]]:
    """Return the nodes that have another file, as `Codes.mixed` returns mods."""
    return [{"mod_id": "network file", "node": node, "why": why} for node, why in sorted(others.items())]
