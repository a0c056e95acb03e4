"""Questions that are ready in one turn go as one message, and each still has its own answer, end or failure."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from modvisor.ipc.messages import pack, unpack
from modvisor.supervisor.cluster.link import Link, LinkDown, Nobody, Reply, TooLarge

from .conftest import Linked
from .servers import Servers

pytestmark = pytest.mark.anyio


class Holder:
    """A node that has a mod. What it is asked stands in ``came``; `answer` answers all of it in one turn."""

    def __init__(self, link: Link) -> None:
        self.link = link
        self.subject = link.subject("mod", "wiki")
        self.came: list[tuple[Any, Reply]] = []
        self.messages = 0

    async def serve(self) -> None:
        await self.link.serve(
            self.subject, lambda body, reply: self.came.append((unpack(body), reply)), in_bundles=True
        )
        await self.link.connection().subscribe(self.subject, self._count)

    def _count(self, _message: Any) -> None:
        self.messages += 1

    async def until(self, count: int) -> None:
        while len(self.came) < count:
            await self.link.connection().flush()
        await self.link.connection().flush()  # what `_count` gets may come behind it

    def answer(self) -> None:
        for body, reply in self.came:
            reply(body)
        self.came.clear()


async def holder_of(linked: Linked, servers: Servers) -> Holder:
    holder = Holder(await linked(servers, "b"))
    await holder.serve()
    return holder


def ask(a: Link, subject: str, *bodies: Any) -> list[tuple[int, asyncio.Future[Any]]]:
    due = asyncio.get_running_loop().time() + 30
    return [a.bundles.begin(subject, pack(body), due) for body in bodies]


async def answers(asked: list[tuple[int, asyncio.Future[Any]]]) -> list[Any]:
    async with asyncio.timeout(20):
        return [await answer for _, answer in asked]


async def test_what_is_asked_in_one_turn_is_one_message_and_comes_in_order(servers: Servers, linked: Linked) -> None:
    a, holder = await linked(servers, "a"), await holder_of(linked, servers)
    asked = ask(a, holder.subject, *range(50))
    a.bundles.tell(holder.subject, pack("told"))
    await holder.until(51)
    assert [body for body, _ in holder.came] == [*range(50), "told"]
    assert not holder.came[-1][1].is_wanted
    assert holder.messages == 1
    holder.answer()
    assert await answers(asked) == list(range(50))


async def test_a_large_question_does_not_go_with_others_and_keeps_its_place(servers: Servers, linked: Linked) -> None:
    a, holder = await linked(servers, "a"), await holder_of(linked, servers)
    asked = ask(a, holder.subject, 1, bytes(200_000), 2)
    await holder.until(3)
    assert [type(body) for body, _ in holder.came] == [int, bytes, int]
    assert holder.messages == 3
    holder.answer()
    assert await answers(asked) == [1, bytes(200_000), 2]


async def test_a_question_that_is_given_up_in_its_turn_is_never_sent(servers: Servers, linked: Linked) -> None:
    a, holder = await linked(servers, "a"), await holder_of(linked, servers)
    asked = ask(a, holder.subject, 1, 2, 3)
    a.bundles.end(asked.pop(1)[0])
    await holder.until(2)
    holder.answer()
    assert await answers(asked) == [1, 3]


async def test_nobody_serves_and_all_of_the_bundle_hear_it(servers: Servers, linked: Linked) -> None:
    a = await linked(servers, "a")
    for _, answer in ask(a, a.subject("mod", "wiki"), 1, 2):
        with pytest.raises(Nobody, match="nobody answers on mv"):
            await asyncio.wait_for(answer, 20)


async def test_a_question_without_an_answer_times_out_and_the_others_are_answered(
    servers: Servers, linked: Linked
) -> None:
    a, holder = await linked(servers, "a"), await holder_of(linked, servers)
    due = asyncio.get_running_loop().time() + 0.05
    _, late = a.bundles.begin(holder.subject, pack(0), due)
    asked = ask(a, holder.subject, 1)
    await holder.until(2)
    with pytest.raises(TimeoutError):
        await late
    del holder.came[0]
    holder.answer()
    assert await answers(asked) == [1]


async def test_an_answer_that_no_message_can_carry_is_told_to_who_gives_it(servers: Servers, linked: Linked) -> None:
    a, holder = await linked(servers, "a"), await holder_of(linked, servers)
    asked = ask(a, holder.subject, 1)
    await holder.until(1)
    _, reply = holder.came.pop()
    with pytest.raises(TooLarge, match="larger than the NATS servers take"):
        reply(bytes(2_000_000))
    reply("small")
    assert await answers(asked) == ["small"]


async def test_without_a_connection_nothing_was_sent_and_after_its_loss_nobody_knows(
    own_server: Servers, linked: Linked
) -> None:
    a, holder = await linked(own_server, "a"), await holder_of(linked, own_server)
    asked = ask(a, holder.subject, 1)
    await holder.until(1)
    own_server[0].kill()
    with pytest.raises(LinkDown) as error:
        await answers(asked)
    assert error.value.was_sent
    with pytest.raises(LinkDown) as error:
        await answers(ask(a, holder.subject, 2))
    assert not error.value.was_sent


async def test_a_strangers_bundle_is_dropped_and_counted(servers: Servers, linked: Linked) -> None:
    a, holder = await linked(servers, "a"), await holder_of(linked, servers)
    place = holder.subject.encode()
    for data in (b"\x90", a.seal.sealed([["no number", 1]], place), a.seal.sealed({"a": 1}, place)):
        a.send(holder.subject, data)
    asked = ask(a, holder.subject, 1)
    await holder.until(1)
    assert holder.link.dropped == {"unsealed": 1, "unreadable": 2}
    holder.answer()
    assert await answers(asked) == [1]
