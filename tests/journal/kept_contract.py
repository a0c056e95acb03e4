"""What every store of accepted events, dead letters and checkpoints does: the contract of `calls.durable_log`."""

from __future__ import annotations

import asyncio
from contextlib import AbstractAsyncContextManager
from typing import Protocol

import pytest

from modvisor.ipc.errors import Code, ModvisorError
from modvisor.ipc.event import Event, EventResponse
from modvisor.ipc.messages import pack
from modvisor.supervisor.calls import CheckpointStore, DurableLog, LetterStore
from modvisor.supervisor.config import JournalConfig
from modvisor.supervisor.journal import LAST_ALONE, AnsweredBefore, DeadLetter, Record

CONFIG = JournalConfig(durable_events=6, durable_bytes=20_000, dead_letters=3, checkpoint_bytes=700_000)
ANSWER = pack(["response", EventResponse(True, "yes", 1).to_dict()])


class Kept(DurableLog, LetterStore, CheckpointStore, Protocol):
    """All three in one object, as the network has them."""


def event(n: int, size: int = 0) -> Event:
    return Event("work.do", "agent:alice", event_id=f"event-{n}", payload={"n": n, "fill": "x" * size})


def letter(n: int, mod_id: str = "work") -> DeadLetter:
    return DeadLetter(None, mod_id, event(n).to_dict(), 3, Code.DEAD_LETTERED, f"reason {n}", {"signal": 9}, 1e9 * 2)


