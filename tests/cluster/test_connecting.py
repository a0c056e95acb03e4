"""What can go wrong on the way to the servers: each failure has its message, which names it and the next step."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import pytest

from modvisor.supervisor.cluster.link import (
    Gone,
    JetStreamOff,
    Link,
    NoQuorum,
    NotNats,
    OtherProtocol,
    OtherSecret,
    OutOfSpace,
    ServersTooOld,
    TooLarge,
    Unreachable,
)
from modvisor.supervisor.cluster.link import names as names_of_network
from modvisor.supervisor.config.values.env import EnvValue
from tests.ports import free_port

from .conftest import Linked
from .servers import Servers, config_of, link_to

pytestmark = pytest.mark.anyio


@pytest.fixture
def closed_port() -> int:
    return free_port()


async def test_no_server_answers(closed_port: int) -> None:
    with pytest.raises(Unreachable, match=f"no NATS server answers at nats://127.0.0.1:{closed_port}: .*refused"):
        await link_to(closed_port).open()


async def test_a_node_that_waits_is_there_when_a_server_is(own_server: Servers, linked: Linked) -> None:
    own_server[0].kill()
    waiting = asyncio.ensure_future(linked(own_server, "a", wait=True))
    await asyncio.sleep(0)
    own_server[0].restart()
    assert (await waiting).is_connected


async def test_what_answers_is_no_nats_server() -> None:
    async def http(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    other = await asyncio.start_server(http, "127.0.0.1", 0)
    async with other:
        with pytest.raises(NotNats, match="is not a NATS server; check the address"):
            await link_to(other.sockets[0].getsockname()[1]).open()


async def test_servers_of_an_older_version(servers: Servers) -> None:
    """The server is real, and as it greets, an older version stands in the place of its own."""

    async def pass_on(near: asyncio.StreamReader, to_near: asyncio.StreamWriter) -> None:
        far, to_far = await asyncio.open_connection("127.0.0.1", servers[0].port)
        try:
            greeting = await far.readline()
            to_near.write(re.sub(rb'"version":"[^"]*"', b'"version":"2.11.4"', greeting))
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(_pass_on(near, to_far))
                tasks.create_task(_pass_on(far, to_near))
        finally:
            to_far.close()
            to_near.close()

    async with await asyncio.start_server(pass_on, "127.0.0.1", 0) as older:
        said = "the NATS server is version 2.11.4; update it, a cluster needs 2.12 or newer"
        with pytest.raises(ServersTooOld, match=said):
            await link_to(older.sockets[0].getsockname()[1]).open()


async def _pass_on(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    while data := await source.read(65536):
        sink.write(data)
    sink.write_eof()


async def test_jetstream_is_off(tmp_path: Path) -> None:
    servers = Servers(1, tmp_path, jetstream=False)
    try:
        servers.start()
        with pytest.raises(JetStreamOff, match="JetStream does not answer: it is off"):
            await link_to(servers[0].port).open()
    finally:
        servers.close()


async def test_another_secret(servers: Servers, linked: Linked) -> None:
    await linked(servers, "a")
    with pytest.raises(OtherSecret, match=r"sealed with another secret; give this node the 'cluster\.secret'"):
        await linked(servers, "b", secret=EnvValue(literal="another-secret-of-somebody"))


async def test_a_node_of_an_older_version(
    servers: Servers, linked: Linked, network_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    a = await linked(servers, "a")
    about = await a.bucket("about")
    await about.put("network", {"network": network_id, "protocol": names_of_network.PROTOCOL + 1})
    with pytest.raises(OtherProtocol, match=r"speak protocol 2, this node speaks protocol 1: .*update modvisor here"):
        await linked(servers, "b")


async def test_a_network_of_an_older_version(servers: Servers, linked: Linked, network_id: str) -> None:
    about = await (await linked(servers, "a")).bucket("about")
    await about.put("network", {"network": network_id, "protocol": names_of_network.MIN_PROTOCOL - 1})
    with pytest.raises(OtherProtocol, match="update modvisor on them first"):
        await linked(servers, "b")


async def test_a_bucket_that_somebody_deleted(servers: Servers, linked: Linked) -> None:
    a = await linked(servers, "a")
    bucket = await a.bucket("mods")
    await bucket.put("x", 1)
    await a.js.delete_key_value(bucket.name)
    with pytest.raises(Gone, match=f"could not write the key 'x' of the bucket {bucket.name}: it is gone, somebody"):
        await bucket.put("x", 2)
    with pytest.raises(Gone, match="restart one node, which makes it again"):
        await bucket.get("x")
    again = await a.bucket("mods")  # as a node does at its start
    await again.put("x", 3)


async def test_jetstream_is_out_of_space(tmp_path: Path) -> None:
    servers = Servers(1, tmp_path, jetstream=False, more=[_small(tmp_path)])
    try:
        servers.start()
        link = link_to(servers[0].port)
        await link.open()
        files = await link.files()
        with pytest.raises(
            OutOfSpace, match=r"could not write the file 'big' in MV_net_files: JetStream is out of space"
        ):
            await files.put("big", bytes(2_000_000))
        await link.close()
    finally:
        servers.close()


def _small(tmp_path: Path) -> str:
    return f'jetstream {{ store_dir: "{tmp_path}/js", max_mem: 1M, max_file: 1000000 }}'


async def test_a_message_that_is_too_large(servers: Servers, linked: Linked) -> None:
    a = await linked(servers, "a")
    with pytest.raises(TooLarge, match=r"a message of \d+ bytes is larger than the servers take \(1048576\)"):
        await a.ask(a.subject("mod", "wiki"), bytes(2_000_000), timeout=5)
    await a.serve(a.subject("mod", "wiki"), lambda body, reply: reply(len(body)))
    assert await a.ask(a.subject("mod", "wiki"), bytes(a.max_body - 5), timeout=5) == a.max_body - 5


@pytest.mark.slow
async def test_no_quorum(tmp_path: Path) -> None:
    servers = Servers(3, tmp_path)
    try:
        servers.start()
        link = Link(config_of(servers, wait=True), "net", "a")
        await link.open()
        bucket = await link.bucket("mods")
        url = link.server
        for server in servers.all:
            if server.url != url:
                server.kill()
        with pytest.raises(NoQuorum, match=r"could not write the key 'x'.*(did not answer in time|has no leader)"):
            await bucket.put("x", 1)
        assert link.is_connected
        await link.close()
    finally:
        servers.close()


async def test_fewer_servers_than_replicas(servers: Servers) -> None:
    link = Link(config_of(servers, network="few", replicas=3, timeout=0.2), "few", "a")
    with pytest.raises(NoQuorum, match=r"on 3 servers, .*Start the others, or set 'cluster.replicas: 1'"):
        await link.open()
