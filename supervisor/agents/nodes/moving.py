"""What moves with an agent from one node to another, as plain data. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ....ipc.event import Event
from ....ipc.messages import pack, unpack
from ..agent import Agent
from ..inboxes.inbox import Inbox
from ..inboxes.pushed import Item
from ..inboxes.subscriptions import Subscription
from .given import Key

Luggage = dict[str, Any]


def packed_up(agent: Agent, given: Iterable[Key]) -> Luggage:
    """Return what an agent takes along, and empty its inbox here.

    Args:
        given: the events that it got of late.
    """
    inbox = agent.inbox
    luggage = {
        "epoch": inbox.pushed.epoch,
        "handled": inbox.pushed.handled,
        "pushed": [_packed(item) for item in inbox.pushed.items],
        "waiting": [_packed(item) for item in inbox.events if item is not None],
        "dropped": agent.dropped,
        "losses": dict(agent.losses.by_source),
        "subscriptions": [
            [each.subscription_id, list(each.patterns), sorted(each.channels)] for each in agent.subscriptions.values()
        ],
        "given": [list(key) for key in given],
    }
    empty(inbox)
    return luggage


def empty(inbox: Inbox) -> None:
    """Take all events out of an inbox."""
    inbox.take_pushed(len(inbox.pushed))
    while inbox:
        inbox.popleft()


def unpack_into(agent: Agent, luggage: Luggage) -> list[Subscription]:
    """Give an agent back what it took along, before what has come meanwhile. Return its subscriptions."""
    inbox = agent.inbox
    meanwhile = [item for item in inbox.events if item is not None]
    empty(inbox)
    pushed = [_unpacked(item) for item in luggage["pushed"]]
    for event, size, source in (*pushed, *map(_unpacked, luggage["waiting"]), *meanwhile):
        inbox.append(event, size, source)
    if luggage["epoch"] is not None:  # the cursors that the agent has stay good
        inbox.pushed.epoch, inbox.pushed.handled = luggage["epoch"], luggage["handled"]
    for _ in pushed:
        inbox.push()
    agent.dropped += luggage["dropped"]
    for source, count in luggage["losses"].items():
        for _ in range(count):
            agent.losses.add(source)
    return [Subscription(name, tuple(them), frozenset(channels)) for name, them, channels in luggage["subscriptions"]]


def _packed(item: Item) -> list[Any]:
    event, size, source = item
    return [pack(event.to_dict()), size, source]


def _unpacked(data: list[Any]) -> Item:
    packed, size, source = data
    return Event.from_dict(unpack(packed)), size, source
