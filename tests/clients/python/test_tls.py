"""The client over TLS: whose certificate it trusts, its own certificate, and large events."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from modvisor_client import AgentClient, errors
from tests.http.certificates import Certificates
from tests.http.serving import TALKER, Served, shared_network

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates.at(tmp_path_factory.mktemp("network"))


@pytest.fixture(scope="module")
async def served(certificates: Certificates) -> AsyncIterator[Served]:
    tls = {**certificates.section, "client_ca": "ca.pem", "client_required": True}
    network = {"name": "test", "storage": "state", "port": 0, "tls": tls}
    async with shared_network(certificates.folder, {"talker": TALKER}, network=network) as served:
        yield served


@pytest.fixture(scope="module")
def own(certificates: Certificates) -> tuple[Path, Path]:
    """A certificate for the agent, and its key."""
    issued = certificates.ca.issue_cert("agents.example")
    certificate, key = certificates.folder / "agent.pem", certificates.folder / "agent.key"
    issued.cert_chain_pems[0].write_to_path(certificate)
    issued.private_key_pem.write_to_path(key)
    return certificate, key


async def test_an_agent_connects_sends_and_uploads_over_tls(
    served: Served, certificates: Certificates, own: tuple[Path, Path]
) -> None:
    url, ca = f"https://127.0.0.1:{served.network.port}", certificates.folder / "ca.pem"
    async with AgentClient(url, "ann", verify=ca, cert=own) as me:
        assert (await me.request("test.ping", {"i": 1}))["i"] == 1
        assert (await me.request("test.ping", {"i": 2, "large": b"x" * 1_500_000}))["i"] == 2
        mail = me.events()
        await me.send("chat.message", {"text": "y" * 500_000}, to="ann")
        assert len((await mail.next(10)).payload["text"]) == 500_000


async def test_a_certificate_that_is_not_trusted_is_refused_at_once(served: Served, own: tuple[Path, Path]) -> None:
    with pytest.raises(
        errors.Untrusted, match=r"the certificate of https://.* is not trusted: .*certificate verify failed"
    ):
        async with AgentClient(f"https://127.0.0.1:{served.network.port}", "ann", cert=own):
            pass


async def test_an_agent_without_a_certificate_is_refused_where_one_is_required(
    served: Served, certificates: Certificates
) -> None:
    url, ca = f"https://127.0.0.1:{served.network.port}", certificates.folder / "ca.pem"
    with pytest.raises(errors.Unreachable, match="perhaps it wants a certificate of this client: `cert`"):
        async with AgentClient(url, "ann", verify=ca, connect_timeout=0.3):
            pass


async def test_files_that_are_no_certificates_are_named(tmp_path: Path) -> None:
    with pytest.raises(errors.BadUse, match=r"verify='.*nothing\.pem'"):
        async with AgentClient("https://127.0.0.1:1", "ann", verify=tmp_path / "nothing.pem"):
            pass
