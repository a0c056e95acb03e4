"""A link outlives its servers: it connects again, serves again, and tells who waits what is not known."""

from __future__ import annotations

import asyncio
from typing import Any

import nats
import pytest

from modvisor.supervisor.cluster.link import Link, LinkDown, Nobody, Reply
from modvisor.supervisor.cluster.link.connection import Connection
from modvisor.supervisor.cluster.link.dialing import Dialer

from .conftest import Linked
from .servers import Server, Servers

pytestmark = pytest.mark.anyio


def changes(link: Link) -> asyncio.Queue[bool]:
    """What the link tells of its connection from now on."""
    told: asyncio.Queue[bool] = asyncio.Queue()
    link.listeners.append(told.put_nowait)
    return told


def server_of(link: Link, servers: Servers) -> Server:
    return next(server for server in servers.all if server.url == link.server)


async def test_what_waits_fails_when_the_server_dies_and_all_is_served_again(
    own_server: Servers, linked: Linked
) -> None:
    a = await linked(own_server, "a")
    begun = asyncio.Event()
    wiki = a.subject("mod", "wiki")
    await a.serve(wiki, lambda body, reply: begun.set() if body == "hang" else reply(body))
    told = changes(a)
    asked = asyncio.ensure_future(a.ask(wiki, "hang", timeout=30))
    await begun.wait()
    own_server[0].kill()
    with pytest.raises(LinkDown, match="the connection to the servers was lost") as error:
        await asked
    assert error.value.was_sent
    assert await told.get() is False
    with pytest.raises(LinkDown) as error:
        await a.ask(wiki, 1, timeout=30)
    assert not error.value.was_sent
    a.tell(wiki, 1)  # is lost without a word
    own_server[0].restart()
    assert await told.get() is True
    assert await a.ask(wiki, 2, timeout=30) == 2
    assert a.problem == ""


async def test_a_server_that_stands_still_is_left_for_another_one(three_servers: Servers, linked: Linked) -> None:
    a = await linked(three_servers, "a", lease=1.0)
    server, told = server_of(a, three_servers), changes(a)
    server.stop()
    try:
        assert await told.get() is False
        assert await told.get() is True
        assert a.server != server.url
    finally:
        server.cont()


async def test_a_wait_ends_with_the_connection(own_server: Servers, linked: Linked) -> None:
    connection = (await linked(own_server, "a")).connection()
    own_server[0].stop()
    try:
        waits = [connection.flush(timeout=1000), connection.subscribe("a.subject", lambda message: None)]
        tasks = [asyncio.create_task(wait) for wait in waits]
        await asyncio.sleep(0)
        connection.lose("the test says so")
        for task in tasks:
            with pytest.raises(LinkDown):
                await task
    finally:
        own_server[0].cont()


async def test_what_is_sent_before_a_loss_is_known_is_refused(servers: Servers, linked: Linked) -> None:
    connection = (await linked(servers, "a")).connection()
    client = connection._client
    assert client._flusher_task is not None
    client._flusher_task.cancel()  # as uvloop's refusal ends it
    await asyncio.wait([client._flusher_task])
    client._transport._io_writer.transport.abort()  # type: ignore[union-attr]
    for _ in range(3):  # until its reader has heard of it, and then
        with pytest.raises(LinkDown):
            connection.publish("a.subject", b"x")
        await asyncio.sleep(0)


async def test_a_connection_that_is_lost_before_it_is_used_is_made_anew(
    own_server: Servers, linked: Linked, monkeypatch: pytest.MonkeyPatch
) -> None:
    a = await linked(own_server, "a")
    subscribe, made = Connection.subscribe, []

    async def lost_at_first(connection: Connection, *arguments: Any) -> Any:
        subscription = await subscribe(connection, *arguments)
        made.append(connection)
        if made[0] is connection:
            connection.lose("the test says so")
        return subscription

    monkeypatch.setattr(Connection, "subscribe", lost_at_first)
    told = changes(a)
    a.connection().lose("the test says so")
    assert await told.get() is False
    assert await told.get() is True
    await a.connection().flush()
    assert a.connection() is not made[0]


async def test_what_ends_to_be_served_while_a_connection_is_made(
    own_server: Servers, linked: Linked, monkeypatch: pytest.MonkeyPatch
) -> None:
    a, b = await linked(own_server, "a"), await linked(own_server, "b")
    one, two, three = (a.subject("mod", name) for name in ("one", "two", "three"))
    first, *_ = [await a.serve(subject, lambda body, reply: reply(body)) for subject in (one, two, three)]
    subscribe, told = Connection.subscribe, changes(a)

    async def changed_then(connection: Connection, subject: str, *more: Any) -> Any:
        subscription = await subscribe(connection, subject, *more)
        if subject == one:
            await first.close()
        return subscription

    monkeypatch.setattr(Connection, "subscribe", changed_then)
    a.connection().lose("the test says so")
    assert await told.get() is False
    assert await told.get() is True
    for subject in (two, three):
        assert await b.ask(subject, subject, timeout=10) == subject
    with pytest.raises(Nobody):
        await b.ask(one, 1, timeout=10)


async def test_what_is_served_without_a_connection_is_served_by_the_next_one(servers: Servers, linked: Linked) -> None:
    a = await linked(servers, "a")
    wiki, told = a.subject("mod", "wiki"), changes(a)
    a.connection().lose("the test says so")
    served = await a.serve(wiki, lambda body, reply: reply(body))
    assert await told.get() is False
    assert await told.get() is True
    assert await a.ask(wiki, 1, timeout=10) == 1
    await served.close()
    with pytest.raises(Nobody):
        await a.ask(wiki, 1, timeout=10)