class KeptContract:
    """A subclass opens its store; the store is the same one when it is opened again."""

    def opened(self) -> AbstractAsyncContextManager[Kept]:
        raise NotImplementedError

    async def test_accepted_events_are_pending_in_order(self) -> None:
        async with self.opened() as kept:
            numbers = [await kept.accept("work", event(n)) for n in range(4)]
            found = await kept.pending("work")
            assert [each.seq for each in found] == numbers == sorted(numbers)
            assert [each.event.payload["n"] for each in found] == [0, 1, 2, 3]
            assert [each.attempt for each in found] == [1, 1, 1, 1]
            assert await kept.pending("other") == []

    async def test_pending_events_are_read_in_pages(self) -> None:
        async with self.opened() as kept:
            numbers = [await kept.accept("work", event(n)) for n in range(4)]
            assert [each.seq for each in await kept.pending("work", numbers[0], 2)] == numbers[1:3]

    async def test_an_event_that_is_sent_again_is_the_same_event(self) -> None:
        async with self.opened() as kept:
            first = await kept.accept("work", event(1), "agent:alice/1")
            assert await kept.accept("work", event(1), "agent:alice/1") == first
            assert await kept.accept("work", event(1), "agent:alice/2") != first

    async def test_events_accepted_together_are_kept_once_each(self) -> None:
        async with self.opened() as kept:
            numbers = await asyncio.gather(*(kept.accept("work", event(n % 3)) for n in range(9)))
            assert len(set(numbers)) == len(await kept.pending("work")) == 3

    async def test_an_answered_event_is_never_accepted_again(self) -> None:
        async with self.opened() as kept:
            kept.answered(await kept.accept("work", event(1)), ANSWER)
            with pytest.raises(AnsweredBefore) as known:
                await kept.accept("work", event(1))
            assert known.value.answer == ANSWER
            assert await kept.pending("work") == []

    async def test_an_event_that_failed_may_be_sent_again(self) -> None:
        async with self.opened() as kept:
            kept.answered(await kept.accept("work", event(1)), None)
            await kept.accept("work", event(1))
            assert len(await kept.pending("work")) == 1

    async def test_what_is_kept_outlives_the_store(self) -> None:
        async with self.opened() as kept:
            numbers = [await kept.accept("work", event(n), "agent:alice/1") for n in range(3)]
            kept.answered(numbers[0], ANSWER)
            kept.charge(numbers[1], Record(2, 1, 1, LAST_ALONE))
            await kept.bury(letter(2), seq=numbers[2])
            await kept.save_checkpoint("work", "1.2", {"count": 7})
        async with self.opened() as kept:
            (found,) = await kept.pending("work")
            assert (found.seq, found.owner) == (numbers[1], "agent:alice/1")
            assert found.record[1:] == (1, 1, LAST_ALONE)
            assert found.attempt == found.record.attempt >= 2
            assert [head.reason for head in await kept.letter_heads()] == ["reason 2"]
            checkpoint = await kept.checkpoint("work")
            assert checkpoint is not None
            assert (checkpoint.version, checkpoint.state) == ("1.2", {"count": 7})
            with pytest.raises(AnsweredBefore):
                await kept.accept("work", event(0), "agent:alice/1")

    async def test_no_more_events_than_the_limit(self) -> None:
        async with self.opened() as kept:
            for n in range(6):
                await kept.accept("work", event(n))
            with pytest.raises(ModvisorError, match=r"journal\.durable_events") as refused:
                await kept.accept("work", event(7))
            assert refused.value.code == Code.STORAGE_FULL

    async def test_no_more_bytes_than_the_limit(self) -> None:
        async with self.opened() as kept:
            await kept.accept("work", event(1, 12_000))
            with pytest.raises(ModvisorError, match=r"journal\.durable_bytes") as refused:
                await kept.accept("work", event(2, 12_000))
            assert refused.value.code == Code.STORAGE_FULL

    async def test_dead_letters_are_listed_read_and_removed(self) -> None:
        async with self.opened() as kept:
            numbers = [await kept.bury(letter(n, mod_id)) for n, mod_id in enumerate(("work", "other", "work"))]
            heads = await kept.letter_heads()
            assert [head.letter_id for head in heads] == numbers[::-1]
            assert [head.mod_id for head in await kept.letter_heads("other")] == ["other"]
            assert [head.letter_id for head in await kept.letter_heads(before=numbers[2], limit=1)] == [numbers[1]]
            found = await kept.dead_letter(numbers[0])
            assert found is not None
            assert (found.event["payload"]["n"], found.report, found.attempts) == (0, {"signal": 9}, 3)
            assert await kept.forget_dead_letters(mod_id="work") == 2
            assert await kept.dead_letter(numbers[0]) is None
            assert await kept.forget_dead_letters() == 1
            assert await kept.letter_heads() == []

    async def test_the_oldest_dead_letters_make_room(self) -> None:
        async with self.opened() as kept:
            for n in range(5):
                await kept.bury(letter(n))
            assert [head.reason for head in await kept.letter_heads()] == ["reason 4", "reason 3", "reason 2"]

    async def test_a_buried_event_is_not_pending(self) -> None:
        async with self.opened() as kept:
            number = await kept.accept("work", event(1))
            await kept.bury(letter(1), seq=number)
            assert await kept.pending("work") == []

    @pytest.mark.parametrize("size", [10, 600_000])
    async def test_only_the_newest_checkpoint_is_kept(self, size: int) -> None:
        async with self.opened() as kept:
            assert await kept.checkpoint("work") is None
            for n in range(2):
                await kept.save_checkpoint("work", f"1.{n}", {"n": n, "fill": b"x" * size})
            checkpoint, head = await kept.checkpoint("work"), await kept.checkpoint_head("work")
            assert checkpoint is not None
            assert head is not None
            assert (checkpoint.version, checkpoint.state) == ("1.1", {"n": 1, "fill": b"x" * size})
            assert head[0] == "1.1"
            assert head[2] == checkpoint.size > size
            kept.drop_checkpoint("work")
            await kept.save_checkpoint("other", "1", 1)
            assert await kept.checkpoint("work") is None

    async def test_a_checkpoint_over_the_limit_leaves_the_former(self) -> None:
        async with self.opened() as kept:
            await kept.save_checkpoint("work", "1", 1)
            with pytest.raises(ModvisorError, match=r"journal\.checkpoint_bytes") as refused:
                await kept.save_checkpoint("work", "2", b"x" * 800_000)
            assert refused.value.code == Code.TOO_LARGE
            checkpoint = await kept.checkpoint("work")
            assert checkpoint is not None
            assert checkpoint.version == "1"
