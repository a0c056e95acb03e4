"""Who watches a bucket knows what it holds: no change is missed or told twice, whatever becomes of the way to it."""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from modvisor.supervisor.cluster.link import Bucket, ClusterError, Foreign, Link, NoQuorum, Taken, Watch
from modvisor.supervisor.cluster.link.following import Following

from .conftest import Linked
from .servers import Servers

pytestmark = pytest.mark.anyio

HISTORIES = int(os.environ.get("MODVISOR_HISTORIES", "1"))  # long ones; see `make long`
KEYS = [f"k.{number}" for number in range(6)]


class Mirror:
    """What a watcher was told, checked as it comes."""

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}
        self.revisions: dict[str, int] = {}
        self.ended = asyncio.Event()

    def told(self, key: str, value: Any, revision: int) -> None:
        if value is None:
            assert key in self.values, f"{key} is told to be gone, and was not there"
            del self.values[key]
            assert revision >= self.revisions[key]
        else:
            assert revision > self.revisions.get(key, 0), f"{key} is told twice, or in the wrong order"
            self.values[key] = value
        self.revisions[key] = revision
        if key == "k.end" and value is not None:
            self.ended.set()


async def until_done(work: Callable[[], Awaitable[Any]]) -> None:
    """Write, again if need be: whether it was written before the connection was lost does not matter here."""
    while True:
        try:
            await work()
            return
        except ClusterError:
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("seed", [1, pytest.param(2, marks=pytest.mark.slow)])
@pytest.mark.parametrize("memory", [300.0, 0.0], ids=["goes on", "begins afresh"])
async def test_nothing_is_missed_while_servers_die(
    own_server: Servers, linked: Linked, seed: int, memory: float
) -> None:
    await history(own_server, linked, random.Random(seed), memory, steps=60)


async def history(servers: Servers, linked: Linked, chance: random.Random, memory: float, steps: int) -> None:
    writer, watcher = await linked(servers, "a"), await linked(servers, "b")
    bucket, seen = await writer.bucket("mods"), await watcher.bucket("mods")
    expected: dict[str, Any] = {}
    await write(bucket, expected, chance, -1)
    mirror = Mirror()
    watch = await watching(seen, mirror, memory)
    for step in range(steps):
        match chance.randrange(20):
            case 0:
                servers[0].restart()
            case 1:
                lose(watcher)
            case 2:
                servers[0].kill()
                servers[0].restart()
                lose(watcher)
            case _:
                await write(bucket, expected, chance, step)
    await until_done(lambda: bucket.put("k.end", True))
    await mirror.ended.wait()
    assert {key: value for key, value in mirror.values.items() if key != "k.end"} == expected
    await watch.close()


async def watching(bucket: Bucket, mirror: Mirror, memory: float) -> Watch:
    watch = await bucket.watch("k.", mirror.told)
    assert watch._following is not None
    watch._following._memory = memory
    await watch.caught_up()
    return watch


def lose(link: Link) -> None:
    if link.is_connected:
        link.connection().lose("the test says so")


async def write(bucket: Bucket, expected: dict[str, Any], chance: random.Random, step: int) -> None:
    key = chance.choice(KEYS)
    if chance.random() < 0.3:
        expected.pop(key, None)
        await until_done(lambda: bucket.delete(key))
    else:
        expected[key] = step
        await until_done(lambda: bucket.put(key, step))


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("seed", range(HISTORIES))
async def test_nothing_is_missed_in_long_histories(own_server: Servers, linked: Linked, seed: int) -> None:
    chance = random.Random(1000 + seed)
    await history(own_server, linked, chance, chance.choice([0.0, 300.0]), steps=400 if HISTORIES > 1 else 100)


