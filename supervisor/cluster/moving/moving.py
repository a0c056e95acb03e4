"""The two moves, step by step. Each may be killed at any point and done again: it comes to the same.

An import writes its mark, empties the cluster, writes everything, gives the journal another name, and
takes the mark away. An export writes its mark, makes a journal that appears when it is complete, and
says in the mark that the state is there now. What was moved stays where it was, out of use.

Both need the owner's lock of the state directory.
"""

from __future__ import annotations

import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import TypeVar

import anyio

from ....ipc.errors import Code, ModvisorError
from ....ipc.messages import unpack
from ...calls import forget_last_run, left_by_last_run
from ...config import NetworkConfig
from ...journal import Forgotten, Journal, KeptEvent, KeptState, StateDir, Whole, read_whole, was_opened, write_whole
from ..link.embedded import with_embedded
from ..link.link import Link
from ..mods.wanted import Wanted
from .mark import EXPORT, IMPORT, KEY, Mark, read_mark
from .store import ClusterStore, Held, counts_of
from .wishes import Entries, Wishes, of_journal, to_journal

MOVED = ".moved-to-cluster"
"""Behind the name of a journal that was imported."""

_Kept = TypeVar("_Kept", KeptState, KeptEvent)

STAYS = ("operators' tokens, crash reports, figures, the audit, logs, quarantines and the storage of mods",)


@dataclass(slots=True)
class Moved:
    """What a move has moved.

    Attributes:
        counts: how many of each kind.
        left: what stays where it was, as sentences.
    """

    counts: dict[str, int]
    left: list[str] = field(default_factory=list)


def entries_of(config: NetworkConfig) -> Entries:
    """Return the enabled mods of the network file, by id."""
    return {mod.mod_id: mod for mod in config.mods if mod.enabled}


@asynccontextmanager
async def opened(config: NetworkConfig) -> AsyncIterator[ClusterStore]:
    """Connect to the servers of a network, as none of its nodes.

    Raises:
        ModvisorError: no server takes it, or nodes are there.
    """
    settings = with_embedded(config)
    link = Link(settings, settings.network, f"move-{socket.gethostname()}")
    await link.open()
    try:
        store = ClusterStore(link, config.journal)
        await store.open()
        yield store
    finally:
        await link.close()


async def _check_no_node(store: ClusterStore) -> None:
    """Raise `ModvisorError` (conflict) if nodes are there."""
    if nodes := await store.nodes():
        text = f"nodes of this network run: {', '.join(nodes)}; stop them first: modvisor stop --node {nodes[0]}"
        raise ModvisorError(text, code=Code.CONFLICT)


async def _begin(store: ClusterStore, state: StateDir, do: str) -> Mark:
    """Keep nodes away. Raises `ModvisorError` (conflict): one has come meanwhile, or another move has begun."""
    mark = Mark(do, _where(state), time.time())
    before = await store.state.get(KEY)
    if before is None:
        revision = await store.state.create(KEY, mark.to_plain())
    else:
        revision = await store.state.update(KEY, mark.to_plain(), before.revision)
    try:
        await _check_no_node(store)
    except ModvisorError:
        if before is None:
            await store.state.delete(KEY, revision)
        else:
            await store.state.update(KEY, before.value, revision)
        raise
    return mark


async def forget_at_rest(config: NetworkConfig, agent_id: str) -> Forgotten:
    """Delete what a cluster keeps of an agent, while no node runs.

    Raises:
        ModvisorError: conflict: nodes run; ask one of them.
    """
    async with opened(config) as store:
        await _check_no_node(store)
        return await store.forget(agent_id)


# -- into the cluster


async def import_state(
    config: NetworkConfig, state: StateDir, *, replaces: bool = False, leaves: bool = False
) -> Moved:
    """Move what a network at rest has left into the cluster.

    Args:
        replaces: delete what the cluster holds.
        leaves: go on though something cannot move.

    Raises:
        ModvisorError: conflict: nodes run, or the cluster holds something, or something cannot move.
    """
    async with opened(config) as store:
        await _check_no_node(store)
        mark = await read_mark(store.state)
        moved_before = state.database.with_name(state.database.name + MOVED)
        if mark is not None and mark.do == IMPORT and not state.database.exists() and moved_before.exists():
            await store.state.delete(KEY)  # it was killed behind its last step but one
            return Moved(
                counts_of(read_whole(moved_before), 0), ["the import had been done already; its mark is gone now"]
            )
        return await _import(config, state, store, mark, replaces=replaces, leaves=leaves)