async def test_a_link_that_is_lost_as_it_opens_has_one_connection(
    servers: Servers, linked: Linked, monkeypatch: pytest.MonkeyPatch
) -> None:
    check, forever, dialed = Link.check, Dialer.forever, []

    async def lost_then(link: Link) -> None:
        monkeypatch.setattr(Link, "check", check)
        link.connection().lose("the test says so")
        await check(link)

    async def noted(dialer: Dialer) -> Connection:
        dialed.append(dialer)
        return await forever(dialer)

    monkeypatch.setattr(Link, "check", lost_then)
    monkeypatch.setattr(Dialer, "forever", noted)
    a = await linked(servers, "a", wait=True)
    await a.connection().flush()
    assert dialed == [], "it looks for another one"


async def test_a_link_that_closes_gives_up_the_connection_that_it_makes(
    servers: Servers, linked: Linked, monkeypatch: pytest.MonkeyPatch
) -> None:
    a, made = await linked(servers, "a"), asyncio.Queue[Connection]()

    async def hangs(connection: Connection, *arguments: Any) -> Any:
        made.put_nowait(connection)
        await asyncio.Event().wait()

    monkeypatch.setattr(Connection, "subscribe", hangs)
    a.connection().lose("the test says so")
    connection = await made.get()
    await a.close()
    with pytest.raises(LinkDown):
        connection.check_open()


async def test_an_answer_that_the_next_server_does_not_take_is_given_up(servers: Servers, linked: Linked) -> None:
    a = await linked(servers, "a")
    told = changes(a)
    a.connection().lose("the test says so")
    a.answer(a.subject("re", "asker", "1"), bytes(2_000_000))
    for expected in (False, True):
        assert await told.get() is expected
    a.connection().lose("the test says so")
    for expected in (False, True):
        assert await told.get() is expected


async def test_an_answer_waits_for_the_next_connection(three_servers: Servers, linked: Linked) -> None:
    a, b = await linked(three_servers, "a"), await linked(three_servers, "b")
    while b.server == a.server:
        b = await linked(three_servers, "b")
    taken: asyncio.Queue[Reply] = asyncio.Queue()
    wiki, told = b.subject("mod", "wiki"), changes(b)
    await b.serve(wiki, lambda body, reply: taken.put_nowait(reply))
    asked = asyncio.ensure_future(patiently(a, wiki))
    reply = await taken.get()
    b.connection().lose("the test says so")
    assert await told.get() is False
    reply("late")
    assert await asked == "late"


async def test_an_answer_that_was_kept_and_is_too_large_does_not_end_the_link(servers: Servers, linked: Linked) -> None:
    a = await linked(servers, "a")
    told = changes(a)
    for _ in range(2):
        a.connection().lose("the test says so")
        assert await told.get() is False
        a.answer(a.subject("re", "another", "1"), "x" * 2_000_000)
        assert await told.get() is True


async def patiently(link: Link, subject: str) -> Any:
    """Ask until the other servers know who serves the subject: it takes them a moment."""
    while True:
        try:
            return await link.ask(subject, 1, timeout=30)
        except Nobody:
            await asyncio.sleep(0)


async def test_a_strangers_message_is_dropped_and_counted(servers: Servers, linked: Linked) -> None:
    a, b = await linked(servers, "a"), await linked(servers, "b", network="another")
    got: list[Any] = []
    wiki = a.subject("mod", "wiki")
    await a.serve(wiki, lambda body, reply: got.append(body))
    stranger = await nats.connect(servers[0].url)
    place = wiki.encode()
    for data in (
        b"",
        b"hello",
        bytes(40),
        b"\x02" + bytes(40),
        b"\x01" + bytes(40),
        b.seal.sealed(1, place),  # of another network
        a.seal.sealed(1, a.subject("mod", "other").encode()),  # for another place
        a.seal.sealed_bytes(b"\xc1", place),
        a.seal.sealed("ours", place),
    ):
        await stranger.publish(wiki, data)
    await stranger.flush()
    await a.connection().flush()
    assert got == ["ours"]
    assert a.dropped == {"unsealed": 3, "other form": 1, "wrong seal": 3, "unreadable": 1}
    await stranger.close()


async def test_a_value_of_a_stranger_is_dropped_and_counted(servers: Servers, linked: Linked) -> None:
    a = await linked(servers, "a")
    bucket = await a.bucket("mods")
    told: asyncio.Queue[Any] = asyncio.Queue()
    watch = await bucket.watch("", lambda *what: told.put_nowait(what))
    await a.js.publish(f"$KV.{bucket.name}.x", b"hello")
    revision = await bucket.create("y", 1)
    assert await told.get() == ("y", 1, revision)
    assert a.dropped == {"unsealed": 1}
    await watch.close()


async def test_servers_that_went_away_are_not_tried_for_ever(servers: Servers, linked: Linked) -> None:
    dialer = (await linked(servers, "a"))._dialer
    gone = "nats://127.0.0.1:1"
    dialer.servers.append(gone)
    dialer.url = servers[0].url  # so that it is tried last
    (await dialer.once()).abort()
    assert dialer.servers == [servers[0].url]
    dialer._learn(f"nats://192.0.2.{number}:4222" for number in range(100))
    assert dialer.servers[0] == servers[0].url
    assert len(dialer.servers) == 17
