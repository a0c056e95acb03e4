"""Asks the node that has a mod about an event, and waits for the next node while none has it.

A question goes to a subject that names the mod and the fencing token of its claim. So a node that
has lost the claim gets none, even if it does not know yet; the node that has it next has another subject.

What becomes of an event whose node is gone is what becomes of it when a worker dies: a mod with
`delivery: at_least_once` is asked again, with the next `attempt`; for all others it fails with the
reason. A question that nobody got, or that a node refused before it began, is asked again until the
deadline, whatever the mod.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NamedTuple

from ....ipc.errors import Code, ModvisorError, RemoteProtocolError
from ....ipc.messages import pack, unpack
from ...calls import Answer, Journey, Unanswered
from ...config import AT_LEAST_ONCE, ModConfig
from ..link.errors import ClusterError, LinkDown, Nobody
from ..link.link import Link
from ..mods.claims import Held
from .frames import LONGEST_WAIT, AskAgain, BadFrame, Copy, Filed, Notice, Ping, Question, encoded, heard
from .large import SPARE, Large
from .lines import HolderGone, Line
from .passages import Passages

CANCEL, SERVING, CONNECTED = "cancel", "serving", "connected"
PART = "all"


class Holders(NamedTuple):
    """How asking learns who has which mod.

    Attributes:
        holder_of: the claim of a mod that is good now, or None. A mod without claims (`copies: all`)
            has one with the token 0 and no node: one of its `runners` is asked.
        runners: the nodes that may run such a mod, the one first that this node should ask.
        is_gone: whether the session of a claim has ended.
        config_of: a mod's config; None: no such mod is known.
    """

    holder_of: Callable[[str], Held | None]
    runners: Callable[[str], list[Held]]
    is_gone: Callable[[Held], bool]
    config_of: Callable[[str], ModConfig | None]


def subject_of(mod_id: str, part: int | None, holder: Held) -> tuple[str, ...]:
    """Return the parts of the subject on which a node is asked. A mod without claims has one subject per node."""
    where = "mod", mod_id, PART if part is None else str(part), str(holder.revision)
    return where if holder.revision else (*where, holder.node)


class _Sent(NamedTuple):
    """What is known of a question that was sent before.

    Attributes:
        may_have_begun: with the event.
        changes: of its line, when it was sent.
    """

    holder: Held | None
    failure: Unanswered | None
    may_have_begun: bool
    changes: int


_TRIED = (TimeoutError, asyncio.CancelledError, AskAgain, Nobody, HolderGone, LinkDown)
"""What becomes of a question that gets no answer."""


class NodeAsking:
    """Asks mods of other nodes.

    Attributes:
        passages: shared with the answering side of this node.
    """

    def __init__(self, link: Link, holders: Holders) -> None:
        self._link = link
        self._holders = holders
        self._lines: dict[tuple[str, int | None], Line] = {}
        self._large_of: dict[str | None, asyncio.Future[None]] = {}
        self._loop = asyncio.get_running_loop()
        self.large = Large(link)
        self.passages = Passages(link.instance)
        link.listeners.append(self._connected)

    # -- who has what

    def moved(self, mod_id: str) -> None:
        """Ask again whoever waits for a mod, because its node or its state has changed."""
        for (each, _), line in self._lines.items():
            if each == mod_id:
                line.fail(self._is_gone)
                line.wake()

    def reconnected(self, node: str) -> None:
        """Ask a node again that had lost its connection: questions to it, and its answers, may be lost with that.

        Events that found nobody meanwhile wait for this, too: nothing else has changed.
        """

        def lost() -> LinkDown:
            return LinkDown(f"node {node} lost its connection to the servers", was_sent=True)

        for line in self._lines.values():
            has_failed = line.fail(lambda holder: holder.node == node, lost)
            if has_failed or line.holder is None or line.holder.node == node:
                line.wake()

    def _connected(self, is_connected: bool) -> None:
        if is_connected:
            for line in self._lines.values():
                line.wake()

    def _is_gone(self, holder: Held) -> bool:
        return bool(holder.node) and self._holders.is_gone(holder)

    # -- asking

    async def ask(self, mod_id: str, part: int | None, journey: Journey) -> Answer:
        """See `Asking.ask`. The usual question leaves at once and is answered; `_ask` has all others."""
        packed, link = journey.packed, self._link
        size, line = len(packed), self._lines.get((mod_id, part)) or self._line(mod_id, part)
        if line.count >= line.most or (line.count and line.bytes + size > line.most_bytes):
            raise self._overloaded(mod_id, line)
        number, before = self.passages.begin(journey), None
        line.count += 1
        line.bytes += size
        try:
            if self._large_of:
                await self._behind_large(journey)
            if (holder := line.holder) is not None and line.is_clear and size <= link.most_answer - SPARE:
                changes = line.changes
                asked, answer = self._begin(holder, mod_id, journey, line, number, packed, False)
                try:
                    reply = await answer
                    return heard(reply, journey) if type(reply) is bytes else await self._heard(reply, journey, mod_id)
                except _TRIED as error:
                    before = self._tried(error, holder, mod_id, journey, number, _Sent(holder, None, False, changes))
                finally:
                    line.came_back(number)
                    link.bundles.end(asked)
            return await self._ask(mod_id, part, journey, line, number, before)
        finally:
            line.count -= 1
            line.bytes -= size
            self.passages.end(number)

    def _line(self, mod_id: str, part: int | None) -> Line:
        self._forget_lines()
        line = self._lines[mod_id, part] = Line()
        self._look_up(mod_id, part, line)
        return line

    def _forget_lines(self) -> None:
        """Forget the lines to mods that the network has no more."""
        config_of = self._holders.config_of
        for key in [key for key, line in self._lines.items() if not line.count and config_of(key[0]) is None]:
            self._lines.pop(key).wake()  # it ends a question whether a node serves the mod

    def _overloaded(self, mod_id: str, line: Line) -> Unanswered:
        text = f"mod {mod_id} is overloaded: {line.count} events are under way to the node that has it"
        return Unanswered(text, code=Code.OVERLOADED, waiting=line.count)

    async def _ask(
        self, mod_id: str, part: int | None, journey: Journey, line: Line, number: int, before: _Sent | None
    ) -> Answer:
        """Ask about an event that waits for a node, or is large, or was sent before."""
        if before is None and line.is_queued:
            await self._until(line.wait_behind(number, journey.deadline), mod_id, line, before)
        while True:
            holder = line.holder or self._look_up(mod_id, part, line)
            is_new = before is None or before.changes != line.changes
            if holder is not None and is_new and not line.is_proven:
                self._prove(mod_id, part, line)
            if holder is None or not is_new or not line.is_proven:
                await self._until(line.wait(number, journey.deadline), mod_id, line, before)
                if before is not None:
                    before = before._replace(changes=-1)
                continue
            if line.is_behind(number, journey.owner):
                await self._until(line.wait_for_return(journey.deadline), mod_id, line, before)
                continue
            if journey.owner in self._large_of:
                await self._behind_large(journey)
                continue
            is_again = before is not None and before.may_have_begun
            if is_again and before is not None and holder != before.holder:
                self._next_attempt(mod_id, journey, before.failure)
                is_again = False
            sent = _Sent(holder, None, is_again, line.changes)
            try:
                return await self._question(holder, mod_id, journey, line, number, is_again)
            except _TRIED as error:
                before = self._tried(error, holder, mod_id, journey, number, sent)

    def _look_up(self, mod_id: str, part: int | None, line: Line) -> Held | None:
        """Return the node to ask about a mod, and note how many events may be under way to it."""
        if (config := self._holders.config_of(mod_id)) is not None:
            limits, workers = config.limits, config.workers or 1
            line.most, line.most_bytes = (limits.concurrency + limits.queue) * workers, limits.queue_bytes * workers
        holder = self._holders.holder_of(mod_id)
        if holder is not None and not holder.revision:
            holder = next((each for each in self._holders.runners(mod_id) if each.node not in line.avoid), None)
        line.goes_to(holder)
        if holder is not None:
            line.subject = self._link.subject(*subject_of(mod_id, part, holder))
        return holder

    def _prove(self, mod_id: str, part: int | None, line: Line) -> None:
        """Find out whether the node that is to be asked serves the mod; if so, let the waiting events go on."""
        if line.proving is None:
            line.proving = self._loop.create_task(self._ping(mod_id, part, line, line.holder))

    async def _ping(self, mod_id: str, part: int | None, line: Line, holder: Held) -> None:
        changes = line.changes
        while line.changes == changes and not line.is_proven:
            due = self._loop.time() + self._link.config.timeout
            number, answer = self._link.bundles.begin(line.subject, encoded(Ping()), due)
            try:
                await answer
                line.is_proven = True
            except TimeoutError:
                line.problem = f"node {holder.node} does not answer"
            except ClusterError as error:
                line.problem = f"no node answers for it now ({error})"
                break
            finally:
                self._link.bundles.end(number)
        line.proving = None
        if not line.is_proven and not holder.revision:  # another node may run a copy
            line.avoid.add(holder.node)
            if self._look_up(mod_id, part, line) is not None:
                return self._prove(mod_id, part, line)
        if line.is_proven:
            line.go()
        return None

    def _tried(
        self, error: BaseException, holder: Held, mod_id: str, journey: Journey, number: int, sent: _Sent
    ) -> _Sent | None:
        """Return what is known of a question that got no answer. None: ask anew. Raises if it is not asked again."""
        match error:
            case TimeoutError():
                self._cancel(holder, number)
                raise self._late(holder, mod_id) from None
            case AskAgain():
                return sent._replace(failure=error.failure, may_have_begun=False)
            case Nobody():
                text = f"mod {mod_id}: no node answers for it now ({error})"
                return sent._replace(failure=Unanswered(text, code=Code.MOD_AWAY))
            case HolderGone():
                text = f"node {holder.node} is gone, which had mod {mod_id}, and may have begun with the event"
                self._next_attempt(mod_id, journey, Unanswered(text, code=Code.MOD_AWAY, node=holder.node))
                return None
            case LinkDown():
                failure = Unanswered(f"mod {mod_id} on node {holder.node}: {error}", code=Code.MOD_AWAY)
                return sent._replace(failure=failure, may_have_begun=sent.may_have_begun or error.was_sent)
        self._cancel(holder, number)  # the caller gave up
        raise error

    def _next_attempt(self, mod_id: str, journey: Journey, failure: Unanswered | None) -> None:
        """Make it the event's next attempt. Raise the failure if the mod is asked once at most."""
        config = self._holders.config_of(mod_id)
        if failure is not None and (config is None or config.delivery != AT_LEAST_ONCE):
            raise failure
        journey.own()
        journey.attempt += 1

    async def _until(self, waiting: Any, mod_id: str, line: Line, before: _Sent | None) -> None:
        try:
            await waiting
        except TimeoutError:
            if before is not None and before.failure is not None:
                raise before.failure from None
            if line.problem:
                raise Unanswered(f"mod {mod_id}: {line.problem}", code=Code.MOD_AWAY) from None
            raise Unanswered(
                f"mod {mod_id} runs on no node now, and no node started it in time", code=Code.MOD_AWAY
            ) from None

    def _begin(
        self, holder: Held, mod_id: str, journey: Journey, line: Line, number: int, packed: bytes, is_again: bool
    ) -> tuple[int, asyncio.Future[Any]]:
        """Ask the node that has the mod. Returns the question's number, and the future of its answer."""
        body, due = self._body(holder, mod_id, journey, number, packed, is_again)
        asked = self._link.bundles.begin(line.subject, body, due)
        line.sent(number, asked[1], holder, journey.owner)
        return asked

    def _body(
        self, holder: Held, mod_id: str, journey: Journey, number: int, packed: bytes, is_again: bool
    ) -> tuple[bytes, float]:
        """Return the question as it is sent, and the loop time until which its answer is waited for."""
        now = self._loop.time()
        left = min(journey.deadline - now, LONGEST_WAIT)
        if left <= 0:
            raise self._late(holder, mod_id)
        chain = self.passages.chain_of(journey) if journey.parent is not None else ()
        question = Question(
            self.passages.own, number, is_again, left, journey.allowed, journey.attempt, journey.owner,
            journey.versions, chain, packed,
        )  # fmt: skip
        return encoded(question), now + left

    async def _question(
        self, holder: Held, mod_id: str, journey: Journey, line: Line, number: int, is_again: bool
    ) -> Answer:
        """Ask the node that has the mod, and wait for its answer."""
        packed, subject, file = journey.packed, line.subject, ""  # before a wait: the mod may move meanwhile
        body, due = self._body(holder, mod_id, journey, number, packed, is_again)
        if self.large.is_large(len(packed)):
            file = await self._put(journey, body)
            body = encoded(Filed(file, journey.owner))
        asked, answer = self._link.bundles.begin(subject, body, due)
        line.sent(number, answer, holder, journey.owner)
        try:
            return await self._heard(await answer, journey, mod_id)
        finally:
            line.came_back(number)
            self._link.bundles.end(asked)
            if file:
                self.large.drop(file)

    async def _heard(self, reply: Any, journey: Journey, mod_id: str) -> Answer:
        try:
            match reply:
                case [3, str(name), *_]:
                    reply = unpack(await self.large.take(name))
                    self.large.drop(name)
            return heard(reply, journey)
        except LinkDown as error:  # while the answer was fetched: the mod has handled the event
            raise LinkDown(str(error), was_sent=True) from None
        except (BadFrame, RemoteProtocolError, ClusterError) as error:
            raise Unanswered(f"mod {mod_id}: {error}", code=error.code) from None

    @staticmethod
    def _late(holder: Held, mod_id: str) -> Unanswered:
        where = f"on node {holder.node} " if holder.node else ""
        return Unanswered(f"mod {mod_id} {where}did not answer in time", code=Code.TIMEOUT)

    def _cancel(self, holder: Held, number: int) -> None:
        """Tell the node that nobody waits for the answer any more."""
        to = ("node", holder.node, CANCEL) if holder.node else ("all", CANCEL)
        self._link.tell(self._link.subject(*to), [self.passages.own, number])

    # -- large events: the sender's next ones wait behind them, so that they keep their order

    async def _behind_large(self, journey: Journey) -> None:
        while (large := self._large_of.get(journey.owner)) is not None:
            try:
                async with asyncio.timeout_at(journey.deadline):
                    await asyncio.shield(large)
            except TimeoutError:
                raise Unanswered("a large event of the sender did not leave in time", code=Code.TIMEOUT) from None

    async def _put(self, journey: Journey, body: bytes) -> str:
        self._large_of[journey.owner] = left = self._loop.create_future()
        try:
            return await self.large.put(body)
        except ClusterError as error:
            if isinstance(error, LinkDown):
                raise LinkDown(str(error)) from None
            raise Unanswered(f"a large event could not be sent to another node: {error}", code=error.code) from None
        finally:
            if self._large_of.get(journey.owner) is left:
                del self._large_of[journey.owner]
            left.set_result(None)

    # -- copies

    def observe(self, mod_id: str, part: int | None, data: dict[str, Any]) -> None:
        self._tell(mod_id, part, Copy, data)

    def notify(self, mod_id: str, part: int | None, data: dict[str, Any]) -> None:
        self._tell(mod_id, part, Notice, data)

    def _tell(self, mod_id: str, part: int | None, kind: type[Copy] | type[Notice], data: dict[str, Any]) -> None:
        line = self._lines.get((mod_id, part)) or self._line(mod_id, part)
        if line.holder is None and self._look_up(mod_id, part, line) is None:
            return
        with suppress(ModvisorError):  # a copy is never waited for
            self._link.bundles.tell(line.subject, encoded(kind(pack(data))))
