"""Sockets, the token, garbage, and an end that leaves nothing behind."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import stat
import time
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from pathlib import Path

import httpx
import pytest

from modvisor.ipc.errors import ModvisorError
from modvisor.supervisor import AgentNetwork, Event
from modvisor.supervisor.http.access.gate import AdminGate
from modvisor.supervisor.http.door.sockets import CannotListen, reachable, tcp_socket, unix_socket
from tests.conftest import open_files, until
from tests.http.serving import TALKER, Served, serving, shared_network

pytestmark = pytest.mark.anyio

Make = Callable[..., AgentNetwork]
Write = Callable[..., str]


# -- listening


async def test_without_a_port_nothing_listens(make_network: Make) -> None:
    network = make_network()
    await network.initialize()
    assert network.port is None
    assert not network.state_dir.admin_socket.exists()


async def test_a_port_in_use_is_named_and_nothing_is_left(make_network: Make, write_mod: Write) -> None:
    before = open_files()
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        network = make_network({"port": port}, mods=[write_mod("echo")])
        with pytest.raises(CannotListen, match=rf"127\.0\.0\.1:{port}.*in use.*'port'") as raised:
            await network.initialize(admin=True)
        assert raised.value.code == "start_failed"
        assert not network.is_running
    await network.initialize(admin=True)  # now it is free
    assert network.port == port
    await network.shutdown()
    assert open_files() == before


@pytest.mark.parametrize(
    ("host", "message"), [("203.0.113.7", "no address 203.0.113.7"), ("no such host", "no address is known")]
)
async def test_a_host_that_is_not_here(host: str, message: str) -> None:
    with pytest.raises(CannotListen, match=message):
        await tcp_socket(host, 0)


async def test_a_name_and_an_ipv6_address_can_be_listened_on() -> None:
    for host in ("localhost", "::1"):
        try:
            sock = await tcp_socket(host, 0)
        except CannotListen:
            assert host == "::1"  # a machine may be without IPv6
            continue
        assert sock.getsockname()[1] > 0
        sock.close()


async def test_answers_do_not_wait_for_acknowledgements(make_network: Make) -> None:
    """asyncio turns Nagle's algorithm off only for sockets whose protocol says TCP."""
    async with serving(make_network({"port": 0})) as served:
        await served.agents.get("/api/health")
        assert served.network._parts is not None
        [connection] = served.network._parts.servers._servers[0].server_state.connections
        accepted = connection.transport.get_extra_info("socket")
        assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) != 0


async def test_signals_stay_as_they_are(make_network: Make) -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    async with serving(make_network({"port": 0})) as served:
        await served.agents.get("/api/health")
        assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


async def test_logging_of_the_process_stays_as_it_is(make_network: Make) -> None:
    access = logging.getLogger("uvicorn.access")
    handler = logging.NullHandler()
    access.addHandler(handler)
    try:
        async with serving(make_network({"port": 0})) as served:
            await served.agents.get("/api/health")
        assert access.handlers == [handler]
        assert access.propagate
    finally:
        access.removeHandler(handler)


# -- the unix socket


async def test_the_admin_socket_is_for_its_owner_alone(make_network: Make) -> None:
    old = os.umask(0)
    try:
        async with serving(make_network()) as served:
            path = served.network.state_dir.admin_socket
            assert stat.S_ISSOCK(path.stat().st_mode)
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
            assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
            assert (await served.admin.get("/admin/v1/status")).status_code == 200
            await served.network.shutdown()
            assert not path.exists()
    finally:
        os.umask(old)


async def test_a_stale_socket_is_replaced(make_network: Make) -> None:
    network = make_network()
    path = network.state_dir.admin_socket
    path.parent.mkdir(parents=True)
    with reachable(path) as name, socket.socket(socket.AF_UNIX) as dead:
        dead.bind(name)
    assert path.exists()
    async with serving(network) as served:
        assert (await served.admin.get("/admin/v1/status")).status_code == 200


def test_what_is_no_socket_is_not_removed(tmp_path: Path) -> None:
    path = tmp_path / "admin.sock"
    path.write_text("precious")
    with pytest.raises(CannotListen, match="not a socket"):
        unix_socket(path)
    assert path.read_text() == "precious"


def test_a_folder_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(CannotListen, match=r"absent/admin\.sock: No such file"):
        unix_socket(tmp_path / "absent" / "admin.sock")


async def test_a_path_longer_than_a_socket_address(make_network: Make) -> None:
    async with await asyncio.start_server(lambda *_: None, "127.0.0.1", 0):
        pass  # from its first server on, uvloop keeps a descriptor for itself
    before = open_files()
    network = make_network({"storage": "/".join(["deep" * 10] * 4)})
    async with serving(network) as served:
        assert len(str(network.state_dir.admin_socket)) > 150
        assert (await served.admin.get("/admin/v1/status")).json()["name"] == "test"
        await network.shutdown()
    assert not network.state_dir.admin_socket.exists()
    assert open_files() == before


