"""A read of what the servers keep ends, whatever becomes of it meanwhile."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from modvisor.supervisor.cluster.link import Link, NoQuorum
from modvisor.supervisor.cluster.link.errors import Gone
from modvisor.supervisor.cluster.link.following import Following
from modvisor.supervisor.cluster.link.newest import newest_of
from tests.conftest import until

from .conftest import Linked
from .servers import Servers

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(30)]

Read = Callable[[Link], Awaitable[Any]]


async def all_of_a_bucket(link: Link) -> None:
    await (await link.bucket("mods")).all()


async def a_mirror(link: Link) -> None:
    await (await link.bucket("mods")).mirror("", lambda *_: None)


async def newest_of_a_stream(link: Link) -> None:
    bucket = await link.bucket("mods")
    await newest_of(link, bucket.stream, f"$KV.{bucket.name}.>")


def quicker(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have a consumer that ends be missed soon."""
    monkeypatch.setattr("modvisor.supervisor.cluster.link.following.HEARTBEAT", 0.1)
    monkeypatch.setattr("modvisor.supervisor.cluster.link.following.LONGEST_PAUSE", 0.02)


READS = pytest.mark.parametrize("read", [all_of_a_bucket, a_mirror, newest_of_a_stream])


def nothing_comes(monkeypatch: pytest.MonkeyPatch, then: Callable[[Following], Awaitable[Any]] | None = None) -> None:
    """Have consumers send what they send to nobody, and something be done then."""
    create = Following._create

    async def created_then(following: Following, is_fresh: bool) -> None:
        following._inbox += "elsewhere"
        await create(following, is_fresh)
        if then is not None:
            await then(following)

    monkeypatch.setattr(Following, "_create", created_then)


@READS
async def test_a_read_of_a_stream_that_goes_meanwhile(
    servers: Servers, linked: Linked, monkeypatch: pytest.MonkeyPatch, read: Read
) -> None:
    a = await linked(servers, "a")
    bucket = await a.bucket("mods")
    await bucket.put("x", 1)
    quicker(monkeypatch)
    nothing_comes(monkeypatch, lambda _: a.js.delete_stream(bucket.stream))
    with pytest.raises(Gone, match="somebody deleted it"):
        await read(a)


@READS
async def test_a_read_of_which_nothing_comes(
    servers: Servers, linked: Linked, monkeypatch: pytest.MonkeyPatch, read: Read
) -> None:
    a = await linked(servers, "a", timeout=0.1)
    await (await a.bucket("mods")).put("x", 1)
    nothing_comes(monkeypatch)
    with pytest.raises(NoQuorum, match=r"could not read KV_.*_mods: the NATS servers sent nothing of it for 0.3 s"):
        await read(a)


async def test_what_cannot_be_followed_is_said_once(
    servers: Servers, linked: Linked, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    quicker(monkeypatch)
    a = await linked(servers, "a")
    bucket = await a.bucket("claims")
    watch = await bucket.mirror("", lambda *_: None)
    await a.js.delete_key_value(bucket.name)
    await until(lambda: "somebody deleted it" in watch.problem)
    begun, begin = list[None](), Following._begin

    async def counted(following: Following) -> None:
        begun.append(None)
        await begin(following)

    monkeypatch.setattr(Following, "_begin", counted)
    await until(lambda: len(begun) > 3)
    assert caplog.text.count("cannot follow") == 1
    await watch.close()
