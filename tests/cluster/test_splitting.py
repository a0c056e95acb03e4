"""What is kept of copies is divided among another number of them in two steps, each of which is done once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import anyio.lowlevel
import pytest

from modvisor.ipc.errors import Code, ModvisorError
from modvisor.supervisor import Event
from modvisor.supervisor.cluster.kept.journal import ClusterJournal
from modvisor.supervisor.cluster.kept.splitting import LARGEST_MESSAGE, Splitting
from modvisor.supervisor.cluster.mods.divisions import Division, units_among
from modvisor.supervisor.journal import AnsweredBefore
from tests.journal.kept_contract import CONFIG, event

from .conftest import Linked
from .servers import Servers

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(60)]

_files = count()

Opened = Callable[[int], Any]
LARGE = "x" * LARGEST_MESSAGE
EVENTS = range(12)


@pytest.fixture
def opened(servers: Servers, linked: Linked, tmp_path: Path) -> Opened:
    """Open the journal of a node that holds all copies with a token."""

    @asynccontextmanager
    async def journal(token: int) -> AsyncIterator[ClusterJournal]:
        link, config = await linked(servers, "a"), replace(CONFIG, durable_events=100)
        made = ClusterJournal(tmp_path / f"{next(_files)}.db", config, link, lambda _: token, lambda name: name)
        await asyncio.to_thread(made.open)
        await made.join()
        try:
            yield made
        finally:
            await made.leave()
            await asyncio.to_thread(made.close)

    return journal


async def filled(journal: ClusterJournal) -> None:
    """Keep events and states of two copies; one event is answered."""
    for n in EVENTS:
        number = await journal.accept(f"wiki#{n % 2}", event(n), "agent:alice")
        if n == 0:
            journal.answered(number, b"the answer")
    for part in range(2):
        await journal.save_checkpoint(f"wiki#{part}", "1", {"of": [n for n in EVENTS if n % 2 == part], "large": LARGE})


def division(parts: int, number: int, token: int, towards: int | None = None) -> Division:
    units = ["wiki", *units_among("wiki", parts), *units_among("wiki", number)]
    return Division(parts, towards, number, dict.fromkeys(units, token))


def owner_among(number: int) -> Callable[[Event], int]:
    return lambda event: event.payload["n"] % number


class Parts:
    """Splits states as a mod does, and counts how often it is asked."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.asked = 0
        self.while_asked: Callable[[], Awaitable[None]] = anyio.lowlevel.checkpoint

    async def __call__(self, states: list[Any], version: str) -> list[Any]:
        assert version == "1"
        self.asked += 1
        await self.while_asked()
        known = sorted(n for state in states if state is not None for n in state["of"])
        return [
            {"of": [n for n in known if n % self.number == part], "large": LARGE if part else ""}
            for part in range(self.number)
        ]


async def kept(journal: ClusterJournal, number: int) -> dict[int, tuple[list[int], list[int], set[int]]]:
    """Return the state, the events and their attempts of each copy."""
    found = {}
    for part in range(number):
        events = await journal.pending(f"wiki#{part}")
        checkpoint = await journal.checkpoint(f"wiki#{part}")
        state = [] if checkpoint is None else checkpoint.state["of"]
        found[part] = state, [each.event.payload["n"] for each in events], {each.attempt for each in events}
    return found


def divided(number: int, attempt: int) -> dict[int, tuple[list[int], list[int], set[int]]]:
    shares = {part: [n for n in EVENTS if n % number == part] for part in range(number)}
    return {part: (share, [n for n in share if n], {attempt}) for part, share in shares.items()}


async def test_more_copies_share_the_states_and_the_events_and_fewer_do_too(opened: Opened) -> None:
    async with opened(1) as first:
        await filled(first)
        more = Parts(3)
        async with opened(2) as journal:

            async def keep_a_file() -> None:
                """As a mod that keeps one in its initialize()."""
                await journal.log.of("wiki#2")

            more.while_asked = keep_a_file
            await journal.splitting.split("wiki", division(2, 3, 2), owner_among(3), more)
        with pytest.raises(ModvisorError, match="runs on another node by now") as refused:
            await first.accept("wiki#1", event(99))
        assert refused.value.code == Code.MOD_AWAY
    async with opened(3) as journal:
        assert await kept(journal, 3) == divided(3, 2), "whoever had an event before may have begun it"
        with pytest.raises(AnsweredBefore):
            await journal.accept("wiki#2", event(0), "agent:alice")
    async with opened(4) as journal:
        await journal.splitting.split("wiki", division(3, 2, 4), owner_among(2), Parts(2))
    async with opened(5) as journal:
        assert await kept(journal, 3) == {**divided(2, 3), 2: ([], [], set())}
    assert more.asked == 1
    async with opened(6) as journal:
        await journal.splitting.split("wiki", division(2, 1, 6), owner_among(1), Parts(1))
    async with opened(7) as journal:
        (checkpoint, events) = await journal.checkpoint("wiki"), await journal.pending("wiki")
        assert checkpoint is not None
        assert checkpoint.state["of"] == [*EVENTS], "a mod without copies is one of one"
        assert sorted(each.event.payload["n"] for each in events) == [n for n in EVENTS if n]
        assert [(await journal.log.of(f"wiki#{part}")).formers for part in range(2)] == [[], []]
        with pytest.raises(AnsweredBefore):
            await journal.accept("wiki", event(0), "agent:alice")
    async with opened(8) as journal:
        await journal.splitting.split("wiki", division(1, 2, 8), owner_among(2), Parts(2))
    async with opened(9) as journal:
        found = await kept(journal, 2)
        assert {part: (state, sorted(events)) for part, (state, events, _) in found.items()} == {
            part: (state, events) for part, (state, events, _) in divided(2, 5).items()
        }


async def test_a_node_that_dies_between_the_states_and_the_events_has_the_next_one_go_on(
    opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(1) as journal:
        await filled(journal)

    async def die(*_: object) -> None:
        raise ModvisorError("the node is dead")

    parts = Parts(3)
    async with opened(2) as journal:
        with monkeypatch.context() as patched:
            patched.setattr(Splitting, "_move_events", die)
            with pytest.raises(ModvisorError, match="the node is dead"):
                await journal.splitting.split("wiki", division(2, 3, 2), owner_among(3), parts)
    async with opened(3) as journal:
        await journal.splitting.split("wiki", division(2, 3, 3, towards=3), owner_among(3), parts)
    assert parts.asked == 1, "the states are split once"
    async with opened(4) as journal:
        assert await kept(journal, 3) == divided(3, 4), "the dead node may have begun them, as far as anybody knows"


async def test_states_that_cannot_be_split_stay_as_they_are(opened: Opened) -> None:
    async with opened(1) as journal:
        await filled(journal)

    async def refuse(_states: list[Any], _version: str) -> list[Any]:
        raise ModvisorError("it cannot", code=Code.STATE_REFUSED)

    async with opened(2) as journal:
        with pytest.raises(ModvisorError, match="it cannot"):
            await journal.splitting.split("wiki", division(2, 3, 2), owner_among(3), refuse)
    async with opened(3) as journal:  # as many as before, after all
        await journal.splitting.split("wiki", division(2, 2, 3, towards=3), owner_among(2), refuse)
    async with opened(4) as journal:
        assert await kept(journal, 2) == divided(2, 3)
