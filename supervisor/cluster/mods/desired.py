"""What the operators want of the mods of a cluster, kept where every node sees it.

The mods of the network file are wanted as the file says, and every node has the same file. What was
changed while the network ran is in a bucket: one record for each mod that was loaded, unloaded or
swapped, and the command on it that is under way. A command is written into the record before it is
done, so it survives the death of the node that asked for it, and of the node that does it: the next
one that has the mod does it again. Of a mod, one command at a time is under way.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any
from uuid import uuid4

from ....ipc.errors import Code, ModvisorError
from ....ipc.event import EventResponse
from ..link.buckets import Bucket, Watch
from ..link.errors import Taken
from ..link.names import text_of, token
from ..nodes.members import told_each
from .steps import LOAD, UNLOAD, Step

MOST_PAST = 16
"""Commands of which a record keeps what they came to."""

PAUSE = 0.1
"""Seconds between two tries to write a record that nobody has changed."""


@dataclass(frozen=True, slots=True)
class Command:
    """A command on a mod.

    Attributes:
        do: ``load``, ``unload``, ``reload``, ``restart`` or ``swap``; ``args`` are those of the operation.
        by: the node that asks; ``at``: Unix seconds.
    """

    id: str
    do: str
    args: dict[str, Any]
    by: str
    at: float


@dataclass(frozen=True, slots=True)
class Record:
    """What is wanted of one mod.

    Attributes:
        path, spec: how it was loaded, see `KeptMod`; None: as the network file says.
        position: among the mods that the file does not name.
        is_unloaded: it is to run nowhere.
        place_of: the id of the mod whose place in the load order it has taken.
        swapped_by: the id of the command that did so.
        override: what a reload has changed about a mod of the network file: ``entry`` (a hash of what the file
            says), ``path`` and ``config``. An entry that is edited rules again.
        command: the newest one; ``done``: what each node answered to it.
        steps: of a mod with copies, the newest step of the command with each copy, until the command is over.
        past: what the commands before it came to, the newest last, for those who ask late.
        generation: counts the changes of what runs.
        code: of a mod with copies, the digest of what the newest reload has made of them; None: any will do.
        parts: of a mod with copies, for how many of them its states and events are kept; None: nothing is.
        split: the number for which a node has begun to divide them.
        before: what that reload has changed about the record, and the ``reload``: the id of its command.
    """

    mod_id: str
    path: str | None = None
    spec: dict[str, Any] | None = None
    position: float = 0.0
    is_unloaded: bool = False
    place_of: str | None = None
    swapped_by: str | None = None
    override: dict[str, Any] | None = None
    command: Command | None = None
    done: dict[str, dict[str, Any]] | None = None
    past: tuple[tuple[str, dict[str, dict[str, Any]]], ...] = ()
    generation: int = 0
    revision: int = 0
    steps: Mapping[str, Step] = field(default_factory=dict)
    code: str | None = None
    before: dict[str, Any] | None = None
    parts: int | None = None
    split: int | None = None

    def changed(self, **changes: Any) -> Record:
        """Return the record with another wish."""
        return replace(self, generation=self.generation + 1, **changes)

    def ordered(self, command: Command) -> Record:
        """Return the record with another command, which is under way."""
        past = self.past if self.command is None else (*self.past, (self.command.id, self.done or {}))
        return replace(self, command=command, done=None, steps={}, past=past[-MOST_PAST:])

    @property
    def is_ending(self) -> bool:
        """Whether a command is about to end the mod, which nobody may start meanwhile."""
        if self.command is None or self.done:
            return False
        failed = self.command.do == LOAD and any(not step.is_ok for step in self.steps.values())
        return failed or self.command.do == UNLOAD

    def done_by(self, command_id: str) -> dict[str, dict[str, Any]] | None:
        """Return what a command came to on each node; None if it is not known (any more)."""
        if self.command is not None and self.command.id == command_id:
            return self.done
        return dict(self.past).get(command_id)

    def to_plain(self) -> dict[str, Any]:
        command = self.command
        return {
            "path": self.path,
            "spec": self.spec,
            "position": self.position,
            "unloaded": self.is_unloaded,
            "place_of": self.place_of,
            "swapped_by": self.swapped_by,
            "override": self.override,
            "op": None
            if command is None
            else {"id": command.id, "do": command.do, "args": command.args, "by": command.by, "at": command.at},
            "done": self.done,
            "steps": {unit: step.to_plain() for unit, step in self.steps.items()},
            "past": self.past,
            "generation": self.generation,
            "code": self.code,
            "before": self.before,
            "parts": self.parts,
            "split": self.split,
        }

    @classmethod
    def from_plain(cls, mod_id: str, data: dict[str, Any], revision: int) -> Record:
        op = data["op"]
        return cls(
            mod_id=mod_id,
            path=data["path"],
            spec=data["spec"],
            position=data["position"],
            is_unloaded=data["unloaded"],
            place_of=data["place_of"],
            swapped_by=data.get("swapped_by"),
            override=data.get("override"),
            command=None if op is None else Command(op["id"], op["do"], op["args"], op["by"], op["at"]),
            done=data["done"],
            past=tuple((str(each), done) for each, done in data["past"]),
            generation=data["generation"],
            revision=revision,
            steps={unit: Step.from_plain(step) for unit, step in data.get("steps", {}).items()},
            code=data.get("code"),
            before=data.get("before"),
            parts=data.get("parts"),
            split=data.get("split"),
        )


class Desired:
    """The records of all mods, mirrored here.

    Attributes:
        records: by mod id.
        listeners: called with the id of a mod whose record has changed.
    """

    def __init__(self, bucket: Bucket, node: str) -> None:
        self._bucket = bucket
        self._node = node
        self._watch: Watch | None = None
        self.records: dict[str, Record] = {}
        self.listeners: list[Callable[[str], None]] = []
        self._moved: asyncio.Event = asyncio.Event()

    async def open(self) -> None:
        self._watch = await self._bucket.mirror("", self._changed)

    async def close(self) -> None:
        if self._watch is not None:
            await self._watch.close()

    def _changed(self, key: str, value: Any, revision: int) -> None:
        mod_id = text_of(key)
        before = self.records.get(mod_id)
        if before is not None and before.revision >= revision:
            return
        if value is None:
            self.records.pop(mod_id, None)
        else:
            self.records[mod_id] = Record.from_plain(mod_id, value, revision)
        self.wake()
        told_each(self.listeners, mod_id)

    def wake(self) -> None:
        """Have those look again who wait for a command: it is over, too, when the last node that had to do it is gone."""
        self._moved.set()
        self._moved = asyncio.Event()

    async def until(self, holds: Callable[[], bool]) -> None:
        """Wait until the records are so."""
        while not holds():
            await self._moved.wait()

    # -- writing

    async def edit(self, mod_id: str, change: Callable[[Record], Record | None]) -> Record:
        """Change a record, whoever else writes it.

        Args:
            change: returns the record as it is to be, or None to leave it. Called again if another
                node was faster.
        """
        while True:
            before = self.records.get(mod_id) or Record(mod_id)
            wanted = change(before)
            if wanted is None:
                return before
            try:
                return await self._write(wanted, before.revision)
            except Taken:
                if (entry := await self._bucket.get(token(mod_id))) is not None:
                    self._changed(entry.key, entry.value, entry.revision)
                else:
                    self.records.pop(mod_id, None)
                if self.records.get(mod_id, before).revision == before.revision:
                    await asyncio.sleep(PAUSE)  # a write of before is neither stored nor refused yet

    async def forget_overrides(self) -> None:
        """Have the mods of the network file be as it says."""
        for record in [each for each in self.records.values() if each.override is not None]:
            await self.edit(record.mod_id, lambda found: found.changed(override=None))

    async def _write(self, record: Record, revision: int) -> Record:
        key, value = token(record.mod_id), record.to_plain()
        if revision:
            revision = await self._bucket.update(key, value, revision)
        else:
            revision = await self._bucket.create(key, value)
        self._changed(key, value, revision)
        return self.records[record.mod_id]

    # -- commands

    async def order(
        self, mod_id: str, do: str, args: dict[str, Any], is_over: Callable[[Record], bool], **changes: Any
    ) -> Command:
        """Write a command into the record of a mod, when the command before it is over.

        Args:
            changes: of the record, with the command.
        """
        command = Command(uuid4().hex, do, args, self._node, time.time())

        def change(record: Record) -> Record | None:
            if not is_over(record):
                return None
            return record.ordered(command).changed(**changes) if changes else record.ordered(command)

        while True:
            await self.until(lambda: is_over(self.records.get(mod_id) or Record(mod_id)))
            record = await self.edit(mod_id, change)
            if record.command is not None and record.command.id == command.id:
                return command

    async def answer(self, command: Command, mod_id: str, response: EventResponse, **changes: Any) -> None:
        """Write what a command has come to on this node, and what is wanted of the mod from now on."""

        def change(record: Record) -> Record | None:
            if record.command is None or record.command.id != command.id:
                return None
            done = {**(record.done or {}), self._node: response.to_dict()}
            record = record.changed(**changes) if response.success and changes else record
            return replace(record, done=done)

        await self.edit(mod_id, change)

    async def outcome(self, command: Command, mod_id: str, is_over: Callable[[Record], bool]) -> EventResponse:
        """Wait until a command is over, and return the first failure, or else the first success."""

        def ended() -> bool:
            record = self.records.get(mod_id)
            return record is None or record.command is None or record.command.id != command.id or is_over(record)

        await self.until(ended)
        record = self.records.get(mod_id)
        done = None if record is None else record.done_by(command.id)
        if not done:
            text = f"mod {mod_id}: what came of the {command.do} is not known: many others came right behind it"
            raise ModvisorError(text, code=Code.CONFLICT)
        answers = [EventResponse.from_dict(each) for each in done.values()]
        return next((answer for answer in answers if not answer.success), answers[0])
