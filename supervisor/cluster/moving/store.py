"""All that a cluster keeps of its agents and mods, read and written while no node is there.

No node holds a mod then, so nothing is fenced: a mark keeps nodes away, see `mark.py`.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable
from hashlib import sha256
from typing import Any

from ...config import JournalConfig
from ...journal import Forgotten, KeptAnswer, KeptEvent, KeptFile, KeptLetter, KeptState, Whole
from ...journal import Record as Attempts
from ..agents import keys as agent_keys
from ..agents.forgetting import BUCKET as AGENTS
from ..agents.forgetting import Forgetting
from ..agents.inbox_stream import STREAM as INBOX
from ..agents.inbox_stream import InboxStream
from ..kept.checkpoints import LARGEST_MESSAGE
from ..kept.durable_log import STREAM as DURABLE
from ..kept.durable_log import stream_config
from ..kept.fenced import TTL
from ..kept.heads import CheckpointHead, Head, checkpoint_name, head_of
from ..kept.mod_log import Kept, name_of
from ..link.files import Files
from ..link.link import Link
from ..link.names import text_of, token
from ..link.newest import Newest, newest_of
from ..mods.audiences import PREFIX as FAMILY
from ..mods.desired import Record
from .mark import STATE
from .wishes import Wishes

AT_ONCE = 64  # writes that are on their way together
FIRST_TERM = 1  # the next holder is the first one
MODS = "mods"


class Held:
    """What a cluster holds, without what each node has for itself.

    Attributes:
        whole: without mods and families, which are in `wishes`.
        inboxes: how many events wait in inboxes.
        dropped: what no node of this network wrote.
    """

    def __init__(self) -> None:
        self.whole = Whole()
        self.wishes = Wishes()
        self.inboxes = 0
        self.dropped = 0

    def counts(self) -> dict[str, int]:
        """Return how many of each kind there are, without those of which there are none."""
        return {
            **counts_of(self.whole, len(self.wishes.records)),
            **({"inbox events": self.inboxes} if self.inboxes else {}),
        }


def counts_of(whole: Whole, mods: int) -> dict[str, int]:
    found = {
        "agents": len(whole.agents),
        "memberships": len(whole.members),
        "invites": len(whole.invites),
        "mods": mods,
        "accepted events": len(whole.events),
        "answers": len(whole.answers),
        "checkpoints": len(whole.checkpoints),
        "dead letters": len(whole.letters),
        "files": len(whole.files),
    }
    return {name: count for name, count in found.items() if count}


class ClusterStore:
    """The buckets, streams and files of a network."""

    def __init__(self, link: Link, config: JournalConfig) -> None:
        self._link = link
        self._config = config
        self._durable = link.names.stored(DURABLE)
        self._root = link.subject(DURABLE)
        self._copied: set[str] = set()  # mods of which each copy keeps its own

    async def open(self) -> None:
        """Make what is missing. Raises ClusterError."""
        self.state = await self._link.bucket(STATE)
        self._agents = await self._link.bucket(AGENTS)
        self._mods = await self._link.bucket(MODS)
        self._files: Files = await self._link.files()
        await self._link.jetstream.stream(self._durable, stream_config(self._root))
        self._inbox = InboxStream(self._link)
        await self._inbox.open()

    async def nodes(self) -> list[str]:
        """Return the nodes that are there."""
        return sorted(text_of(key) for key in await (await self._link.bucket("nodes")).all())

    async def forget(self, agent_id: str) -> Forgotten:
        """Delete what is kept of an agent."""
        return await Forgetting(self._link, self._agents, self._config.dead_letter_age).forget_all(agent_id)

    # -- reading

    async def read(self) -> Held:
        """Return all that the cluster holds. Raises ClusterError."""
        held = Held()
        await self._read_agents(held.whole)
        for key, (value, revision) in (await self._mods.all()).items():
            mod_id = text_of(key)
            held.wishes.records[mod_id] = Record.from_plain(mod_id, value, revision)
        for key, (value, _) in (await self.state.all(FAMILY)).items():
            held.wishes.families[text_of(key.removeprefix(FAMILY))] = value
        held.inboxes = len(await self._inbox.read(f"{self._link.subject(INBOX)}.>"))
        await self._read_durable(held)
        return held

    async def _read_agents(self, whole: Whole) -> None:
        found = await self._agents.all()
        for key, (value, _) in sorted(found.items(), key=lambda item: item[1][1]):
            match agent_keys.read(key, value):
                case "register", data:
                    whole.agents.append({name: each for name, each in data.items() if name != "home"})
                case "join", data:
                    whole.members.append((data["channel"], data["agent_id"]))
                case "private", data:
                    whole.private.append((data["channel"], data["created_by"], data["created_at"]))
                case "invite", data:
                    whole.invites.append(data)
                case _:
                    pass

    async def _read_durable(self, held: Held) -> None:
        found, held.dropped = await newest_of(self._link, self._durable, f"{self._root}.>")
        parts = _by_kind(found)
        terms = {subject.rsplit(".", 2)[0]: body[1] for subject, body, _ in parts["fence"]}
        whole = held.whole
        whole.events = [_event(subject, body, seq, terms) for subject, body, seq in sorted(
            parts["e"], key=lambda each: Kept.of(each[1], each[2]).number)]  # fmt: skip
        heirs = {root: _mod(subject) for subject, roots, _ in parts["r"] for root in roots}
        whole.answers = [
            KeptAnswer(heirs.get(subject.rsplit(".", 2)[0]) or _mod(subject), *body) for subject, body, _ in parts["a"]
        ]
        whole.letters = [_letter(body) for _, body, _ in parts["l"]]
        for _, body, _ in parts["c"]:
            found_head = CheckpointHead(*body)
            state = await self._files.get(found_head.file) if found_head.file else found_head.packed
            if state is not None:
                whole.checkpoints.append(KeptState(found_head.mod_id, found_head.version, found_head.at, state))
        for subject, body, _ in parts["f"]:
            head = head_of(body)
            if (data := await self._files.get(head.file)) is not None:
                whole.files.append(KeptFile(_mod(subject), head.name, head.at, data))
        whole.files.sort()
        for subject, (file, _), _ in parts["s"]:
            if (data := await self._files.get(file)) is not None:
                whole.snapshots[text_of(subject.split(".")[-2])] = data

    # -- writing

    async def clear(self) -> None:
        """Delete all that the cluster holds, but for the mark."""
        for stream in (self._agents.stream, self._mods.stream, self._durable, self._link.names.stored(INBOX)):
            await self._purge(stream)
        await self._purge(self.state.stream, f"$KV.{self.state.name}.{FAMILY}>")
        await self._purge(f"OBJ_{self._files.name}")

    async def _purge(self, stream: str, subject: str = "") -> None:
        body = {"filter": subject} if subject else {}
        await self._link.jetstream.request(f"STREAM.PURGE.{stream}", body, what=f"empty the stream {stream}")

    async def write(self, whole: Whole, wishes: Wishes) -> None:
        """Write all of it into an empty cluster."""
        self._copied = {mod_id for mod_id, record in wishes.records.items() if (record.parts or 1) > 1}
        await self._write_agents(whole)
        await _each(self._mods.put, ((token(mod_id), each.to_plain()) for mod_id, each in wishes.records.items()))
        await _each(self.state.put, ((FAMILY + token(name), each) for name, each in wishes.families.items()))
        await _each(self._put_event, ((each,) for each in whole.events))
        await _each(self._put_answer, ((each,) for each in whole.answers))
        await _each(self._put_letter, ((each,) for each in whole.letters))
        for state in whole.checkpoints:
            await self._put_checkpoint(state)
        for file in whole.files:
            await self._put_file(file)
        for mod_id, data in whole.snapshots.items():
            await self._put_snapshot(mod_id, data)

    async def _write_agents(self, whole: Whole) -> None:
        made: dict[str, dict[str, Any]] = {channel: {"private": False} for channel, _ in whole.members}
        for channel, created_by, created_at in whole.private:
            made[channel] = {"private": True, "created_by": created_by, "created_at": created_at}
        writes = [
            *((agent_keys.agent_key(each["agent_id"]), {**each, "home": None}) for each in whole.agents),
            *((agent_keys.channel_key(channel), value) for channel, value in made.items()),
            *((agent_keys.member_key(channel, agent_id), 1) for channel, agent_id in whole.members),
            *((f"{agent_keys.INVITE}.{token(each['invite_id'])}", each) for each in whole.invites),
        ]
        await _each(self._agents.put, writes)

    async def _put_event(self, event: KeptEvent) -> None:
        mod_id, owner, event_id, packed, at, attempts = event
        kept = Kept(0, mod_id, (owner, event_id), packed, at, FIRST_TERM, attempts)
        await self._store(mod_id, f"{name_of(kept.key)}.e", kept.body())

    async def _put_answer(self, answer: KeptAnswer) -> None:
        mod, owner, event_id, at, packed = answer
        left = at + self._config.answer_age - time.time()
        if left >= 1 and len(packed) <= self._config.answer_bytes:
            await self._store(mod, f"{name_of((owner, event_id))}.a", [owner, event_id, at, packed], left)

    async def _put_letter(self, letter: KeptLetter) -> None:
        mod_id, at, attempts, code, reason, event, report = letter
        left = at + self._config.dead_letter_age - time.time()
        if left >= 1:
            size = len(event) + len(report or b"")
            body = [mod_id, at, attempts, code, reason, size, event, report]
            await self._store(mod_id, f"l{secrets.token_hex(8)}.l", body, left)

    async def _put_checkpoint(self, state: KeptState) -> None:
        mod_id, version, at, packed = state
        file = ""
        if len(packed) > min(LARGEST_MESSAGE, self._link.most_kept):
            file = f"checkpoint.{token(mod_id)}.{secrets.token_hex(8)}"
            await self._files.put(file, packed)
        await self._store(mod_id, checkpoint_name(mod_id), list(CheckpointHead.of(mod_id, version, at, packed, file)))

    async def _put_file(self, kept: KeptFile) -> None:
        file = f"file.{secrets.token_hex(16)}"
        await self._files.put(file, kept.data)
        await self._store(kept.mod, f"{token(kept.name)}.f", list(Head(kept.name, kept.at, len(kept.data), file)))

    async def _put_snapshot(self, mod_id: str, data: bytes) -> None:
        file = f"snapshot.{token(mod_id)}.{secrets.token_hex(8)}"
        await self._files.put(file, data)
        await self._store(mod_id, f"{token(mod_id)}.s", [file, sha256(data).digest()])

    async def _store(self, mod_id: str, name: str, body: Any, seconds: float | None = None) -> None:
        mod = mod_id.partition("#")[0]
        subject = f"{self._root}.{token(mod_id if mod in self._copied else mod)}.{name}"
        headers = None if seconds is None else {TTL: f"{int(seconds)}s"}
        data = self._link.seal.sealed(body, subject.encode())
        await self._link.jetstream.store(
            subject, data, headers, stream=self._durable, what=f"keep what mod {mod_id} has"
        )


async def _each(do: Callable[..., Awaitable[Any]], calls: Iterable[tuple[Any, ...]]) -> None:
    """Call it for each, some at once. What they send leaves in this order."""
    waiting = list(calls)
    for begin in range(0, len(waiting), AT_ONCE):
        await asyncio.gather(*(do(*call) for call in waiting[begin : begin + AT_ONCE]))


_Message = tuple[str, Any, int]


def _by_kind(found: Newest) -> dict[str, list[_Message]]:
    """Return the messages by the last token of their subjects, in the order of the stream."""
    kinds: dict[str, list[_Message]] = defaultdict(list)
    for subject, (body, seq) in sorted(found.items(), key=lambda item: item[1][1]):
        kind = "fence" if subject.endswith(".fence.e") else subject.rpartition(".")[2]
        kinds[kind].append((subject, body, seq))
    return kinds


def _mod(subject: str) -> str:
    """Return the mod below whose subject a message is."""
    return text_of(subject.split(".")[-3])


def _event(subject: str, body: list[Any], seq: int, terms: dict[str, int]) -> KeptEvent:
    kept = Kept.of(body, seq)
    term = terms.get(subject.rsplit(".", 2)[0], 0) + 1  # of the holder that would come next
    attempts: Attempts = kept.record._replace(attempt=kept.record.attempt + term - kept.term)
    return KeptEvent(kept.worker, *kept.key, kept.event, kept.at, attempts)


def _letter(body: list[Any]) -> KeptLetter:
    mod_id, at, attempts, code, reason, _, event, report = body
    return KeptLetter(mod_id, at, attempts, code, reason, event, report)
