"""Sees that the code of a mod is the same on all nodes that run it.

What a mod that runs once, or a copy of a mod, is made of stands in its status (`statuses`). Each node that
runs a mod on all nodes, or copies of one, writes besides what they are made of under a key of its own:
the number of that write tells who came first. A node compares its files with that before it starts a
mod from them, and all nodes are asked for theirs before a reload on all of them. What differs is
refused and named. `cluster.allow_mixed` allows it, for an upgrade node by node, and it is
named all the same.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple, Protocol

import anyio

from ....ipc.errors import Code as ErrorCode
from ....ipc.errors import ModvisorError
from ...config import ALL_NODES, ModConfig
from ...fleet import ModRegistry
from ...sources import in_thread, search_path
from ..link.buckets import Bucket, Watch
from ..link.errors import ClusterError
from ..link.link import Link
from ..link.names import text_of, token
from ..link.wire import Handler
from ..nodes.members import NodeInfo, told_each
from .digests import Code, asked_of, code_of_files
from .statuses import Statuses

logger = logging.getLogger("modvisor.cluster")

PREFIX = "code."
LOOK = "code"
"""The part of the subject on which a node tells what its files are."""

RETRY = 1.0
"""Seconds until a node tells again what the servers did not take."""

CodeOf = Callable[[str], Code | None]
"""Returns the code that a mod or worker runs here."""


class Present(Protocol):
    """Who is in the network."""

    node: str

    @property
    def nodes(self) -> Mapping[str, NodeInfo]: ...


class _Written(NamedTuple):
    """What the servers were told of a copy here."""

    code: Code
    note: str | None
    since: int  # the number of the first write that says that this code runs here
    revision: int


class Codes:
    """The code of each mod on each node, and what differs.

    Attributes:
        refused: by mod id, this node's files, which it does not run because other nodes run others.
        notes: by mod id, what differs at this node and is allowed, or not run; for people.
        listeners: called when the code of a mod on another node has changed.
    """

    def __init__(
        self,
        bucket: Bucket,
        link: Link,
        session: Present,
        mods: ModRegistry,
        statuses: Statuses,
        code_of: CodeOf,
        *,
        allow_mixed: bool,
    ) -> None:
        self._bucket = bucket
        self._link = link
        self._session = session
        self._mods = mods
        self._statuses = statuses
        self._code_of = code_of
        self._allow_mixed = allow_mixed
        self._told: dict[str, dict[str, tuple[int, Code, str | None]]] = {}  # mod -> node -> since, code, note
        self._written: dict[str, _Written] = {}
        self._revisions: dict[str, int] = {}  # of what the servers have of this node
        self._telling = anyio.Lock()
        self._wake, self._seen = anyio.Event(), anyio.Event()
        self._watch: Watch | None = None
        self.refused: dict[str, Code] = {}
        self.notes: dict[str, str] = {}
        self._mixed: dict[str, ModConfig] = {}  # mods on all nodes whose code is another one here
        mods.code_notes = self.notes
        self.listeners: list[Callable[[], None]] = []

    async def open(self) -> None:
        self._watch = await self._bucket.mirror(PREFIX, self._changed)

    async def close(self) -> None:
        if self._watch is not None:
            await self._watch.close()

    def _changed(self, key: str, value: Any, revision: int) -> None:
        mod_id, node = map(text_of, key.removeprefix(PREFIX).split("."))
        by_node = self._told.setdefault(mod_id, {})
        if value is None or (code := Code.from_plain(value["code"])) is None:
            by_node.pop(node, None)
            written = self._written.get(mod_id)
            if node == self._session.node:
                self._revisions.pop(mod_id, None)
                if written is not None and written.revision <= revision:
                    del self._written[mod_id]  # somebody deleted it, or the bucket: it is told again
                    self.look()
        else:
            by_node[node] = value.get("since") or revision, code, value["note"]
            if node == self._session.node:
                self._revisions[mod_id] = revision
        self._drop_settled()
        self._seen.set()
        self._seen = anyio.Event()
        told_each(self.listeners)

    def _drop_settled(self) -> None:
        """Forget that the code of a mod is another one here, when that of the others is the same by now."""
        for mod_id, config in list(self._mixed.items()):
            ours = self.of(mod_id)
            if ours is not None and all(code.digest == ours.digest for code in self.running(config).values()):
                self._forget_note(mod_id)
                self.look()

    def _forget_note(self, mod_id: str) -> None:
        self.notes.pop(mod_id, None)
        self._mixed.pop(mod_id, None)

    # -- what the nodes run

    def of(self, mod_id: str) -> Code | None:
        """Return the code that a mod runs here, or ran last; None if it is not known."""
        mod = self._mods.get(mod_id)
        for name in [mod_id, *(() if mod is None else (keeper.mod_id for keeper in mod.keepers))]:
            if (code := self._code_of(name)) is not None:
                return code
        return None

    def running(self, config: ModConfig) -> dict[str, Code]:
        """Return what a mod is made of where it runs, by node: on the other nodes, or where it ran last."""
        mod_id = config.name
        if config.placement.copies == ALL_NODES:
            there, here = self._session.nodes, self._session.node
            told = self._told.get(mod_id, {})
            return {node: code for node, (_, code, _) in told.items() if node in there and node != here}
        statuses = (
            status for name, status in self._statuses.known.items() if name == mod_id or name.startswith(f"{mod_id}#")
        )
        return {status.node: status.code for status in statuses if status.code is not None}

    async def here(self, config: ModConfig, files: Iterable[str] | None) -> Code | None:
        """Return what a mod would be made of that is started from this node's files."""
        try:
            _, home = await self._mods.as_files_say(config)
        except ModvisorError:  # the start says what is wrong
            return None
        try:
            return await in_thread(code_of_files, config, home, search_path(self._mods.config), files)
        except OSError as error:
            logger.warning("mod %s: its files cannot be compared with other nodes': %s", config.mod_id, error)
            return None

    # -- before a start

    async def refusal(self, config: ModConfig, *, runs_snapshot: bool) -> str | None:
        """Return why a mod is not started from this node's files; None if it may be.

        Args:
            runs_snapshot: it starts from the version that the network ran last, so its files are only named.
        """
        self.refused.pop(config.mod_id, None)
        self._forget_note(config.mod_id)
        running = self.running(config)
        asked = asked_of(config)
        if config.placement.copies != ALL_NODES:  # another path or version is asked for on purpose
            running = {node: code for node, code in running.items() if code.asked == asked}
        for node, code in running.items():
            files = code.files if code.asked == asked else None
            ours = await self.here(config, files)
            if ours is not None and ours.digest != code.digest:
                why = self._judged(config.mod_id, ours, node, code, runs_snapshot=runs_snapshot)
                if config.placement.copies == ALL_NODES and self._allow_mixed and not runs_snapshot:
                    self._mixed[config.mod_id] = config
                return why
        return None

    def _judged(self, mod_id: str, ours: Code, node: str, code: Code, *, runs_snapshot: bool) -> str | None:
        what = f"this node's files are {ours.short}, node {node} runs {code.short}"
        if code.asked != ours.asked:
            what = f"this node's files are {ours.asked} ({ours.short}), node {node} runs {code.asked} ({code.short})"
        if runs_snapshot:
            what = f"the code {code.short}, this node's files are {ours.short}"
            self._note(mod_id, f"runs what the network ran last: {what}; 'modvisor reload {mod_id}' runs these files")
        elif self._allow_mixed:
            self._note(mod_id, f"runs other code than other nodes (--allow-mixed): {what}")
        else:
            self.refused[mod_id] = ours
            why = f"not started: {what}; give all nodes the same files, then 'modvisor reload {mod_id}'"
            self._note(mod_id, f"{why}; --allow-mixed lets this node run its own")
            return f"mod {mod_id} was {self.notes[mod_id]}"
        return None

    def _note(self, mod_id: str, note: str) -> None:
        self.notes[mod_id] = note
        logger.warning("mod %s: %s", mod_id, note)

    def may_run_now(self, config: ModConfig) -> bool:
        """Whether a mod on all nodes was refused here, and no other node runs other code any more."""
        ours = self.refused.get(config.mod_id)
        if ours is None or config.placement.copies != ALL_NODES:
            return False
        return all(code.digest == ours.digest for code in self.running(config).values())

    def accepted(self, mod_id: str) -> None:
        """Take note that a mod runs this node's files, as it was told to."""
        self.refused.pop(mod_id, None)
        self._forget_note(mod_id)
        self.look()

    async def came_second(self, config: ModConfig) -> str | None:
        """Return why a mod or copy that has just started must end: another node ran other code of it before.

        Two nodes that start at once do not see each other before.
        """
        mod_id, here, code = config.name, self._session.node, self.of(config.mod_id)
        if code is None or config.placement.copies == 1 or self._allow_mixed:
            return None
        revision = await self._tell(mod_id, code)
        with anyio.move_on_after(self._link.config.timeout):
            while (own := self._told.get(mod_id, {}).get(here)) is None or own[0] < revision:
                await self._seen.wait()
        for node, (before, other, _) in self._told.get(mod_id, {}).items():
            if node in self._session.nodes and before < revision and other.digest != code.digest:
                return self._judged(config.mod_id, code, node, other, runs_snapshot=False)
        return None

    # -- before a change on all nodes

    async def compare(self, config: ModConfig, nodes: Iterable[str]) -> str | None:
        """Return what differs between the files of nodes that are about to load them; None if nothing does."""
        if self._allow_mixed or config.placement.copies == 1:
            return None
        found: dict[str, Code | None] = {}
        async with anyio.create_task_group() as tasks:
            for node in nodes:
                tasks.start_soon(self._ask, config, node, found)
        groups: dict[str, list[str]] = {}
        for node, code in sorted(found.items()):
            if code is not None:
                groups.setdefault(code.short, []).append(node)
        if len(groups) < 2:
            return None
        different = "; ".join(f"{', '.join(nodes)}: {short}" for short, nodes in groups.items())
        return f"its files differ between the nodes ({different}); give all nodes the same files"

    async def _ask(self, config: ModConfig, node: str, found: dict[str, Code | None]) -> None:
        if node == self._session.node:
            found[node] = await self.here(config, None)
            return
        body = [config.mod_id, config.path, config.spec]
        try:
            answer = await self._link.ask(self._subject(node), body, timeout=self._link.config.timeout)
        except (ClusterError, TimeoutError) as error:  # the command itself says what is wrong with the node
            logger.info("node %s did not tell the files of mod %s: %s", node, config.mod_id, error)
        else:
            found[node] = Code.from_plain(answer)

    def _subject(self, node: str) -> str:
        return self._link.subject("node", node, LOOK)

    # -- telling

    def look(self) -> None:
        """Tell soon what has changed about the code of the mods here."""
        self._wake.set()

    async def run(self, config_of: Callable[[str, str, dict[str, Any] | None], ModConfig]) -> None:
        """Tell what changes, and answer other nodes, until cancelled.

        Args:
            config_of: returns the config of a mod from its id, its path and how it was asked for.
        """
        async with anyio.create_task_group() as tasks:

            async def answer(body: Any, reply: Callable[[Any], None]) -> None:
                try:
                    code = await self.here(config_of(*body), None)
                except (ModvisorError, TypeError, ValueError) as error:
                    logger.warning("what another node asks about the code of a mod cannot be read: %s", error)
                    code = None
                reply(None if code is None else code.to_plain())

            def asked(body: Any, reply: Callable[[Any], None]) -> None:
                tasks.start_soon(answer, body, reply)

            tasks.start_soon(self._serve, asked)
            await self._tell_all()

    async def _serve(self, asked: Handler) -> None:
        what = "no other node can compare its files with those of this one"
        served = await self._link.serve_at_last(self._subject(self._session.node), asked, what)
        try:
            await anyio.sleep_forever()
        finally:
            with anyio.CancelScope(shield=True):
                await served.close()

    async def _tell_all(self) -> None:
        while True:
            self._wake = anyio.Event()
            self._drop_settled()
            own = self._on_several_nodes()
            here = self._session.node
            is_told = True
            for mod_id in [mod_id for mod_id, by_node in self._told.items() if here in by_node and mod_id not in own]:
                is_told = await self._forget(mod_id) and is_told
            for mod_id, code in own.items():
                is_told = bool(await self._tell(mod_id, code)) and is_told
            with anyio.move_on_after(math.inf if is_told else RETRY):
                await self._wake.wait()

    def _on_several_nodes(self) -> dict[str, Code]:
        here = [mod for mod in self._mods if mod.keepers and mod.config.placement.copies != 1]
        found = {mod.mod_id: self.of(mod.mod_id) for mod in here if mod.mod_id not in self.refused}
        return {mod_id: code for mod_id, code in found.items() if code is not None}

    async def _tell(self, mod_id: str, code: Code) -> int:
        """Write what a copy here is made of, once: who is the second one is told by it.

        Returns:
            the number of the first write that says so, or 0.
        """
        async with self._telling:
            note, written = self.notes.get(mod_id), self._written.get(mod_id)
            if written is not None and (written.code, written.note) == (code, note):
                return written.since
            return await self._write(mod_id, code, note, self._since(mod_id, code))

    def _since(self, mod_id: str, code: Code) -> int:
        """Return the number of the first write that said that this code runs here, or 0."""
        written = self._written.get(mod_id)
        if written is not None:
            return written.since if written.code == code else 0
        told = self._told.get(mod_id, {}).get(self._session.node)
        return told[0] if told is not None and told[1] == code else 0

    async def _write(self, mod_id: str, code: Code, note: str | None, since: int) -> int:
        key = f"{PREFIX}{token(mod_id)}.{token(self._session.node)}"
        self._written.pop(mod_id, None)  # what was not taken may be stored later: then it is told again, whatever it is
        try:
            value = {"code": code.to_plain(), "note": note, "since": since}
            revision = await self._bucket.put(key, value, self._revisions.get(mod_id, 0))
        except ModvisorError as error:
            logger.warning("mod %s: the other nodes were not told what code it runs: %s", mod_id, error)
            return 0
        self._written[mod_id] = _Written(code, note, since or revision, revision)
        return since or revision

    async def _forget(self, mod_id: str) -> bool:
        """Remove what a copy was made of that is not here any more; returns whether the servers have taken that."""
        self._written.pop(mod_id, None)
        try:
            await self._bucket.delete(f"{PREFIX}{token(mod_id)}.{token(self._session.node)}")
        except ModvisorError as error:
            logger.warning("mod %s: what code it ran here was not removed: %s", mod_id, error)
            return False
        self._told.get(mod_id, {}).pop(self._session.node, None)
        return True

    # -- for people

    def mixed(self) -> list[dict[str, str]]:
        """Return what differs on the nodes, as each tells it."""
        there = self._session.nodes
        found = {
            (mod_id, node): note
            for mod_id, by_node in self._told.items()
            for node, (_, _, note) in by_node.items()
            if note and node in there
        }
        found |= {(name, status.node): status.note for name, status in self._statuses.known.items() if status.note}
        found |= {(mod_id, self._session.node): note for mod_id, note in self.notes.items()}
        return [{"mod_id": mod_id, "node": node, "why": why} for (mod_id, node), why in sorted(found.items())]


def refused(config: ModConfig, why: str) -> ModvisorError:
    """Return the failure of a mod whose files differ from what other nodes run."""
    return ModvisorError(why, code=ErrorCode.CONFLICT, mod_id=config.mod_id)
