"""Who the servers take: passwords, TLS, nkeys, credentials of an account, and what a node may reach on them."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import nkeys
import pytest
import trustme

from modvisor.supervisor.cluster.link import NotPermitted, TlsFailed, WrongCredentials
from modvisor.supervisor.cluster.link.names import BUCKETS, FILES, STREAMS, Names
from modvisor.supervisor.config import ClusterTlsConfig
from modvisor.supervisor.config.values.env import EnvValue

from .servers import Server, Servers, link_to

pytestmark = pytest.mark.anyio

ROOT = Path(__file__).parents[2]
Serve = Callable[..., Server]


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Serve]:
    """Starts a server with these lines in its configuration."""
    started: list[Servers] = []

    def start(*more: str) -> Server:
        servers = Servers(1, tmp_path, more=list(more))
        started.append(servers)
        return servers.start()[0]

    yield start
    for servers in started:
        servers.close()


async def test_a_user_with_a_password(served: Serve) -> None:
    port = served("authorization { users: [{ user: node, password: right }] }").port
    link = link_to(port, user="node", password=EnvValue(literal="right"))
    await link.open()
    await link.close()
    wrong = link_to(port, user="node", password=EnvValue(literal="wrong"))
    with pytest.raises(WrongCredentials, match=r"refused the user 'node' of 'cluster\.user': Authorization Violation"):
        await wrong.open()
    with pytest.raises(WrongCredentials, match="refused a node without credentials"):
        await link_to(port).open()


async def test_a_file_of_credentials_that_is_not_there(served: Serve, tmp_path: Path) -> None:
    link = link_to(served().port, credentials=tmp_path / "node.creds")
    with pytest.raises(WrongCredentials, match=r"cannot read the file of 'cluster\.credentials'"):
        await link.open()


# -- TLS


@pytest.fixture
def authority(tmp_path: Path) -> trustme.CA:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    own = authority.issue_cert("127.0.0.1")
    own.private_key_pem.write_to_path(tmp_path / "server.key")
    own.cert_chain_pems[0].write_to_path(tmp_path / "server.pem")
    node = authority.issue_cert("node@example.org")
    node.private_key_pem.write_to_path(tmp_path / "node.key")
    node.cert_chain_pems[0].write_to_path(tmp_path / "node.pem")
    return authority


async def test_tls_with_certificates_on_both_sides(served: Serve, authority: trustme.CA, tmp_path: Path) -> None:
    files = {"cert_file": "server.pem", "key_file": "server.key", "ca_file": "ca.pem"}
    port = served(f"tls {{ {_lines(files, tmp_path)}, verify: true }}").port
    tls = ClusterTlsConfig(ca=tmp_path / "ca.pem", cert=tmp_path / "node.pem", key=tmp_path / "node.key")
    link = link_to(port, tls=tls)
    await link.open()
    await (await link.bucket("mods")).put("x", 1)
    await link.close()

    with pytest.raises(
        TlsFailed, match=r"certificate was refused.*check 'cluster\.tls' \(certificates that are trusted"
    ):
        await link_to(port, tls=ClusterTlsConfig()).open()
    with pytest.raises(TlsFailed, match="no TLS with the NATS server"):
        await link_to(port, tls=ClusterTlsConfig(ca=tmp_path / "ca.pem")).open()


async def test_a_password_is_not_sent_to_a_server_without_tls(served: Serve, tmp_path: Path) -> None:
    server = served("authorization { users: [{ user: node, password: right }] }", "debug: true", "trace: true")
    config: dict[str, Any] = {"user": "node", "password": EnvValue(literal="right"), "tls": ClusterTlsConfig()}
    with pytest.raises(TlsFailed, match="does not ask for TLS, but"):
        await link_to(server.port, **config).open()
    assert "[CONNECT" not in server.log


async def test_files_of_tls_that_cannot_be_read(served: Serve, tmp_path: Path) -> None:
    tls = ClusterTlsConfig(ca=tmp_path / "nothing.pem")
    with pytest.raises(TlsFailed, match=r"cannot use the files of 'cluster\.tls'.*nothing\.pem"):
        await link_to(served().port, tls=tls).open()


def _lines(files: dict[str, str], folder: Path) -> str:
    return ", ".join(f'{name}: "{folder / file}"' for name, file in files.items())


# -- keys


def key_pair(kind: int) -> nkeys.KeyPair:
    return nkeys.from_seed(nkeys.encode_seed(os.urandom(32), kind))


async def test_an_nkey(served: Serve, tmp_path: Path) -> None:
    pair, other = key_pair(nkeys.PREFIX_BYTE_USER), key_pair(nkeys.PREFIX_BYTE_USER)
    (tmp_path / "node.nk").write_bytes(pair.seed)
    (tmp_path / "other.nk").write_bytes(other.seed)
    port = served(f"authorization {{ users: [{{ nkey: {pair.public_key.decode()} }}] }}").port
    link = link_to(port, nkey=tmp_path / "node.nk")
    await link.open()
    await link.close()
    with pytest.raises(WrongCredentials, match=r"refused the key of 'cluster\.nkey' \(.*other\.nk\)"):
        await link_to(port, nkey=tmp_path / "other.nk").open()
    (tmp_path / "broken.nk").write_text("nothing")
    with pytest.raises(WrongCredentials, match=r"cannot use the key of 'cluster\.nkey'"):
        await link_to(port, nkey=tmp_path / "broken.nk").open()


async def test_credentials_of_an_account(served: Serve, tmp_path: Path) -> None:
    operator, account = key_pair(nkeys.PREFIX_BYTE_OPERATOR), key_pair(nkeys.PREFIX_BYTE_ACCOUNT)
    user = key_pair(nkeys.PREFIX_BYTE_USER)
    limits = {"mem_storage": -1, "disk_storage": -1, "streams": -1, "consumer": -1, **_UNLIMITED}
    owner = _public(account)
    of_operator = claims(operator, operator, "tests", {"type": "operator", "version": 2})
    of_account = claims(operator, account, "nodes", {"type": "account", "version": 2, "limits": limits})
    of_user = claims(account, user, "node", {"type": "user", "version": 2, **_UNLIMITED})
    system = key_pair(nkeys.PREFIX_BYTE_ACCOUNT)
    of_system = claims(operator, system, "SYS", {"type": "account", "version": 2, "limits": _UNLIMITED})
    port = served(
        f"operator: {of_operator}",
        f"system_account: {_public(system)}",
        "resolver: MEMORY",
        f"resolver_preload: {{ {owner}: {of_account}, {_public(system)}: {of_system} }}",
    ).port
    (tmp_path / "node.creds").write_text(
        f"-----BEGIN NATS USER JWT-----\n{of_user}\n------END NATS USER JWT------\n\n"
        f"-----BEGIN USER NKEY SEED-----\n{user.seed.decode()}\n------END USER NKEY SEED------\n"
    )
    link = link_to(port, credentials=tmp_path / "node.creds")
    await link.open()
    await link.close()


_UNLIMITED = {
    "subs": -1,
    "data": -1,
    "payload": -1,
    "conn": -1,
    "leaf": -1,
    "imports": -1,
    "exports": -1,
    "wildcards": True,
}


def _public(pair: nkeys.KeyPair) -> str:
    return pair.public_key.decode()


def claims(signer: nkeys.KeyPair, subject: nkeys.KeyPair, name: str, nats: dict[str, Any]) -> str:
    """A JWT as `nsc` makes them."""
    body: dict[str, Any] = {"iat": int(time.time()), "iss": _public(signer), "sub": _public(subject), "name": name}
    body["nats"] = nats
    body["jti"] = base64.b32encode(hashlib.sha256(json.dumps(body).encode()).digest()).decode().rstrip("=")
    text = f"{_url64({'typ': 'JWT', 'alg': 'ed25519-nkey'})}.{_url64(body)}"
    return f"{text}.{base64.urlsafe_b64encode(signer.sign(text.encode())).decode().rstrip('=')}"


def _url64(value: dict[str, Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")


# -- permissions


def permitted(served: Serve, network: str) -> int:
    permissions = (ROOT / "deploy/nats/permissions.conf").read_text().replace("NET", network)
    return served(
        f"authorization {{ users: [{{ user: node, password: right, permissions: {{ {permissions}\n }} }}, "
        "{ user: all, password: right }] }"
    ).port


async def test_a_node_reaches_what_it_needs_and_nothing_else(served: Serve) -> None:
    port = permitted(served, "net")
    link = link_to(port, user="node", password=EnvValue(literal="right"))
    await link.open()
    for name in BUCKETS:
        bucket = await link.bucket(name)
        revision = await bucket.create("a.b", 1, ttl=60)
        watch = await bucket.watch("a.", lambda *_: None)
        await watch.caught_up()
        await bucket.get("a.b")
        await bucket.delete("a.b", revision)
        await watch.close()
    files = await link.files()
    await files.put("f", bytes(200_000))
    assert await files.get("f") == bytes(200_000)
    await files.drop("f")
    for name in STREAMS:
        stored = link.names.stored(name)
        await link.jetstream.stream(stored, {"subjects": [link.subject(name) + ".>"]})
        await link.jetstream.store(link.subject(name, "x"), b"1", stream=stored, what="store")
        assert await link.jetstream.read(stored, what="read", seq=1)
        await link.js.delete_msg(stored, 1)
    await link.serve(link.subject("mod", "wiki"), lambda body, reply: reply(body))
    assert await link.ask(link.subject("mod", "wiki"), 1, timeout=5) == 1

    with pytest.raises(NotPermitted, match=r'violation for subscription to "mv\.other\.mod\.wiki"; give its user'):
        await link.serve(Names("other").subject("mod", "wiki"), lambda body, reply: None)
    for subject in (
        "mv.other.mod.wiki",
        "$JS.API.STREAM.LIST",
        "$JS.API.STREAM.DELETE.KV_MV_net_mods",
        "$SYS.REQ.ACCOUNT.PING",
    ):
        with pytest.raises(NotPermitted, match=r"deploy/nats/permissions\.conf"):
            await link.call(subject, b"")
    assert link.problem
    told: asyncio.Queue[bool] = asyncio.Queue()
    link.listeners.append(told.put_nowait)
    link.connection().lose("the test says so")
    assert [await told.get(), await told.get()] == [False, True], "what was refused does not refuse the connection"
    await link.close()


async def test_a_node_without_permissions_for_its_network(served: Serve) -> None:
    port = permitted(served, "other")
    with pytest.raises(NotPermitted, match="the NATS servers do not permit it to this node"):
        await link_to(port, user="node", password=EnvValue(literal="right")).open()


def test_the_permissions_name_all_that_a_network_has() -> None:
    text = (ROOT / "deploy/nats/permissions.conf").read_text()
    for name in BUCKETS:
        assert f'"$KV.MV_NET_{name}.>"' in text
        assert f'"$JS.API.STREAM.CREATE.KV_MV_NET_{name}"' in text
    for name in STREAMS:
        assert f'"$JS.API.STREAM.CREATE.MV_NET_{name}"' in text
    assert f'"$O.MV_NET_{FILES}.>"' in text