# -- the token


async def test_the_admin_api_over_tcp_needs_the_token(make_network: Make, caplog: pytest.LogCaptureFixture) -> None:
    async with serving(make_network({"port": 0}, admin={"token": "sésame"})) as served:
        url = "/admin/v1/status"
        right = {"Authorization": "Bearer sésame".encode()}
        assert (await served.agents.get(url, headers=right)).json()["name"] == "test"
        wrong: list[dict[str, bytes]] = [
            {}, {"Authorization": b"Bearer x"}, {"Authorization": b"Basic sesame"}, {"Authorization": b"Bearer \xff\xfe"},
            {"Authorization": "Bearer sésame2".encode()}, {"Authorization": "sésame".encode()},
        ]  # fmt: skip
        for headers in wrong:
            refused = await served.agents.get(url, headers=headers)
            assert (refused.status_code, refused.json()["error"]) == (401, "unauthenticated")
            assert refused.headers["www-authenticate"] == "Bearer"
        for path in ("/admin", "/admin/", "/admin/v1/shutdown", "/admin//v1/status"):
            assert (await served.agents.post(path)).status_code == 401
        assert served.network.is_running
        proxied = await served.agents.get(url, headers={**right, "X-Forwarded-For": b"127.0.0.1"})
        assert (proxied.status_code, proxied.json()["error"]) == (403, "forbidden")
        assert "sésame" not in caplog.text
        assert (await served.agents.get("/api/health")).status_code == 200
        # Over the unix socket the file's mode decides.
        assert (await served.admin.get(url)).status_code == 200


@pytest.mark.parametrize(
    ("client", "status"),
    [("127.0.0.1", 200), ("127.9.9.9", 200), ("::1", 200), ("::ffff:127.0.0.1", 200), ("10.0.0.5", 403), ("2001:db8::1", 403),
     ("::ffff:10.0.0.5", 403), ("fe80::1%eth0", 403)],
)  # fmt: skip
async def test_the_admin_api_over_tcp_is_for_this_machine(client: str, status: int) -> None:
    async def app(scope, receive, send) -> None:  # type: ignore[no-untyped-def]
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    gate = AdminGate(app, app, "token")
    transport = httpx.ASGITransport(gate, client=(client, 5))
    async with httpx.AsyncClient(transport=transport, base_url="http://x") as asking:
        assert (await asking.get("/admin/v1/x", headers={"Authorization": "Bearer token"})).status_code == status
        assert (await asking.get("/api/health")).status_code == 200