async def _import(
    config: NetworkConfig, state: StateDir, store: ClusterStore, mark: Mark | None, *, replaces: bool, leaves: bool
) -> Moved:
    if mark is None and not replaces:
        _check_empty(await store.read())
    if mark is not None and not _may_go_on(mark, state) and not replaces:
        text = f"{mark}; {mark.next_step}, or give --replace to delete what the cluster has of it"
        raise ModvisorError(text, code=Code.CONFLICT)
    whole, entries = await _left_by(state, config), entries_of(config)
    wishes = of_journal(whole.mods, whole.families, entries, config.base_dir)
    moving, left = _divided(whole, wishes.wanted(entries, config.base_dir), leaves=leaves)
    await _read_snapshots(moving, state, wishes.wanted(entries, config.base_dir))
    left += _as_copies(moving, wishes)
    await _begin(store, state, IMPORT)
    await store.clear()
    await store.write(moving, wishes)
    state.database.rename(state.database.with_name(state.database.name + MOVED))
    await store.state.delete(KEY)
    return Moved(counts_of(moving, len(wishes.records)), [*left, *STAYS])


def _where(state: StateDir) -> str:
    return f"{socket.gethostname()}:{state.root}"


def _may_go_on(mark: Mark, state: StateDir) -> bool:
    """Return whether a move may take the place of one before: what the cluster has is old, or our own."""
    return mark.is_done or (mark.do == IMPORT and mark.where == _where(state))


def _check_empty(held: Held) -> None:
    if counts := held.counts():
        has = ", ".join(f"{count} {name}" for name, count in counts.items())
        text = f"the cluster holds something of this network already: {has}; export it first, or give --replace to delete it"
        raise ModvisorError(text, code=Code.CONFLICT)


async def _left_by(state: StateDir, config: NetworkConfig) -> Whole:
    """Return what the last run left, after noting how its workers ended."""
    if not state.database.exists():
        raise ModvisorError(f"no network has left a journal at {state.database}", code=Code.NOT_FOUND)
    journal = Journal(state.database, config.journal)
    await anyio.to_thread.run_sync(journal.open)
    try:
        await journal.note_deaths(left_by_last_run(state.marks))
        forget_last_run(state.marks)
    finally:
        await anyio.to_thread.run_sync(journal.close)
    return await anyio.to_thread.run_sync(read_whole, state.database)


def _divided(whole: Whole, wanted: Wanted, *, leaves: bool) -> tuple[Whole, list[str]]:
    """Return what moves, and say what does not: what a cluster keeps on each node.

    Raises `ModvisorError` (conflict): accepted events would stay behind.
    """

    def is_shared(mod_id: str) -> bool:
        return _is_shared(mod_id, wanted)

    moving = replace(
        whole,
        checkpoints=[each for each in whole.checkpoints if is_shared(each.mod_id)],
        events=[each for each in whole.events if is_shared(each.mod_id)],
        files=[each for each in whole.files if is_shared(each.mod)],
        answers=[each for each in whole.answers if is_shared(each.mod)],
    )
    left: list[str] = []
    shared = {each.mod_id.partition("#")[0] for each in (*whole.checkpoints, *whole.events)}
    if mods := sorted(mod_id for mod_id in shared if wanted.parts(mod_id) > 1):
        text = f"what is kept of mods with copies ({', '.join(mods)}) is divided among them"
        _check_leaving(
            text, "set 'placement.copies: 1', and start and stop a node, which puts it together", leaves=leaves
        )
        left.append(text)
    if events := len(whole.events) - len(moving.events):
        mods = sorted({each.mod_id.partition("#")[0] for each in whole.events if not is_shared(each.mod_id)})
        text = (
            f"{events} accepted events are for mods that run on several nodes ({', '.join(mods)}), which share them out"
        )
        _check_leaving(text, "run them until they are answered", leaves=leaves)
        left.append(text)
    if files := len(whole.files) - len(moving.files):
        left.append(f"{files} files (context.files) are of mods that run on several nodes, each of which has its own")
    if states := len(whole.checkpoints) - len(moving.checkpoints):
        left.append(f"{states} checkpoints are of mods that run on several nodes, each of which has its own state")
    return moving, left


def _as_copies(whole: Whole, wishes: Wishes) -> list[str]:
    """Have what the workers of a mod kept be that of as many copies, where the mod has copies in the cluster.

    Returns what no copy sees.
    """
    names = {mod_id for mod_id, record in wishes.records.items() if record.parts is not None}
    for name in names:
        counted = [each for each in whole.checkpoints if each.mod_id == f"{name}#"]
        if not counted:
            continue  # it had no workers, and kept all under its own id
        count = int(unpack(counted[0].state))
        whole.checkpoints = [each for each in whole.checkpoints if each not in counted]
        if count == 1:
            whole.checkpoints = [_renamed(each, name) for each in whole.checkpoints]
            whole.events = [_renamed(each, name) for each in whole.events]
        wishes.records[name] = replace(wishes.records[name], parts=count)
    files = [each for each in whole.files if each.mod in names]
    return [f"{len(files)} files (context.files) of mods with copies, which none of the copies sees"] if files else []


