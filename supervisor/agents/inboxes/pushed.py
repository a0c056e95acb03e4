"""Events that were pushed to an agent, and that it has not said it has handled. Pure.

They have left the line of the inbox, and still take room in it. Each has a number: they are pushed in
this order, and again with the same numbers after a broken connection. The numbers begin anew with
each owner of an id and with each start of the network, which is what the epoch tells.
"""

from __future__ import annotations

import secrets
from collections import deque

from ....ipc.event import Event

Item = tuple[Event, int, str]  # an event, its size and its source


class Pushed:
    """The pushed events of one inbox, oldest first.

    Attributes:
        epoch: what every cursor of this inbox begins with.
        handled: the number of the newest event that was taken out of here.
        items: the events behind it, one number after the other.
    """

    __slots__ = ("epoch", "handled", "items")

    def __init__(self) -> None:
        self.epoch = secrets.token_hex(4)
        self.handled = 0
        self.items: deque[Item] = deque()

    def __len__(self) -> int:
        return len(self.items)

    @property
    def last(self) -> int:
        """The number of the event that was pushed last."""
        return self.handled + len(self.items)

    def append(self, item: Item) -> None:
        self.items.append(item)

    def popleft(self) -> Item:
        """Take the oldest. Raises `IndexError`."""
        item = self.items.popleft()
        self.handled += 1
        return item

    def numbered(self, number: int) -> Event:
        """Return the event with this number, which is in here."""
        return self.items[number - self.handled - 1][0]

    # -- cursors

    def cursor(self, number: int) -> str:
        return f"{self.epoch}.{number}"

    def number_of(self, cursor: str) -> int | None:
        """Return the number of a pushed event by its cursor; None: no event of this inbox had this cursor."""
        epoch, _, text = cursor.partition(".")
        if epoch != self.epoch or not (text.isascii() and text.isdigit() and len(text) < 19):
            return None
        number = int(text)
        return number if number <= self.last else None
