"""Which hosts a mod reaches from its cell."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modvisor.supervisor.cell.hosts import Hosts, Refused, is_public, target

PRIVATE = [
    "127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "100.100.100.200", "0.0.0.0",
    "224.0.0.1", "255.255.255.255", "192.0.0.192", "198.18.0.1", "168.63.129.16", "240.0.0.1",
    "::1", "::", "fe80::1", "fc00::1", "fd00:ec2::254", "fec0::1", "ff02::1", "::ffff:127.0.0.1", "::127.0.0.1",
    "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "64:ff9b:1::1", "2002:7f00:1::", "2001:0:7f00:1::", "2001:db8::1",
]  # fmt: skip


@pytest.mark.parametrize("address", PRIVATE)
def test_addresses_that_are_not_of_the_internet(address: str) -> None:
    assert not is_public(ip_address(address))


@pytest.mark.parametrize(
    "address", ["8.8.8.8", "1.1.1.1", "2606:4700:4700::1111", "64:ff9b::808:808", "::ffff:8.8.8.8"]
)
def test_addresses_of_the_internet(address: str) -> None:
    assert is_public(ip_address(address))


@given(st.ip_addresses(v=4))
def test_an_ipv4_address_is_as_public_in_every_disguise(address: IPv4Address) -> None:
    number = int(address)
    assert is_public(IPv6Address(0xFFFF << 32 | number)) == is_public(address)
    assert is_public(IPv6Address(0x64FF9B << 96 | number)) == is_public(address)
    assert is_public(address) or not is_public(IPv6Address(0x2002 << 112 | number << 80))


@pytest.mark.parametrize(
    ("rules", "host", "port"),
    [
        (["api.example.com"], "api.example.com", 443),
        (["api.example.com:8443"], "api.example.com", 8443),
        (["*.example.com"], "a.b.example.com", 443),
        (["*"], "anything.example", 443),
        (["*:*"], "anything.example", 22),
        (["API.example.com:*"], "api.example.com", 1),
        (["8.8.8.8"], "8.8.8.8", 443),
        (["10.0.0.0/8:5432"], "10.9.9.9", 5432),
        (["[fd00::/16]:*"], "fd00::1", 5432),
        (["127.0.0.1:80"], "::ffff:127.0.0.1", 80),
    ],
)  # fmt: skip
def test_a_listed_host_is_reached(rules: list[str], host: str, port: int) -> None:
    Hosts(rules).check_name(host, port)


@pytest.mark.parametrize(
    ("rules", "host", "port"),
    [
        ([], "example.com", 443),
        (["api.example.com"], "example.com", 443),
        (["api.example.com"], "api.example.com", 80),
        (["*.example.com"], "example.com", 443),
        (["*.example.com"], "badexample.com", 443),
        (["api.example.com"], "api.example.com.evil.example", 443),
        (["*"], "8.8.8.8", 443),
        (["*"], "127.0.0.1", 443),
        (["*:*"], "2130706433", 443),
        (["*:*"], "0x7f.1", 443),
        (["*:*"], "127.1", 443),
        (["*:*"], "::1", 443),
        (["10.0.0.0/8:5432"], "10.9.9.9", 443),
    ],
)  # fmt: skip
def test_every_other_host_is_refused(rules: list[str], host: str, port: int) -> None:
    with pytest.raises(Refused):
        Hosts(rules).check_name(host, port)


def test_a_listed_name_leads_to_public_addresses_and_listed_ones() -> None:
    hosts = Hosts(["db.example.com:5432", "10.0.0.0/8:5432"])
    hosts.check_address(ip_address("8.8.8.8"), 5432)
    hosts.check_address(ip_address("10.0.0.7"), 5432)
    for address, port in (("10.0.0.7", 443), ("192.168.0.1", 5432), ("169.254.169.254", 5432)):
        with pytest.raises(Refused, match="not public"):
            hosts.check_address(ip_address(address), port)


def test_an_address_of_this_machine_must_be_listed() -> None:
    with pytest.raises(Refused, match="this machine"):
        Hosts(["*"]).check_own(ip_address("203.0.113.9"), 443)
    Hosts(["203.0.113.9"]).check_own(ip_address("203.0.113.9"), 443)


def test_a_refusal_names_the_port_that_is_listed() -> None:
    with pytest.raises(Refused, match="only with 8443"):
        Hosts(["api.example.com:8443"]).check_name("api.example.com", 443)


def test_targets_of_connect() -> None:
    assert target("Example.COM.:443") == ("example.com", 443)
    assert target("[::1]:80") == ("::1", 80)
    for wrong in ("", "example.com", "example.com:", "example.com:0", "example.com:65536", "a b:1", "a:1\r\nX: y", "http://a:1",
                  "user@a:1", "a/b:1", "ä.example:443", "[::1%lo]:80"):  # fmt: skip
        with pytest.raises(ValueError, match="host:port"):
            target(wrong)
