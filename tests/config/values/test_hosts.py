"""Hosts that a mod may reach, as the file says them."""

from __future__ import annotations

from ipaddress import ip_network

import pytest

from modvisor.supervisor.config.values.hosts import HostRule, parsed_host


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("api.example.com", HostRule("api.example.com", None, 443)),
        ("API.example.com:8443", HostRule("api.example.com", None, 8443)),
        ("*.example.com:*", HostRule("*.example.com", None, None)),
        ("*", HostRule("*", None, 443)),
        ("10.0.0.0/8:5432", HostRule("", ip_network("10.0.0.0/8"), 5432)),
        ("192.168.1.5", HostRule("", ip_network("192.168.1.5"), 443)),
        ("::1", HostRule("", ip_network("::1"), 443)),
        ("2001:db8::/32", HostRule("", ip_network("2001:db8::/32"), 443)),
        ("[2001:db8::/32]:80", HostRule("", ip_network("2001:db8::/32"), 80)),
        ("[::1]:*", HostRule("", ip_network("::1"), None)),
    ],
)
def test_what_is_a_host(text: str, rule: HostRule) -> None:
    assert parsed_host(text) == rule


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("https://example.com", "expected a host such as"),
        ("example.com/path", "expected a host such as"),
        ("a*.example.com", "expected a host such as"),
        ("example.com:99999", "not between 1 and 65535"),
        ("example.com:0", "not between 1 and 65535"),
        ("example.com:https", "expected a host such as"),
        ("10.0.0.1/8", "write 10.0.0.0/8"),
        ("300.1.1.1", "expected a host such as"),
        ("[example.com]:80", "expected a host such as"),
    ],
)
def test_what_is_none_is_told_with_what_was_expected(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        parsed_host(text)
