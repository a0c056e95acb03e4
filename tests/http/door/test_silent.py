"""Connections that have not sent a byte cost next to nothing, and speak when they like."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import ExitStack
from itertools import pairwise

import pytest

from modvisor.supervisor.http.door.connection import Phase
from modvisor.supervisor.http.door.silent import AT_ONCE, Hall, Silent
from tests.conftest import until

pytestmark = pytest.mark.anyio


class Visitors:
    def __init__(self) -> None:
        self.heard: list[Silent] = []
        self.gone: list[Silent] = []
        self.hall = Hall(self.heard.append, self.gone.append)
        self.ends = ExitStack()

    def come(self) -> tuple[Silent, socket.socket]:
        ours, theirs = socket.socketpair()
        self.ends.callback(ours.close)
        self.ends.callback(theirs.close)
        ours.setblocking(False)
        silent = Silent(ours, 1.0)
        self.hall.enter(silent)
        return silent, theirs


@pytest.fixture
async def visitors() -> AsyncIterator[Visitors]:
    made = Visitors()
    yield made
    made.hall.close()
    made.ends.close()


async def test_who_speaks_is_heard_once_and_nothing_is_taken_from_it(visitors: Visitors) -> None:
    silent, client = visitors.come()
    visitors.come()
    assert silent.look(0.0) is Phase.HEAD
    client.send(b"GET")
    await until(lambda: bool(visitors.heard))
    client.send(b" /")
    await asyncio.sleep(0)
    assert visitors.heard == [silent]
    assert silent.heard is not None
    assert silent.look(0.0) is Phase.ANSWER, "it waits for its turn"
    assert silent.sock.recv(100) == b"GET /"


async def test_who_goes_without_a_word_is_closed_and_who_spoke_before_is_heard(visitors: Visitors) -> None:
    (one, quiet), (other, hasty) = visitors.come(), visitors.come()
    hasty.send(b"GET")
    hasty.shutdown(socket.SHUT_WR)
    quiet.close()
    await until(lambda: bool(visitors.heard and visitors.gone))
    assert (visitors.gone, visitors.heard) == ([one], [other])
    assert one.is_closed
    assert not other.is_closed


async def test_a_dismissed_connection_is_closed_and_not_heard(visitors: Visitors) -> None:
    silent, client = visitors.come()
    client.send(b"GET")
    silent.dismiss(408, "timeout", "too late")
    other, another = visitors.come()
    another.send(b"GET")
    await until(lambda: bool(visitors.heard))
    assert visitors.heard == [other]
    assert silent.is_closed


async def test_in_one_turn_of_the_loop_some_are_heard(visitors: Visitors) -> None:
    for _ in range(3 * AT_ONCE):
        visitors.come()[1].send(b"x")
    known = list[int]()
    while len(visitors.heard) < 3 * AT_ONCE:
        known.append(len(visitors.heard))
        await asyncio.sleep(0)
    assert max(later - earlier for earlier, later in pairwise(known)) <= AT_ONCE


async def test_the_end_closes_who_is_still_silent() -> None:
    visitors = Visitors()
    silent, client = visitors.come()
    visitors.hall.close()
    assert silent.is_closed
    assert client.recv(1) == b""
    visitors.ends.close()
