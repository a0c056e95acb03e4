"""The URL of the network's port as somebody on its machine opens it."""

from __future__ import annotations

import pytest

from modvisor.supervisor.config import port_url
from modvisor.supervisor.config.port_urls import listens_everywhere


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:8700"),
        ("0.0.0.0", "http://127.0.0.1:8700"),
        ("::", "http://[::1]:8700"),
        ("::1", "http://[::1]:8700"),
        ("fe80::1", "http://[fe80::1]:8700"),
        ("mods.example.com", "http://mods.example.com:8700"),
    ],
)
def test_a_host_is_named_so_that_it_can_be_opened(host: str, url: str) -> None:
    assert port_url(host, 8700, tls=False) == url
    assert port_url(host, 8700, tls=True) == url.replace("http", "https", 1)
    assert listens_everywhere(host) == (host in ("0.0.0.0", "::"))
