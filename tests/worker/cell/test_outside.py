"""The network namespace of a mod, and the socket that leads out of it."""

from __future__ import annotations

import errno
import os
import socket
import sys
from typing import Any

import pytest

from modvisor.ipc.cell import NETWORK, NOT, RELAY_PORT, STRICT, Cell
from modvisor.worker.cell.namespaces import NEWNET, NEWUSER, Space
from modvisor.worker.cell.outside import open_way
from modvisor.worker.cell.refusal import NotEnforced
from tests.worker.cell.children import NOBODY, errno_of, in_child, live_apart

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="Linux")


def inside(step: Any, user: int) -> Any:
    def work() -> Any:
        space = Space(NEWNET | (NEWUSER if os.geteuid() else 0))
        live_apart(space.flags)
        space.enter()
        return step(space)

    return in_child(work, user=user)


@pytest.mark.parametrize("user", [0, NOBODY])
def test_a_mod_reaches_itself_and_nothing_of_the_machine(user: int) -> None:
    with socket.create_server(("127.0.0.1", 0)) as machine:
        address = machine.getsockname()

        def step(space: Space) -> dict[str, Any]:
            report, way = open_way(Cell(STRICT, network=()), space)
            with socket.create_server(("127.0.0.1", 0)) as own:
                socket.create_connection(own.getsockname()).close()
            udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            return {
                "report": report,
                "way": way,
                "machine": errno_of(lambda: socket.create_connection(address)),
                "udp": errno_of(lambda: udp.sendto(b"x", ("192.0.2.1", 53))),
                "devices": [name for _, name in socket.if_nameindex()],
            }

        assert inside(step, user) == {
            "report": {NETWORK: "network namespace"}, "way": -1, "machine": errno.ECONNREFUSED, "udp": errno.ENETUNREACH,
            "devices": ["lo"],
        }  # fmt: skip


@pytest.mark.parametrize("user", [0, NOBODY])
def test_with_hosts_there_is_a_socket_that_others_can_accept_on(user: int) -> None:
    def step(space: Space) -> tuple[dict[str, str], bytes]:
        report, way = open_way(Cell(STRICT, network=("example.com",)), space)
        with socket.socket(fileno=way) as listener, socket.create_connection(("127.0.0.1", RELAY_PORT)) as near:
            near.sendall(b"out")
            far, _ = listener.accept()
            with far:
                return report, far.recv(10)

    assert inside(step, user) == ({NETWORK: "network namespace with a relay"}, b"out")


def test_without_a_namespace_a_required_cell_fails_and_another_says_so() -> None:
    space = Space(0, "network namespaces are refused here")
    with pytest.raises(NotEnforced, match="network: network namespaces are refused here"):
        open_way(Cell(STRICT, required=True, network=()), space)
    assert open_way(Cell(STRICT, network=()), space) == ({NETWORK: f"{NOT}network namespaces are refused here"}, -1)


def test_a_cell_with_the_machines_network_needs_nothing() -> None:
    assert open_way(Cell(), Space()) == ({}, -1)
