"""TLS on the TCP port: real certificates, the way of ordinary requests, renewal, and clients that dawdle."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
import trustme
from cryptography.hazmat.primitives import serialization as form
from websockets.asyncio.client import connect

from modvisor.supervisor import AgentNetwork, Event
from modvisor.supervisor.config.sections.tls import TlsConfig
from modvisor.supervisor.http.door.sockets import CannotListen
from modvisor.supervisor.http.door.tls import BadCertificate, Certificate, context_of
from tests.conftest import until
from tests.http.certificates import Certificates, serial_of
from tests.http.serving import JSON, TALKER, Served, serving

pytestmark = pytest.mark.anyio

Make = Callable[..., AgentNetwork]
Write = Callable[..., str]


@pytest.fixture
def certificates(tmp_path: Path) -> Certificates:
    return Certificates.at(tmp_path)


@asynccontextmanager
async def secured(network: AgentNetwork, verify: ssl.SSLContext) -> AsyncIterator[Served]:
    """Serve a network, and talk to it over TLS."""
    async with serving(network) as plain:
        url = f"https://127.0.0.1:{network.port}"
        async with httpx.AsyncClient(base_url=url, trust_env=False, timeout=30, headers=JSON, verify=verify) as agents:
            yield Served(network, agents, plain.admin)


def server_of(served: Served):  # type: ignore[no-untyped-def]
    assert served.network._parts is not None
    return served.network._parts.servers._servers[0]


async def handshake(port: int, context: ssl.SSLContext) -> int:
    """Connect, and return the serial number of the certificate that the network shows."""
    _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
    found = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    writer.close()
    await writer.wait_closed()
    return serial_of(ssl.DER_cert_to_PEM_cert(found))


async def test_agents_talk_over_tls_and_ordinary_requests_take_the_short_way(
    make_network: Make, write_mod: Write, certificates: Certificates
) -> None:
    network = make_network({"port": 0, "tls": certificates.section}, mods=[write_mod("talker", TALKER)])
    async with secured(network, certificates.client()) as served:
        secret = await served.register("alice")
        for i in range(3):
            answer = await served.send("alice", secret, "test.ping", payload={"i": i})
            assert answer["data"] == {"i": i, "from": "alice"}
        long = "x" * 300_000  # goes the long way, in many records
        assert (await served.send("alice", secret, "test.ping", payload={"i": long}))["data"]["i"] == long
        [connection] = server_of(served)._protocols()
        assert connection.answered == 4
        waiting = asyncio.create_task(served.poll("alice", secret, wait=20))
        await until(lambda: served.waits("alice"))
        await served.send("alice", secret, "chat.hi", "alice", payload={"text": long})
        [message] = (await waiting)["messages"]
        assert message["payload"] == {"text": long}


async def test_agents_are_pushed_events_over_a_websocket_with_tls(
    make_network: Make, certificates: Certificates
) -> None:
    network = make_network({"port": 0, "tls": certificates.section})
    async with secured(network, certificates.client()):
        url = f"wss://127.0.0.1:{network.port}/ws"
        async with connect(url, ssl=certificates.client(), proxy=None) as socket:
            await socket.send(json.dumps({"type": "register", "id": 1, "agent_id": "alice", "credit": 8}))
            assert json.loads(await socket.recv())["type"] == "welcome"
            long = "x" * 300_000
            await network.process_event(Event("chat.hi", "agent:bob", "agent:alice", payload={"text": long}))
            [pushed] = json.loads(await socket.recv())["events"]
            assert pushed["event"]["payload"] == {"text": long}


async def test_a_plain_client_is_told_that_the_port_speaks_https(
    make_network: Make, certificates: Certificates
) -> None:
    async with serving(make_network({"port": 0, "tls": certificates.section})) as served:
        answer = await served.agents.get("/api/health")
        assert answer.status_code == 400
        assert "use https://" in answer.json()["message"]


async def test_a_client_that_does_not_know_the_authority_connects_not(
    make_network: Make, certificates: Certificates
) -> None:
    network = make_network({"port": 0, "tls": certificates.section})
    async with secured(network, ssl.create_default_context()) as served:
        with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
            await served.agents.get("/api/health")
        assert await handshake(network.port or 0, certificates.client())


@pytest.mark.parametrize("required", [True, False])
async def test_clients_must_show_a_certificate_if_the_file_says_so(
    make_network: Make, certificates: Certificates, required: bool
) -> None:
    tls = {**certificates.section, "client_ca": "ca.pem", "client_required": required}
    network = make_network({"port": 0, "tls": tls})
    async with secured(network, certificates.client("alice")) as served:
        assert (await served.agents.get("/api/health")).status_code == 200
        url, bare = f"https://127.0.0.1:{network.port}/api/health", certificates.client()
        async with httpx.AsyncClient(trust_env=False, verify=bare) as without:
            if required:
                with pytest.raises(httpx.TransportError):  # in TLS 1.3 the client hears it late
                    await without.get(url)
            else:
                assert (await without.get(url)).status_code == 200


async def test_a_renewed_certificate_is_used_and_open_connections_go_on(
    make_network: Make, certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("modvisor.supervisor.http.door.tls.LOOK_EVERY", 0.0)
    network = make_network({"port": 0, "tls": certificates.section})
    async with secured(network, certificates.client()) as served:
        assert (await served.agents.get("/api/health")).status_code == 200
        [connection] = server_of(served)._protocols()
        before, renewed = await handshake(network.port or 0, certificates.client()), certificates.renew()
        assert before != renewed
        await server_of(served)._certificate.look()
        assert await handshake(network.port or 0, certificates.client()) == renewed
        assert (await served.agents.get("/api/health")).status_code == 200
        assert connection in server_of(served)._protocols()


async def test_a_broken_renewal_keeps_the_certificate_of_before_and_says_so_once(
    certificates: Certificates, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("modvisor.supervisor.http.door.tls.LOOK_EVERY", 0.0)
    certificate = Certificate(TlsConfig(tmp_path / "cert.pem", tmp_path / "key.pem"))
    before = certificate.context
    (tmp_path / "cert.pem").write_text("-----BEGIN CERTIFICATE-----\n")
    for _ in range(3):
        await certificate.look()
    assert certificate.context is before
    [told] = [each.getMessage() for each in caplog.records if each.levelno == logging.ERROR]
    assert told.startswith(f"the certificate of before stays in use: network.tls: {tmp_path / 'cert.pem'}")
    (tmp_path / "cert.pem").unlink()
    await certificate.look()
    assert certificate.context is before
    certificates.renew()
    await certificate.look()
    assert certificate.context is not before


def with_password(key: bytes) -> bytes:
    loaded = form.load_pem_private_key(key, None)
    return loaded.private_bytes(
        form.Encoding.PEM, form.PrivateFormat.PKCS8, form.BestAvailableEncryption(b"secret of the key")
    )


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (
            lambda folder: (folder / "cert.pem").unlink(),
            r"network\.tls\.cert: .*cert\.pem cannot be read: No such file",
        ),
        (lambda folder: (folder / "key.pem").write_text("x"), r"network\.tls\.key: .*key\.pem is not in PEM"),
        (
            lambda folder: (folder / "key.pem").write_bytes(trustme.CA().issue_cert("a").private_key_pem.bytes()),
            r"network\.tls: the key in .*key\.pem is not that of the certificate in .*cert\.pem",
        ),
        (
            lambda folder: (folder / "key.pem").write_bytes(with_password((folder / "key.pem").read_bytes())),
            r"network\.tls\.key: .*key\.pem has a password; write one without",
        ),
    ],
)
async def test_files_that_cannot_be_used_are_named(
    certificates: Certificates, tmp_path: Path, make_network: Make, spoil: Callable[[Path], object], message: str
) -> None:
    spoil(tmp_path)
    with pytest.raises(BadCertificate, match=message):
        context_of(TlsConfig(tmp_path / "cert.pem", tmp_path / "key.pem"))
    network = make_network({"port": 0, "tls": certificates.section})
    with pytest.raises(BadCertificate, match=message):
        await network.initialize()
    assert not network.is_running


async def test_a_client_that_ends_no_handshake_is_dismissed_and_holds_no_descriptor(
    make_network: Make, certificates: Certificates
) -> None:
    network = make_network({"port": 0, "tls": certificates.section}, http={"connections": 8})
    async with secured(network, certificates.client()) as served:
        dawdlers = []
        for _ in range(8):
            dawdler = socket.create_connection(("127.0.0.1", network.port or 0))
            dawdler.sendall(b"\x16\x03\x01\x02\x00")  # the begin of a hello
            dawdlers.append(dawdler)
        server = server_of(served)
        await until(lambda: len(server.listener._setups) == 8)
        assert (await served.agents.get("/api/health")).status_code == 200  # takes the place of one of them
        await until(lambda: len(server.listener._setups) == 7)
        gone = [each for each in dawdlers if is_closed(each)]
        assert len(gone) == 1
        for each in dawdlers:
            each.close()
        await until(lambda: not server.listener._setups)


def is_closed(sock: socket.socket) -> bool:
    sock.setblocking(False)
    try:
        return sock.recv(1) == b""
    except BlockingIOError:
        return False
    except ConnectionError:
        return True


async def test_the_end_waits_for_no_handshake(make_network: Make, certificates: Certificates) -> None:
    network = make_network({"port": 0, "tls": certificates.section})
    await network.initialize()
    with socket.create_connection(("127.0.0.1", network.port or 0)) as dawdler:
        dawdler.sendall(b"\x16\x03\x01\x02\x00")
        assert network._parts is not None
        server = network._parts.servers._servers[0]
        await until(lambda: len(server.listener._setups) == 1)
        await network.shutdown()
        assert not server.listener._setups
        assert not server.server_state.tasks


async def test_a_handshake_counts_for_the_time_that_strangers_may_take(
    certificates: Certificates, tmp_path: Path
) -> None:
    certificate = Certificate(TlsConfig(tmp_path / "cert.pem", tmp_path / "key.pem"))
    assert 0 < certificate.cost < 1


async def test_a_network_made_of_plain_data_does_not_listen_bare_either(make_network: Make) -> None:
    network = make_network({"port": 0})
    object.__setattr__(network.config, "host", "0.0.0.0")
    with pytest.raises(CannotListen, match=r"other machines can reach 0\.0\.0\.0"):
        await network.initialize()


async def test_every_start_says_that_other_machines_reach_it_without_tls(
    make_network: Make, caplog: pytest.LogCaptureFixture
) -> None:
    network = make_network({"port": 0, "host": "0.0.0.0", "insecure": True})
    for _ in range(2):
        await network.initialize()
        await network.shutdown()
    told = [each.getMessage() for each in caplog.records if "without TLS" in each.getMessage()]
    assert len(told) == 2