async def test_a_token_that_cannot_be_read_is_a_failed_start(
    make_network: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ADMIN_TOKEN", "x")
    network = make_network({"port": 0}, admin={"token": {"from": "env:ADMIN_TOKEN"}})
    monkeypatch.delenv("ADMIN_TOKEN")
    with pytest.raises(ModvisorError, match="ADMIN_TOKEN"):
        await network.initialize()
    assert not network.is_running


# -- garbage


@pytest.fixture(scope="module")
async def asked(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Served]:
    """A network that gets all the garbage."""
    async with shared_network(tmp_path_factory.mktemp("garbage"), {}) as served:
        yield served


@pytest.mark.parametrize(
    "garbage",
    [
        b"\x00\xff\xfe garbage\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",  # a TLS greeting
        b"GET /api/health\r\n\r\n",
        b"GET /api/health HTTP/1.1\r\n\r\n",  # no Host
        b"POST /api/register HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        b"POST /api/register HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nabcde",
        b"POST /api/register HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"GET /" + b"a" * 200_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\n" + b"X: y\r\n" * 20_000 + b"\r\n",
    ],
)
async def test_garbage_is_refused_and_harms_nobody(asked: Served, garbage: bytes) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", asked.network.port)
    writer.write(garbage)
    async with asyncio.timeout(10):
        answer = await reader.read(200)
    assert answer.startswith(b"HTTP/1.1 ") or answer == b""
    writer.close()
    await writer.wait_closed()
    assert (await asked.agents.get("/api/health")).status_code == 200


async def test_paths_and_queries_of_any_bytes(make_network: Make) -> None:
    async with serving(make_network({"port": 0})) as served:
        reader, writer = await asyncio.open_connection("127.0.0.1", served.network.port)
        for target in (
            b"/%00%ff%fe",
            b"/api/poll?agent_id=%ff%00&secret=%80",
            b"/api/health?agent_id=%ff&secret=%f0%9f",
            b"*",
        ):
            writer.write(b"GET " + target + b" HTTP/1.1\r\nHost: x\r\n\r\n")
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.split(b" ", 2)[1] in (b"200", b"404")
            length = next(line for line in head.split(b"\r\n") if line.startswith(b"content-length"))
            await reader.readexactly(int(length.split(b":")[1]))
        writer.close()
        await writer.wait_closed()


async def test_a_client_that_goes_in_the_middle_of_a_body(make_network: Make, caplog: pytest.LogCaptureFixture) -> None:
    async with serving(make_network({"port": 0})) as served:
        _, writer = await asyncio.open_connection("127.0.0.1", served.network.port)
        writer.write(
            b"POST /api/register HTTP/1.1\r\nHost: x\r\nTE: trailers\r\nContent-Type: application/json\r\n"
            b'Content-Length: 500\r\n\r\n{"agent_id": '
        )
        await until(lambda: served.requests_in_flight() == 1)
        writer.close()
        await writer.wait_closed()
        await until(lambda: served.requests_in_flight() == 0)
        assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


# -- the end


async def test_the_end_comes_soon_whatever_is_open(make_network: Make, write_mod: Write) -> None:
    """Long-polls and streams end as they would anyway; a request that hangs is refused; nothing is left."""
    files, tasks = open_files(), len(asyncio.all_tasks())
    network = make_network({"port": 0}, mods=[write_mod("talker", TALKER)])
    async with serving(network) as served:
        alice, bob = await served.register("alice"), await served.register("bob")
        polling = asyncio.create_task(served.poll("bob", bob, wait=60))
        hanging = asyncio.create_task(
            served.agents.post(
                "/api/send_event", json={"event_name": "test.hold", "source_id": "alice", "secret": alice}
            )
        )

        async def read(path: str) -> list[str]:
            return (await served.admin.get(path)).text.splitlines()

        watching = asyncio.create_task(read("/admin/v1/events"))
        following = asyncio.create_task(read("/admin/v1/mods/talker/log?follow=1"))
        _, uploading = await asyncio.open_connection("127.0.0.1", network.port)
        uploading.write(
            b"POST /api/send_event HTTP/1.1\r\nHost: x\r\nTE: trailers\r\nContent-Type: application/json\r\n"
            b"Content-Length: 500\r\n\r\n{"
        )
        _, idle = await asyncio.open_connection("127.0.0.1", network.port)
        await until(lambda: served.waits("bob") and served.requests_in_flight() == 5)
        await until(lambda: any("holding" in line for line in network.mod_log("talker")))

        assert network._parts is not None
        began = time.monotonic()
        await network._parts.servers.stop()
        assert time.monotonic() - began < 2.5
        assert (await polling) == {"success": True, "messages": [], "agent_id": "bob"}
        assert (await watching)[0] == '{"listening":true}'
        assert "holding" in (await following)[-1]
        answer = await hanging
        assert (answer.status_code, answer.json()["error"]) == (503, "not_running")
        assert not network.state_dir.admin_socket.exists()
        assert network.port is None
        await network._parts.servers.stop()  # again is fine
        await network.shutdown()
        for writer in (uploading, idle):
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()
    await until(lambda: len(asyncio.all_tasks()) == tasks)
    assert open_files() == files


async def test_a_reader_that_does_not_read_holds_nothing_up(make_network: Make) -> None:
    network = make_network()
    async with serving(network) as served:
        with reachable(network.state_dir.admin_socket) as name:
            reader, writer = await asyncio.open_unix_connection(name, limit=1000)
        writer.write(b"GET /admin/v1/events HTTP/1.1\r\nHost: x\r\n\r\n")
        async with asyncio.timeout(10):
            while b"listening" not in await reader.readline():
                pass
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        for _ in range(100):
            await network.process_event(Event("test.note", "system:system", payload={"text": "x" * 100_000}))
        assert network._parts is not None
        [server] = network._parts.servers._servers
        await until(lambda: any(connection.flow.write_paused for connection in server.server_state.connections))
        assert (await served.admin.get("/admin/v1/status")).status_code == 200
        began = time.monotonic()
        await network.shutdown()
        assert time.monotonic() - began < 3
        assert not server.server_state.connections
        assert not server.server_state.tasks
        writer.transport.abort()


async def test_with_nothing_open_the_end_is_at_once(make_network: Make) -> None:
    network = make_network({"port": 0})
    async with serving(network) as served:
        await served.agents.get("/api/health")
        assert network._parts is not None
        began = time.monotonic()
        await network._parts.servers.stop()
        assert time.monotonic() - began < 0.5


async def test_a_network_can_be_served_again(make_network: Make) -> None:
    network = make_network({"port": 0})
    for _ in range(3):
        async with serving(network) as served:
            assert (await served.agents.get("/api/health")).status_code == 200
            assert (await served.admin.get("/admin/v1/status")).status_code == 200
        await network.shutdown()


async def test_a_clock_that_fails_is_logged_and_the_network_goes_on(
    make_network: Make, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def fail(self: object) -> None:
        raise RuntimeError("broken")

    monkeypatch.setattr("modvisor.supervisor.http.embedded.EmbeddedServer.tick", fail)
    async with serving(make_network({"port": 0})) as served:
        await until(lambda: "RuntimeError: broken" in caplog.text)
        assert (await served.agents.get("/api/health")).status_code == 200
