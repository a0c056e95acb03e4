"""Questions and answers between nodes, over a real server."""

from __future__ import annotations

import pytest

from modvisor.supervisor.cluster.link import Nobody

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
