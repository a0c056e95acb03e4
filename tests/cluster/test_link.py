"""Questions and answers between nodes, over a real server."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from nats.aio.msg import Msg
from nats.js.object_store import ObjectStore

from modvisor.supervisor.cluster.link import ClusterError, Files, Nobody
from modvisor.supervisor.cluster.link.following import Following

from .conftest import Linked
from .servers import Servers

pytestmark = pytest.mark.anyio


async def test_a_node_answers_another_one(servers: Servers, linked: Linked) -> None:
    a, b = await linked(servers, "a"), await linked(servers, "b")
    await b.serve(b.subject("mod", "wiki"), lambda body, reply: reply({"got": body}))
    assert await a.ask(a.subject("mod", "wiki"), [1, b"two", None], timeout=5) == {"got": [1, b"two", None]}


async def test_nobody_serves(servers: Servers, linked: Linked) -> None:
    a = await linked(servers, "a")
    with pytest.raises(Nobody, match="nobody answers on mv"):
        await a.ask(a.subject("mod", "wiki"), 1, timeout=5)


async def test_a_bucket(servers: Servers, linked: Linked) -> None:
    a = await linked(servers, "a")
    bucket = await a.bucket("mods")
    first = await bucket.create("x", {"a": 1})
    seen = []
    watch = await bucket.watch("", lambda *told: seen.append(told))
    await watch.caught_up()
    assert seen == [("x", {"a": 1}, first)]
    second = await bucket.update("x", 2, first, ttl=30)
    found = await bucket.get("x")
    assert found is not None
    assert (found.value, found.revision) == (2, second)
    await bucket.delete("x", second)
    assert await bucket.get("x") is None
    await bucket.create("x", 3)
    await watch.close()


async def test_a_file(servers: Servers, linked: Linked) -> None:
    a = await linked(servers, "a")
    files = await a.files()
    await files.put("large", bytes(300_000))
    assert await files.get("large") == bytes(300_000)
    await files.drop("large")
    assert await files.get("large") is None


LARGE = bytes(range(250)) * 4000


@pytest.mark.parametrize("then", [None, b"new"], ids=["removed", "replaced"])
async def test_a_file_is_removed_or_replaced_while_it_is_read(
    servers: Servers, linked: Linked, monkeypatch: pytest.MonkeyPatch, then: bytes | None
) -> None:
    files = await (await linked(servers, "a")).files()
    await files.put("large", LARGE)
    get_info = ObjectStore.get_info

    async def changed_then(store: ObjectStore, *arguments: Any) -> Any:
        found = await get_info(store, *arguments)
        monkeypatch.setattr(ObjectStore, "get_info", get_info)
        await (files.drop("large") if then is None else files.put("large", then))
        return found

    monkeypatch.setattr(ObjectStore, "get_info", changed_then)
    assert await files.get("large") == then


async def test_a_file_is_read_on_when_the_connection_is_lost(
    servers: Servers, linked: Linked, monkeypatch: pytest.MonkeyPatch
) -> None:
    a = await linked(servers, "a")
    files, start, received = await a.files(), Following.start, Following._received
    await files.put("large", LARGE)
    has_begun = asyncio.Event()

    def only_the_first(following: Following, message: Msg) -> None:
        """What comes after the first chunk is lost with the connection."""
        if not has_begun.is_set():
            received(following, message)
            has_begun.set()

    async def lost_then(following: Following) -> None:
        monkeypatch.setattr(Following, "start", start)
        await start(following)
        await has_begun.wait()
        monkeypatch.setattr(Following, "_received", received)
        a.connection().lose("the test says so")

    monkeypatch.setattr(Following, "_received", only_the_first)
    monkeypatch.setattr(Following, "start", lost_then)
    assert await files.get("large") == LARGE
    assert has_begun.is_set()


async def test_a_file_of_which_a_part_is_gone_is_said_to_be_damaged(servers: Servers, linked: Linked) -> None:
    a = await linked(servers, "a")
    files: Files = await a.files()
    await files.put("large", LARGE)
    await a.jetstream.request(f"STREAM.PURGE.OBJ_{files.name}", {"keep": 2}, what="remove a part of it")
    with pytest.raises(ClusterError, match=r"'large' .* is damaged: .* of its 1000017 bytes are there"):
        await files.get("large")
