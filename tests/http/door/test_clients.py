"""Which machine a request comes from, behind proxies and without, and which addresses are not counted."""

from __future__ import annotations

from ipaddress import ip_address, ip_network
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modvisor.supervisor.config import HttpConfig
from modvisor.supervisor.http.door.clients import client_address, counted_as, is_exempt, parsed

PROXIES = HttpConfig(trusted_proxies=(ip_network("127.0.0.1"), ip_network("10.1.0.0/16"), ip_network("fd00::/8")))


def scope(peer: str | None, *forwarded: str) -> dict[str, Any]:
    headers = [(b"x-forwarded-for", line.encode("latin-1")) for line in forwarded]
    return {"type": "http", "client": None if peer is None else (peer, 5000), "headers": headers}


def client(peer: str | None, *forwarded: str, http: HttpConfig = PROXIES) -> str:
    return str(client_address(scope(peer, *forwarded), http))


def test_nobody_is_a_proxy_unless_the_file_says_so() -> None:
    assert client("127.0.0.1", "8.8.8.8", http=HttpConfig()) == "127.0.0.1"
    assert client("8.8.4.4", "8.8.8.8") == "8.8.4.4"


@pytest.mark.parametrize(
    ("forwarded", "found"),
    [
        (["8.8.8.8"], "8.8.8.8"),
        (["1.1.1.1, 8.8.8.8"], "8.8.8.8"),  # the client wrote 1.1.1.1
        (["1.1.1.1", "8.8.8.8"], "8.8.8.8"),
        (["8.8.8.8, 10.1.2.3"], "8.8.8.8"),  # one trusted proxy behind another
        (["8.8.8.8:443"], "8.8.8.8"),
        (["[2001:db8::1]:443"], "2001:db8::1"),
        (["::ffff:8.8.8.8"], "8.8.8.8"),
        ([], "127.0.0.1"),
        (["8.8.8.8, unknown"], "127.0.0.1"),
        (["8.8.8.8, "], "127.0.0.1"),
        (["10.1.2.3"], "10.1.2.3"),
    ],
)
def test_a_trusted_proxy_says_whom_it_speaks_for(forwarded: list[str], found: str) -> None:
    assert client("127.0.0.1", *forwarded) == found
    assert client("::ffff:127.0.0.1", *forwarded) == found


def test_the_unix_socket_has_no_address_and_no_count() -> None:
    assert client_address(scope(None, "8.8.8.8"), PROXIES) is None
    assert is_exempt(None, HttpConfig())


def test_only_addresses_that_the_file_names_are_exempt() -> None:
    trusting = HttpConfig(trusted_addresses=(ip_network("10.0.0.0/8"),))
    assert is_exempt(ip_address("10.2.3.4"), trusting)
    assert not is_exempt(ip_address("127.0.0.1"), trusting)
    assert not is_exempt(ip_address("127.0.0.1"), HttpConfig())
    assert not is_exempt(ip_address("::1"), trusting)


def test_a_client_cannot_count_as_many_by_changing_its_ipv6_address() -> None:
    assert (
        counted_as(ip_address("2001:db8:1:2:3::4"))
        == counted_as(ip_address("2001:db8:1:2:ffff::"))
        == "2001:db8:1:2::/64"
    )
    assert counted_as(ip_address("2001:db8:1:3::")) == "2001:db8:1:3::/64"
    assert counted_as(ip_address("10.0.0.5")) == "10.0.0.5"


@given(st.text(alphabet=st.characters(max_codepoint=255)), st.ip_addresses())
def test_whatever_a_client_writes_it_is_known_by_what_the_proxy_appends(forged: str, seen: Any) -> None:
    forged = "".join(letter for letter in forged if letter.isprintable())
    expected = getattr(seen, "ipv4_mapped", None) or seen
    found = client_address(
        scope("127.0.0.1", f"{forged}, {seen}"), HttpConfig(trusted_proxies=(ip_network("127.0.0.1"),))
    )
    assert found == expected or expected == ip_address("127.0.0.1")


@given(st.text())
def test_any_text_is_an_address_or_none(text: str) -> None:
    found = parsed(text)
    assert found is None or parsed(str(found)) == found