async def test_a_reader_that_is_cut_off_as_it_begins_afresh_takes_no_key_for_gone(
    servers: Servers, linked: Linked, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer, watcher = await linked(servers, "a"), await linked(servers, "b")
    bucket, seen = await writer.bucket("claims"), await watcher.bucket("claims")
    await bucket.put("k.1", 1)
    mirror = Mirror()
    watch = await watching(seen, mirror, 300.0)
    create, begun = Following._create, []

    async def cut_off_at_first(following: Following, is_fresh: bool) -> None:
        begun.append(is_fresh)
        if len(begun) == 1:
            following._inbox += "elsewhere"  # nothing comes before the connection is lost
            await create(following, is_fresh)
            return lose(watcher)
        return await create(following, is_fresh)

    assert watch._following is not None
    watch._following._heard = -1000.0  # it was away for long
    monkeypatch.setattr(Following, "_create", cut_off_at_first)
    lose(watcher)
    while len(begun) < 2:
        await asyncio.sleep(0.01)
    await bucket.put("k.end", True)
    await mirror.ended.wait()
    assert mirror.values == {"k.1": 1, "k.end": True}
    await watch.close()


async def test_a_watch_that_could_not_begin_is_told_nothing_later(
    servers: Servers, linked: Linked, monkeypatch: pytest.MonkeyPatch
) -> None:
    a = await linked(servers, "a")
    bucket, create = await a.bucket("claims"), Following._create

    async def made_all_the_same(following: Following, is_fresh: bool) -> None:
        await create(following, is_fresh)
        raise NoQuorum("no answer came in time")

    told: list[Any] = []
    monkeypatch.setattr(Following, "_create", made_all_the_same)
    with pytest.raises(NoQuorum):
        await bucket.watch("", lambda *what: told.append(what))
    monkeypatch.setattr(Following, "_create", create)
    await bucket.put("x", 1)
    assert await bucket.all() != {}  # what was sent before has come, too
    assert told == []


async def test_a_key_with_a_life_of_its_own_is_told_to_be_gone(servers: Servers, linked: Linked) -> None:
    bucket = await (await linked(servers, "a")).bucket("nodes")
    told: asyncio.Queue[Any] = asyncio.Queue()
    watch = await bucket.watch("", lambda *what: told.put_nowait(what))
    revision = await bucket.create("a", 1, ttl=1)
    assert await told.get() == ("a", 1, revision)
    key, value, _ = await told.get()
    assert (key, value) == ("a", None)
    assert await bucket.get("a") is None
    assert await bucket.create("a", 2) > revision
    await watch.close()


STRANGERS_WORDS = [
    {"KV-Operation": "DEL"},
    {"KV-Operation": "PURGE", "Nats-Rollup": "sub"},
    {"Nats-Marker-Reason": "MaxAge"},
]


@pytest.mark.parametrize("headers", STRANGERS_WORDS, ids=["deleted", "purged", "ended"])
@pytest.mark.parametrize(("name", "ttl"), [("claims", None), ("nodes", 60)])
async def test_a_stranger_deletes_no_key(
    servers: Servers, linked: Linked, headers: dict[str, str], name: str, ttl: float | None
) -> None:
    a, b = await linked(servers, "a"), await linked(servers, "b")
    bucket, seen = await a.bucket(name), await b.bucket(name)
    told: asyncio.Queue[Any] = asyncio.Queue()
    watch = await seen.mirror("", lambda *what: told.put_nowait(what))
    revision = await bucket.create("x", 1, ttl=ttl)
    assert await told.get() == ("x", 1, revision)
    await a.call(f"$KV.{bucket.name}.x", b"", headers)
    after = await bucket.create("y", 2)
    assert await told.get() == ("y", 2, after)
    assert b.dropped["unsealed deletion"] == 1
    with pytest.raises(ClusterError):  # and nobody takes the place of the key
        await bucket.update("x", 3, revision, ttl=ttl)
    await watch.close()


async def test_a_strangers_deletion_is_named_with_what_removes_it(servers: Servers, linked: Linked) -> None:
    a = await linked(servers, "a")
    bucket = await a.bucket("claims")
    await bucket.create("x", 1)
    await a.call(f"$KV.{bucket.name}.x", b"", {"KV-Operation": "DEL"})
    with pytest.raises(Foreign, match=rf"nats stream purge {bucket.stream} --subject '.KV.{bucket.name}.x'"):
        await bucket.get("x")
    with pytest.raises(Taken):
        await bucket.create("x", 2)
    await a.jetstream.request(f"STREAM.PURGE.{bucket.stream}", {"filter": f"$KV.{bucket.name}.x"}, what="do as it says")
    assert await bucket.get("x") is None
    await bucket.create("x", 2)


async def test_a_deletion_leaves_nothing_in_the_end(
    servers: Servers, linked: Linked, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The servers forget a deletion after a while, and do not leave a mark of their own, which nobody sealed."""
    monkeypatch.setattr("modvisor.supervisor.cluster.link.buckets.MARKER_TTL", 1)
    a = await linked(servers, "a")
    bucket = await a.bucket("claims")
    await bucket.create("x", 1)
    await bucket.delete("x")
    while await a.jetstream.read(bucket.stream, what="look", last_by_subj=f"$KV.{bucket.name}.x") is not None:
        await asyncio.sleep(0.02)
    assert await bucket.get("x") is None
    await bucket.create("x", 2)


async def test_a_bucket_that_is_deleted_empties_no_mirror(servers: Servers, linked: Linked) -> None:
    """Nobody said that the mods are gone: what is known stays, until the bucket is there again."""
    a = await linked(servers, "a")
    bucket = await a.bucket("claims")
    first = await bucket.create("x", 1)
    told: asyncio.Queue[Any] = asyncio.Queue()
    watch = await bucket.watch("", lambda *what: told.put_nowait(what))
    assert await told.get() == ("x", 1, first)
    await a.js.delete_key_value(bucket.name)
    while "it is gone, somebody deleted it" not in watch.problem:
        await asyncio.sleep(0.01)
    assert told.empty()
    again = await a.bucket("claims")
    await again.create("y", 2)
    assert {(await told.get())[:2], (await told.get())[:2]} == {("x", None), ("y", 2)}
    await watch.close()
