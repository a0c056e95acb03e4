"""IP addresses, host names and web origins of a network file."""

from __future__ import annotations

from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest

from modvisor.supervisor.config.values.addresses import host_name, ip_addresses, web_origin
from modvisor.supervisor.config.values.reader import Location, Reader
from modvisor.supervisor.config.yaml.source import BROKEN, Source


def read(reader: Reader, value: Any) -> tuple[Any, str]:
    source = Source()
    found = reader(value, Location(source, Path("/"), ("here",)))
    return found, "; ".join(problem.message for problem in source.problems)


@pytest.mark.parametrize("text", ["10.0.0.5", "10.0.0.0/8", "::1", "2001:db8::/32"])
def test_an_address_or_a_prefix_is_read(text: str) -> None:
    assert read(ip_addresses, text) == (ip_network(text), "")


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("10.0.0.5/8", "10.0.0.5/8 is an address within a network; write 10.0.0.0/8"),
        ("proxy", "expected an address such as 10.0.0.5 or a prefix such as 10.0.0.0/8, got 'proxy'"),
        (10.5, "expected text, got 10.5; put it in quotes"),
    ],
)
def test_what_is_no_address_is_named(value: Any, message: str) -> None:
    assert read(ip_addresses, value) == (BROKEN, message)


@pytest.mark.parametrize("text", ["Agents.example.com", "*.example.com", "box", "*", "10.0.0.5"])
def test_a_host_name_is_read_in_lower_case(text: str) -> None:
    assert read(host_name, text) == (text.lower(), "")


@pytest.mark.parametrize("text", ["a b", "https://a.example", "a.example:80", "*.*.example", "a..b", "-a", "a" * 300])
def test_what_is_no_host_name_is_named(text: str) -> None:
    found, message = read(host_name, text)
    assert found is BROKEN
    assert message.startswith("expected a host name without port")


@pytest.mark.parametrize("text", ["https://App.example.com", "http://localhost:3000", "http://[::1]:80"])
def test_an_origin_is_read_in_lower_case(text: str) -> None:
    assert read(web_origin, text) == (text.lower(), "")


@pytest.mark.parametrize(
    "text",
    ["app.example.com", "https://a/", "https://a/b", "https://u@a", "ftp://a", "null", "*", "https://a:x", "https://a?b",
     "https://[a"],
)  # fmt: skip
def test_what_is_no_origin_is_named(text: str) -> None:
    found, message = read(web_origin, text)
    assert found is BROKEN
    assert message.startswith("expected an origin such as https://app.example.com")
