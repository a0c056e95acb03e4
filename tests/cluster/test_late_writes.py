"""What the servers held up, or did not take, does not win over what was written after it."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from modvisor.supervisor.cluster.link import Bucket, NoQuorum
from modvisor.supervisor.cluster.mods.network_file import FILE, NetworkFile
from modvisor.supervisor.cluster.mods.statuses import Status, Statuses
from modvisor.supervisor.cluster.nodes.session import Session
from modvisor.supervisor.lifecycle import State
from tests.clients.python.cable import cable_to
from tests.conftest import until

from .conftest import Linked
from .servers import Servers, link_to

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(30)]


@pytest.mark.parametrize(("late", "newer"), [("put", "put"), ("put", "delete"), ("delete", "put")])
async def test_a_write_that_comes_late_is_refused(
    servers: Servers, linked: Linked, monkeypatch: pytest.MonkeyPatch, late: str, newer: str
) -> None:
    quick = await (await linked(servers, "b", network="net")).bucket("state")
    await quick.put("x", "first")
    async with cable_to(servers[0].port) as cable:
        link = link_to(cable.port, timeout=0.2)
        await link.open()
        slow = await link.bucket("state")
        write = slow._write

        async def held_up(*arguments: Any) -> int:
            cable.hold()
            return await write(*arguments)

        monkeypatch.setattr(slow, "_write", held_up)
        with pytest.raises(NoQuorum):
            await done(slow, late, "late")
        await done(quick, newer, "newer")
        cable.let_go()
        await link.connection().flush()  # what was held up has come
        await link.close()
        await cable.cut()
    found = await quick.get("x")
    assert (None if found is None else found.value) == ("newer" if newer == "put" else None)


async def done(bucket: Bucket, do: str, value: str) -> None:
    if do == "put":
        await bucket.put("x", value)
    else:
        await bucket.delete("x")


def status(state: State) -> Status:
    return Status("a", 7, state, None, None, None, None)


class StoredLater:
    """Has one write of a bucket fail that is stored all the same, but later."""

    def __init__(self, bucket: Bucket) -> None:
        self.bucket, self._put = bucket, bucket.put
        self.late: list[tuple[str, Any]] = []

    async def __call__(self, key: str, value: Any, *known: int) -> int:
        if not self.late:
            self.late.append((key, value))
            raise NoQuorum("the servers did not answer in time")
        return await self._put(key, value, *known)


async def test_a_status_is_told_again_after_one_that_may_be_stored_later(
    servers: Servers, linked: Linked, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The mod is as it was told before by then: nothing seems to be new."""
    bucket = await (await linked(servers, "a")).bucket("state")
    own = {"wiki": status(State.READY)}
    statuses = Statuses(bucket, lambda: own)
    await statuses.open()
    running = asyncio.create_task(statuses.run())
    statuses.look()
    await until(lambda: statuses._told == own)
    (first,) = (await bucket.all()).values()
    late = StoredLater(bucket)
    monkeypatch.setattr(bucket, "put", late)
    own["wiki"] = status(State.STARTING)
    statuses.look()
    await until(lambda: bool(late.late))
    own["wiki"] = status(State.READY)
    statuses.look()
    await until(lambda: statuses._told == own)
    (second,) = (await bucket.all()).values()
    assert second[1] > first[1], "so that the one before is refused whenever it comes"
    running.cancel()
    await statuses.close()


async def test_a_status_is_told_again_when_somebody_deleted_its_bucket(servers: Servers, linked: Linked) -> None:
    a, b = await linked(servers, "a"), await linked(servers, "b")
    bucket = await a.bucket("state")
    statuses = Statuses(bucket, lambda: {"wiki": status(State.READY)})
    await statuses.open()
    running = asyncio.create_task(statuses.run())
    statuses.look()
    await until(lambda: "wiki" in statuses.known)
    await a.js.delete_key_value(bucket.name)
    again = await b.bucket("state")  # as a node that starts
    told = asyncio.Event()
    watch = await again.mirror("status.", lambda *_: told.set())
    await told.wait()
    assert statuses.known["wiki"].state is State.READY
    running.cancel()
    await asyncio.gather(statuses.close(), watch.close())


class Described:
    """A session that nobody sees."""

    node, nodes = "a", dict[str, Any]()

    def describe(self, **more: Any) -> None: ...


async def test_a_file_is_told_again_that_the_servers_did_not_take(
    servers: Servers, linked: Linked, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket = await (await linked(servers, "a")).bucket("state")
    file = NetworkFile(bucket, cast(Session, Described()), allow_mixed=False)
    monkeypatch.setattr("modvisor.supervisor.cluster.mods.network_file.digests_of_entries", dict)
    await file.join({})
    monkeypatch.setattr(bucket, "put", StoredLater(bucket))
    changed = cast("dict[str, Any]", {"wiki": "another entry"})
    with pytest.raises(NoQuorum):
        await file.changed(changed)
    await file.changed(changed)
    kept = await bucket.get(FILE)
    assert kept is not None
    assert kept.value == changed


async def test_a_bucket_that_was_deleted_and_made_again_goes_on_with_greater_numbers(
    servers: Servers, linked: Linked
) -> None:
    """Else its watches take what is new for old, and the fences of mods shut out each new claim."""
    a, b = await linked(servers, "a"), await linked(servers, "b")
    bucket, seen = await a.bucket("claims"), await b.bucket("claims")
    for number in range(20):
        before = await bucket.put("wiki", number)
    told: list[tuple[str, Any, int]] = []
    watch = await seen.mirror("", lambda *what: told.append(what))
    await a.js.delete_key_value(bucket.name)
    buckets = await asyncio.gather(a.bucket("claims"), b.bucket("claims"))  # two nodes that start together
    after = await buckets[0].create("wiki", "new")
    assert after > before
    await until(lambda: told[-1] == ("wiki", "new", after))
    await watch.close()
