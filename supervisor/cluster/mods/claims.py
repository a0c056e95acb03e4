"""Claims in a bucket that all nodes see: which node runs which mod.

A claim is a key without a time to live that names a node and its session. It is good as long as the
session lives, so a node with a thousand mods renews one key. The revision of the key is the fencing
token. Each change of a key names the revision that it replaces; of two nodes that want one mod, the
servers let one have it.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any, NamedTuple

from ....ipc.errors import Code, ModvisorError
from ...fleet import Claim
from ..link.buckets import Bucket, Watch
from ..link.errors import Taken
from ..link.names import text_of, token
from ..nodes.members import told_each
from ..nodes.session import Session

logger = logging.getLogger("modvisor.cluster")

FORGOTTEN = 600.0
"""Seconds after which a session that has ended is forgotten, if no claim names it."""


class Held(NamedTuple):
    """Who has a claim.

    Attributes:
        revision: of the key; the fencing token.
        is_handed: the node before has given it, and has sent the mod's state along.
    """

    mod_id: str
    node: str
    session: str
    revision: int
    is_handed: bool = False


class NodeClaims:
    """The claims of one node, see `Claims`.

    Args:
        patience: seconds after which a session that was never seen counts as gone. It is longer than
            a session lives without being renewed.
        is_exclusive: tells whether a mod is claimed at all. A mod that runs on all nodes is not, and
            has the token 0.

    Attributes:
        held: all claims, by mod id, as far as this node has heard.
        listeners: called with the id of a mod whose claim has changed.
    """

    def __init__(
        self, bucket: Bucket, session: Session, patience: float, is_exclusive: Callable[[str], bool] = lambda _: True
    ) -> None:
        self._bucket = bucket
        self._session = session
        self._patience = patience
        self._is_exclusive = is_exclusive
        self._seen: set[str] = set()  # sessions that were alive at some time
        self._ended: dict[str, float] = {}  # sessions that have ended: when that came here
        self._unsure: set[str] = set()  # mods whose claim was given away here by a write that may be stored later
        self._missed: dict[str, float] = {}  # sessions that were never seen: since when a claim names them
        self._watch: Watch | None = None
        self.held: dict[str, Held] = {}
        self.listeners: list[Callable[[str], None]] = []

    async def open(self) -> None:
        """Learn who has which claim, and follow it."""
        self._session.listeners.append(self._look_at_sessions)
        self._look_at_sessions()
        self._watch = await self._bucket.mirror("", self._changed)

    async def close(self) -> None:
        if self._watch is not None:
            await self._watch.close()
            self._session.listeners.remove(self._look_at_sessions)

    # -- who has what

    def _look_at_sessions(self) -> None:
        alive = {info.session for info in self._session.nodes.values()}
        now = time.monotonic()
        self._ended.update((session, now) for session in self._seen - alive if session not in self._ended)
        self._seen |= alive
        for session in alive:
            self._missed.pop(session, None)
        self._forget_sessions(now)

    def _forget_sessions(self, now: float) -> None:
        """Forget sessions that no claim has named for long: a claim that is read late may still name one."""
        named = {held.session for held in self.held.values()}
        for session in [each for each, at in self._ended.items() if now - at > FORGOTTEN and each not in named]:
            del self._ended[session]
            self._seen.discard(session)
        self._missed = {session: since for session, since in self._missed.items() if session in named}

    def _changed(self, key: str, value: Any, revision: int) -> None:
        if value is None:
            mod_id = text_of(key)
            if (held := self.held.get(mod_id)) is None or held.revision > revision:
                return
            del self.held[mod_id]
        else:
            mod_id = text_of(key)
            if (before := self.held.get(mod_id)) is not None and before.revision >= revision:
                return
            self.held[mod_id] = Held(
                mod_id, str(value["node"]), str(value["session"]), revision, bool(value.get("handed"))
            )
        self._unsure.discard(mod_id)
        told_each(self.listeners, mod_id)

    def mine(self, mod_id: str) -> Held | None:
        """Return the claim of this node's present session to a mod."""
        held = self.held.get(mod_id)
        return held if held is not None and held.session == self._session.id else None

    def node_of(self, mod_id: str) -> str | None:
        """Return the node that has a mod; None if its session is gone, or nobody has the mod."""
        held = self.held.get(mod_id)
        return None if held is None or self.is_gone(held) else held.node

    def is_gone(self, held: Held) -> bool:
        """Whether the session of a claim has ended.

        A session that this node has never seen may have just begun: it counts as gone when it was
        not heard of for longer than a session lives without being renewed, by a node that hears of sessions.
        """
        if held.session == self._session.id or held.session in {info.session for info in self._session.nodes.values()}:
            return False
        if held.session in self._seen:
            return True
        if self._session.is_blind:
            self._missed[held.session] = time.monotonic()
            return False
        since = self._missed.setdefault(held.session, time.monotonic())
        return time.monotonic() - since > self._patience

    def ended(self, held: Held) -> float | None:
        """Return when this node heard that the session of a claim has ended, `time.monotonic`; None: it did not."""
        return self._ended.get(held.session)

    # -- claiming

    async def claim(self, mod_id: str) -> Claim | None:
        if not self._is_exclusive(mod_id):
            return Claim(mod_id, 0)
        session, held = self._session.id, self.held.get(mod_id)
        if session is None:
            text = f"mod {mod_id}: this node is cut off from the cluster, and may run no mod that runs once"
            raise ModvisorError(text, code=Code.MOD_AWAY)
        if held is not None and held.session == session:
            if mod_id not in self._unsure:
                return Claim(mod_id, held.revision)
            return await self._write(mod_id, self._session.node, session, held, handed=True)  # that write fails now
        if held is not None and not self.is_gone(held):
            return None
        return await self._write(mod_id, self._session.node, session, held)

    async def hand_over(self, claim: Claim, node: str, session: str) -> bool:
        """Give a claim to another node in one step; returns whether it was still ours.

        Raises:
            ClusterError: it may be given to that node later, unless `claim` takes it back.
        """
        held = self.held.get(claim.mod_id)
        if held is None or held.revision != claim.token:
            return False
        self._unsure.add(claim.mod_id)
        return await self._write(claim.mod_id, node, session, held, handed=True) is not None

    async def _write(
        self, mod_id: str, node: str, session: str, held: Held | None, *, handed: bool = False
    ) -> Claim | None:
        key, value = token(mod_id), {"node": node, "session": session, "handed": handed}
        try:
            if held is None:
                revision = await self._bucket.create(key, value)
            else:
                revision = await self._bucket.update(key, value, held.revision)
        except Taken:
            return None
        self._changed(key, value, revision)
        return Claim(mod_id, revision)

    async def release(self, claim: Claim) -> None:
        held = self.held.get(claim.mod_id)
        if held is None or held.revision != claim.token:
            return
        self._unsure.add(claim.mod_id)
        try:
            await self._bucket.delete(token(claim.mod_id), claim.token)
        except Taken:
            logger.info("mod %s: another node has its claim by now", claim.mod_id)
        else:
            self._changed(token(claim.mod_id), None, claim.token)