def _renamed(kept: _Kept, name: str) -> _Kept:
    return kept._replace(mod_id=name) if kept.mod_id == f"{name}#0" else kept


def _is_shared(mod_id: str, wanted: Wanted) -> bool:
    """Return whether a mod runs on one node at a time: what is kept of it is the same wherever it runs."""
    name = mod_id.partition("#")[0]
    return wanted.is_exclusive(name) and wanted.parts(name) == 1


def _check_leaving(text: str, instead: str, *, leaves: bool) -> None:
    if not leaves:
        raise ModvisorError(f"{text}: {instead}, or give --leave to go on without them", code=Code.CONFLICT)


async def _read_snapshots(whole: Whole, state: StateDir, wanted: Wanted) -> None:
    def read() -> dict[str, bytes]:
        files = {file.name.removesuffix(".msgpack"): file for file in sorted(state.snapshots.glob("*.msgpack"))}
        return {mod_id: file.read_bytes() for mod_id, file in files.items() if _is_shared(mod_id, wanted)}

    whole.snapshots = await anyio.to_thread.run_sync(read)


# -- out of the cluster


async def export_state(config: NetworkConfig, state: StateDir, *, leaves: bool = False) -> Moved:
    """Move what a cluster holds into a journal, for a network on one machine.

    Args:
        leaves: go on though something cannot move.

    Raises:
        ModvisorError: conflict: nodes run, there is a journal, or something cannot move.
    """
    async with opened(config) as store:
        await _check_no_node(store)
        mark = await read_mark(store.state)
        _check_target(state, mark)
        held = await store.read()
        wanted = held.wishes.wanted(entries_of(config), config.base_dir)
        if mark is None or not mark.is_done:
            _check_exported(held, leaves=leaves)
        _divided(held.whole, wanted, leaves=leaves)
        mark = await _begin(store, state, EXPORT)
        held = await store.read()  # no node can have changed it since then
        whole, left = _divided(held.whole, wanted, leaves=True)
        whole.mods, whole.families = to_journal(held.wishes, entries_of(config), config.base_dir)
        await anyio.to_thread.run_sync(_write, state, whole, config)
        await store.state.put(KEY, replace(mark, is_done=True).to_plain())
    return Moved(counts_of(whole, len(whole.mods)), [*left, *_not_exported(held, config), *STAYS])


def _not_exported(held: Held, config: NetworkConfig) -> list[str]:
    left = list(held.wishes.left)
    if held.inboxes:
        left.append(f"{held.inboxes} events in inboxes of agents")
    if held.dropped:
        left.append(f"{held.dropped} messages that no node of this network wrote")
    wanted = held.wishes.wanted(entries_of(config), config.base_dir)
    if mods := [mod_id for mod_id in wanted.configs if not wanted.is_exclusive(mod_id)]:
        left.append(f"what each node keeps of mods that run on all nodes ({', '.join(mods)})")
    return left


def _check_target(state: StateDir, mark: Mark | None) -> None:
    """Raise `ModvisorError` if there is a journal, unless this move made it before it was killed."""
    if not state.database.exists():
        return
    is_ours = mark is not None and mark.do == EXPORT and mark.where == _where(state)
    if is_ours and not was_opened(state.database):
        return
    text = f"{state.database} is the journal of a network already; name another STATE_DIR, or move that file away"
    raise ModvisorError(text, code=Code.CONFLICT)


def _check_exported(held: Held, *, leaves: bool) -> None:
    if not held.counts():
        raise ModvisorError("the cluster holds nothing of this network", code=Code.NOT_FOUND)
    if held.inboxes:
        text = f"{held.inboxes} events wait in inboxes of agents, which a network on one machine does not keep at rest"
        _check_leaving(text, "start a node until they are taken", leaves=leaves)


def _write(state: StateDir, whole: Whole, config: NetworkConfig) -> None:
    for mod_id, data in whole.snapshots.items():
        file = state.snapshots / f"{mod_id}.msgpack"
        file.touch(mode=0o600)
        file.write_bytes(data)
    state.database.unlink(missing_ok=True)  # of a move that was killed behind its last step but one
    write_whole(state.database, whole, config.journal)
