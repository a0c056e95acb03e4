"""Servers for the tests of clusters, and links to them."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import pytest

from modvisor.supervisor.cluster.link import Link
from tests.processes.conftest import marked  # noqa: F401 - a fixture, here too

from .servers import Servers, config_of

_numbers = itertools.count()


@pytest.fixture(scope="session")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    """One server for all tests that do it no harm; each test has a network ID of its own."""
    servers = Servers(1, tmp_path_factory.mktemp("nats"))
    try:
        yield servers.start()
    finally:
        servers.close()


@pytest.fixture
def own_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    """A server that a test may kill, stop, and start again."""
    servers = Servers(1, tmp_path_factory.mktemp("nats"))
    try:
        yield servers.start()
    finally:
        servers.close()


@pytest.fixture(scope="module")
def three_servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    """Three servers that form a cluster, which a test may kill, stop, and start again, if it brings them back."""
    servers = Servers(3, tmp_path_factory.mktemp("nats"))
    try:
        yield servers.start()
    finally:
        servers.close()


@pytest.fixture
def network_id() -> str:
    """The ID of a network that no other test has."""
    return f"net{next(_numbers)}"


Linked = Callable[..., Awaitable[Link]]


@pytest.fixture
async def linked(network_id: str) -> AsyncIterator[Linked]:
    """Make a link of a node to servers, closed at the end: `await linked(servers, "a")`."""
    links: list[Link] = []

    async def link(servers: Servers, node: str = "a", **config: Any) -> Link:
        network = config.pop("network", network_id)
        made = Link(config_of(servers, node, network, **config), network, node)
        links.append(made)
        await made.open()
        return made

    yield link
    for made in links:
        await made.close()
