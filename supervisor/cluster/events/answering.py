"""Answers other nodes that ask the mods of this one."""

from __future__ import annotations

import asyncio
import logging
import math
from collections import deque
from collections.abc import Awaitable
from typing import Any

import anyio

from ....ipc.errors import Code, ModvisorError, Unserializable
from ....ipc.event import EventResponse
from ....ipc.messages import pack
from ...calls import Answer, Journey, Unanswered, Unbegun
from ...events import Answers
from ...fleet import ModElsewhere, ModRegistry, WorkerGroup, unit_named, units_of
from ...lifecycle import Keeper, State
from ..link.errors import ClusterError, LinkDown, NotPermitted
from ..link.link import Link
from ..link.wire import PERMITTED_AGAIN, Handler, Reply, Served
from ..mods.claims import Held
from .asking import CANCEL, CONNECTED, SERVING, NodeAsking, subject_of
from .frames import (
    FILE,
    BadFrame,
    Copy,
    Filed,
    Passage,
    Ping,
    Question,
    Sent,
    event_data,
    problem,
    said,
    sent,
)
from .recent import Recent

logger = logging.getLogger("modvisor.cluster")

_RUNS = (Keeper, WorkerGroup)


class Answering:
    """Serves the subject of each mod or copy that runs here and is ready, or comes back by itself.

    Args:
        asking: of this node: it knows what is under way from here, and is told by others who serves.
        answers: of this node's gateway. A retry of an event gets the first answer, whichever of its
            ways came by this node.

    Attributes:
        refused: how many messages of other nodes made no sense.
    """

    def __init__(self, link: Link, mods: ModRegistry, asking: NodeAsking, answers: Answers) -> None:
        self._link = link
        self._mods = mods
        self._asking = asking
        self._answers = answers
        self._served: dict[tuple[str, int], Served] = {}
        subject = link.subject
        self._on_told: dict[str, Handler] = {
            subject("node", link.node, CANCEL): self._cancelled,
            subject("all", CANCEL): self._cancelled,
            subject("all", SERVING): self._serving,
            subject("all", CONNECTED): self._reconnected,
        }
        self._told: dict[str, Served] = {}
        self._not_permitted: set[str] = set()  # subjects
        self._asked: dict[Passage, tuple[asyncio.Task[None], list[Reply]]] = {}
        self._behind: dict[tuple[str, str | None], deque[tuple[Question | Filed, Reply]]] = {}
        self._recent = Recent()
        self._tasks: set[asyncio.Task[None]] = set()
        self._wake = anyio.Event()
        self._loop = asyncio.get_running_loop()
        self.refused = 0
        link.listeners.append(self._connected)

    def look(self) -> None:
        """Look soon at which mods are here."""
        self._wake.set()

    async def run(self) -> None:
        """Serve until cancelled. What the servers do not permit is told, and tried again: the node goes on without."""
        while True:
            self._wake = anyio.Event()
            await self._serve_all()
            await self._follow()
            with anyio.move_on_after(PERMITTED_AGAIN if self._not_permitted else math.inf):
                await self._wake.wait()

    async def _serve_all(self) -> None:
        what = "this node does not hear what others tell about their questions"
        for subject, on in self._on_told.items():
            if subject not in self._told and (served := await self._serve(subject, on, what)) is not None:
                self._told[subject] = served

    async def _serve(self, subject: str, on: Handler, what: str, **how: Any) -> Served | None:
        """Serve a subject; None: the servers do not permit it, which is told once."""
        try:
            served = await self._link.serve(subject, on, **how)
        except NotPermitted as error:
            if subject not in self._not_permitted:
                logger.error("%s: %s; it is tried again every %g s", what, error, PERMITTED_AGAIN)
            self._not_permitted.add(subject)
            return None
        self._not_permitted.discard(subject)
        return served

    async def _follow(self) -> None:
        wanted = {
            (mod.mod_id, self._mods.tokens.get(mod.mod_id, 0))
            for mod in units_of(self._mods)
            if mod.keepers and mod.state is not State.STARTING
        }
        for key in self._served.keys() - wanted:
            await self._served.pop(key).close()
        subjects = {key: self._subject_of(*key) for key in wanted}
        self._not_permitted &= {*self._on_told, *subjects.values()}
        for mod_id, token in wanted - self._served.keys():
            what = f"no other node can ask mod {mod_id} here"
            subject, on = subjects[mod_id, token], self._handler(mod_id)
            if (served := await self._serve(subject, on, what, queue="h", in_bundles=True)) is not None:
                self._served[mod_id, token] = served
                self._link.tell(self._link.subject("all", SERVING), mod_id)

    def _subject_of(self, mod_id: str, token: int) -> str:
        return self._link.subject(*subject_of(mod_id, None, Held(mod_id, self._link.node, "", token)))

    async def close(self) -> None:
        """Serve no more. What was asked before is answered as far as the mods still do."""
        for served in [*self._served.values(), *self._told.values()]:
            await served.close()
        self._served.clear()
        for task in [*self._tasks, *(task for task, _ in self._asked.values())]:
            task.cancel()

    def _serving(self, body: Any, _reply: Reply) -> None:
        if type(body) is str:
            self._asking.moved(body)

    def _connected(self, is_connected: bool) -> None:
        if is_connected:  # the others also learn by this what began to be served meanwhile
            self._link.tell(self._link.subject("all", CONNECTED), self._link.node)

    def _reconnected(self, body: Any, _reply: Reply) -> None:
        if type(body) is str:
            self._asking.reconnected(body)

    # -- questions

    def _handler(self, mod_id: str):  # type: ignore[no-untyped-def]
        def handle(body: Any, reply: Reply) -> None:
            try:
                self._take(mod_id, sent(body), reply)
            except BadFrame as error:
                self._refuse(error, reply)

        return handle

    def _refuse(self, error: BadFrame, reply: Reply) -> None:
        self.refused += 1
        reply(problem(error))

    def _take(self, mod_id: str, message: Sent, reply: Reply) -> None:
        if isinstance(message, (Question, Filed)):
            if self._behind and (behind := self._behind.get((mod_id, message.owner))) is not None:
                return behind.append((message, reply))
            if type(message) is Question:
                return self._take_question(mod_id, message, reply)
            return self._take_file(mod_id, message, reply)
        if isinstance(message, Ping):
            return reply(None)
        mod = unit_named(self._mods, mod_id)
        if mod is not None and mod.keepers:
            (mod.observe if isinstance(message, Copy) else mod.notify)(event_data(message.packed))
        return None

    def _take_file(self, mod_id: str, message: Question | Filed, reply: Reply) -> None:
        """Fetch a large question; those that the sender asks meanwhile wait, so that they keep their order."""
        key = mod_id, message.owner
        behind = self._behind[key] = deque([(message, reply)])
        self._start(self._take_behind(mod_id, key, behind))

    async def _take_behind(
        self, mod_id: str, key: tuple[str, str | None], behind: deque[tuple[Question | Filed, Reply]]
    ) -> None:
        try:
            while behind:
                message, reply = behind.popleft()
                try:
                    self._take_question(mod_id, await self._fetched(message), reply)
                except BadFrame as error:
                    self._refuse(error, reply)
                except ClusterError as error:
                    reply(problem(error))
        finally:
            del self._behind[key]

    async def _fetched(self, message: Question | Filed) -> Question:
        if isinstance(message, Question):
            return message
        question = sent(await self._asking.large.take(message.name))
        if not isinstance(question, Question):
            raise BadFrame("a node put no question into the file of a question")
        return question

    def _take_question(self, mod_id: str, question: Question, reply: Reply) -> None:
        passage = question.passage
        if question.is_again:
            if passage in self._recent:
                return self._give(self._recent[passage], reply)
            if (asked := self._asked.get(passage)) is not None:
                asked[1].append(reply)
                return None
            if not self._recent.is_known(passage):
                text = f"mod {mod_id}: the connection was lost, and whether the event was handled is not known any more"
                return reply(problem(Unanswered(text, code=Code.MOD_AWAY)))
        replies = [reply]
        journey = question.journey(self._loop.time())
        task = self._loop.create_task(self._answer(mod_id, question, journey, replies))
        self._asked[passage] = task, replies
        return None

    def _start(self, work: Any) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _answer(self, mod_id: str, question: Question, journey: Journey, replies: list[Reply]) -> None:
        """Ask the mod and answer. The usual question is asked for the first time, and takes this one coroutine."""
        passages, passage = self._asking.passages, question.passage
        passages.came(question, journey)
        answers, key, mod = self._answers, journey.key, unit_named(self._mods, mod_id)
        is_first = question.attempt == 1 and question.asker != self._link.instance
        try:
            if is_first and isinstance(mod, _RUNS) and answers.begins(key):
                try:
                    response = await mod.ask(journey)
                except BaseException as failure:  # noqa: BLE001 - what is no failure of the question is raised again
                    answers.finish(key, None)
                    answer = self._failed(mod_id, failure)
                else:
                    is_response = type(response) is EventResponse
                    answers.finish(
                        key, response if is_response else None, remember=is_response and (journey.answer or True)
                    )
                    answer = said(response, journey)
            else:
                answer = await self._reply_to(mod_id, question, journey)
            self._recent.add(passage, answer)
            for reply in replies:
                self._give(answer, reply)
        finally:
            passages.gone(journey)
            self._asked.pop(passage, None)

    def _give(self, answer: Any, reply: Reply) -> None:
        try:
            reply(answer)
        except (ClusterError, Unserializable):
            self._start(self._carry(answer, reply))

    async def _carry(self, answer: Any, reply: Reply) -> None:
        """Give what stands for an answer that no message can carry."""
        try:
            reply([FILE, await self._asking.large.put(pack(answer))])
        except ModvisorError as error:
            if self._link.is_connected or not isinstance(error, LinkDown):  # else it is asked for again afterwards
                reply(problem(ModvisorError(f"the answer cannot be sent: {error}", code=error.code)))

    async def _reply_to(self, mod_id: str, question: Question, journey: Journey) -> Any:
        try:
            if question.attempt > 1 or question.asker == self._link.instance:
                return said(await self._ask(mod_id, journey, question.attempt), journey)
            return await self._once(mod_id, journey)
        except Exception as failure:  # noqa: BLE001 - what another node sends may not end this one
            return self._failed(mod_id, failure)

    def _failed(self, mod_id: str, failure: BaseException) -> Any:
        """Return the answer to a question that failed. Raises what is no failure of it."""
        if isinstance(failure, Unbegun):
            return problem(failure, may_ask_again=failure.is_moving or self._has_left(mod_id))
        if isinstance(failure, ModvisorError):
            return problem(failure)
        if not isinstance(failure, Exception):
            raise failure
        logger.error("mod %s: a question of another node failed", mod_id, exc_info=failure)
        return problem(ModvisorError("internal error; the log of the node that has the mod has the traceback"))

    def _has_left(self, mod_id: str) -> bool:
        mod = unit_named(self._mods, mod_id)
        return mod is None or not mod.keepers

    async def _once(self, mod_id: str, journey: Journey) -> Any:
        """Ask the mod, unless it was asked before: then the first answer counts."""
        answers, key = self._answers, journey.key
        while not answers.begins(key):
            repeated = await answers.repeated(key, journey.deadline)
            if repeated is not None:
                return [0, repeated.to_dict()]
        try:
            answer = await self._ask(mod_id, journey, 1)
        except BaseException:
            answers.finish(key, None)
            raise
        response = answer if isinstance(answer, EventResponse) else None
        answers.finish(key, response, remember=response is not None and (journey.answer or True))
        return said(answer, journey)

    def _ask(self, mod_id: str, journey: Journey, attempt: int) -> Awaitable[Answer]:
        mod = unit_named(self._mods, mod_id)
        if mod is None or isinstance(mod, ModElsewhere):
            raise Unbegun(f"mod {mod_id} has left node {self._link.node}", code=Code.MOD_AWAY)
        if attempt == 1 or mod.config.durable:
            return mod.ask(journey)
        keeper = mod.keeper_of(journey.event) if isinstance(mod, WorkerGroup) else mod
        return keeper.caller.ask(journey, attempt)

    # -- cancelling

    def _cancelled(self, body: Any, _reply: Reply) -> None:
        match body:
            case [str(asker), int(number)]:
                if (asked := self._asked.pop((asker, number), None)) is not None:
                    asked[0].cancel()
            case _:
                self.refused += 1
