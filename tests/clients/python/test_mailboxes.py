"""Which handler and which stream gets an event, and when it counts as handled."""

from __future__ import annotations

import pytest

from modvisor_client.errors import TakenOver
from modvisor_client.event import Event
from modvisor_client.inflow import Arrived
from modvisor_client.mailboxes import Ended, Mailboxes

pytestmark = pytest.mark.anyio


class Office:
    """Mailboxes, and the names of the events that are handled."""

    def __init__(self) -> None:
        self.handled: list[str] = []
        self.boxes = Mailboxes(self._handled)

    def _handled(self, arrived: Arrived) -> None:
        arrived.waiting -= 1
        if not arrived.waiting:
            self.handled.append(arrived.event.event_name)

    def deliver(self, *names: str) -> None:
        self.boxes.deliver([Arrived(Event(name)) for name in names])


async def test_an_event_goes_to_all_who_want_it() -> None:
    office = Office()
    chat, every = office.boxes.open(("chat.*",)), office.boxes.open(("*",))
    office.deliver("chat.message", "wiki.page")
    both = await chat.take()
    assert (await every.take()) is both
    office.boxes.done(chat, both)
    assert office.handled == []
    office.boxes.done(every, both)
    assert office.handled == ["chat.message"]
    assert (await every.take()).event.event_name == "wiki.page"
    assert not chat.queue


async def test_events_wait_while_nobody_listens() -> None:
    office = Office()
    office.deliver("chat.message", "wiki.page")
    assert office.handled == []
    box = office.boxes.open(("wiki.*",))
    office.boxes.give_out()
    assert (await box.take()).event.event_name == "wiki.page"
    assert (office.handled, office.boxes.unclaimed) == (["chat.message"], 1)


async def test_what_a_closed_mailbox_leaves_waits_for_the_next_one() -> None:
    office = Office()
    box = office.boxes.open(("chat.*",))
    office.deliver("chat.one", "chat.two", "chat.three")
    await box.take()
    office.boxes.close(box)
    office.boxes.close(box)
    assert office.handled == ["chat.one"]
    again = office.boxes.open(("*",))
    office.boxes.give_out()
    assert [(await again.take()).event.event_name for _ in range(2)] == ["chat.two", "chat.three"]


async def test_what_a_closed_mailbox_leaves_does_not_hold_up_the_others() -> None:
    office = Office()
    box, _other = office.boxes.open(("chat.*",)), office.boxes.open(("wiki.*",))
    office.deliver("chat.one")
    office.boxes.close(box)
    assert office.handled == ["chat.one"]


async def test_a_mailbox_ends_with_what_is_in_it_and_then_says_why() -> None:
    office = Office()
    box = office.boxes.open(("*",))
    office.deliver("chat.one")
    office.boxes.end(TakenOver("a newer connection"))
    assert (await box.take()).event.event_name == "chat.one"
    with pytest.raises(TakenOver):
        await box.take()
    with pytest.raises(TakenOver):
        await office.boxes.open(("*",)).take()
    quiet = Office()
    box = quiet.boxes.open(("*",))
    quiet.boxes.end(None)
    with pytest.raises(Ended):
        await box.take()
