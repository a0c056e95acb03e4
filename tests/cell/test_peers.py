"""The operator's socket is not for mods, also for those that see it; it is for everybody else of this user."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio.to_thread
import pytest

from modvisor.supervisor import AgentNetwork, Event

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.skipif(sys.platform != "linux", reason="only Linux says who is at the other end"),
]

ASK = """
import os, socket, sys
if sys.argv[2] == "orphan":
    middle = os.fork()
    if middle: sys.exit(0)
    os.setsid()
    while os.getppid() != int(sys.argv[3]): pass
sock = socket.socket(socket.AF_UNIX)
try:
    sock.connect(sys.argv[1])
    try:
        sock.sendall(b"GET /admin/v1/mods HTTP/1.1\\r\\nhost: x\\r\\n\\r\\n")
    except BrokenPipeError:
        pass  # refused already: the answer is there
    print(sock.recv(1000).decode().splitlines()[0], flush=True)
except OSError as error:
    print(type(error).__name__, flush=True)
"""

# Asks from a child, and from a process whose parents have ended.
KNOCK = """
    import os, subprocess, sys
    from modvisor.mods import BaseMod, EventResponse, mod_event_handler

    class Knocker(BaseMod):
        @mod_event_handler("knock.go")
        def go(self, event):
            command = [sys.executable, "-c", event.payload["code"], event.payload["path"], event.payload["how"]]
            said = subprocess.run([*command, str(os.getppid())], capture_output=True, text=True, timeout=20)
            return EventResponse(True, data=said.stdout.strip() or said.stderr)
"""

LOOSE: dict[str, Any] = {
    "sees it": {"files": "all"},
    "off": "off",
    "shares processes": {"processes": "shared", "files": "all"},
}


def asked(path: Path) -> bytes:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(str(path))
        sock.sendall(b"GET /admin/v1/mods HTTP/1.1\r\nhost: x\r\n\r\n")
        return sock.recv(1000)


@pytest.fixture
async def served(make_network: Callable[..., AgentNetwork]) -> AgentNetwork:
    network = make_network()
    await network.initialize(admin=True)
    return network


@pytest.mark.parametrize("how", ["child", "orphan"])
@pytest.mark.parametrize("loose", LOOSE)
async def test_a_mod_that_sees_the_socket_is_refused(
    served: AgentNetwork, write_mod: Callable[..., str], loose: str, how: str
) -> None:
    loaded = await served.load_mod(write_mod("knocker", KNOCK), sandbox=LOOSE[loose])
    assert loaded.success, loaded
    path = str(served.state_dir.admin_socket)
    answer = await served.process_event(Event("knock.go", payload={"code": ASK, "path": path, "how": how}))
    assert answer.data == "HTTP/1.1 403 Forbidden"


async def test_in_its_cell_a_mod_does_not_see_it(served: AgentNetwork, write_mod: Callable[..., str]) -> None:
    assert (await served.load_mod(write_mod("knocker", KNOCK))).success
    path = str(served.state_dir.admin_socket)
    answer = await served.process_event(Event("knock.go", payload={"code": ASK, "path": path, "how": "child"}))
    assert answer.data == "FileNotFoundError"


async def test_other_processes_of_the_user_are_answered(served: AgentNetwork) -> None:
    path = served.state_dir.admin_socket
    assert b" 200 " in (await anyio.to_thread.run_sync(asked, path)).splitlines()[0]
    code = (
        "import sys; from pathlib import Path; from tests.cell.test_peers import asked; print(asked(Path(sys.argv[1])))"
    )
    other = await anyio.to_thread.run_sync(
        lambda: subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=False)
    )
    assert "HTTP/1.1 200" in other.stdout, other.stderr
