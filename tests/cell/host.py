"""``python -m tests.cell.host NETWORK.yaml TERMINAL UID``: a network in a process of its own, which tests talk to by pipes.

It says where its secrets are, then answers orders, one a line: ``{"do": METHOD, "args": […], "more": {…}}`` for a method of
`AgentNetwork`, ``{"event": {…}}`` for an event.
"""

from __future__ import annotations

import asyncio
import ctypes
import json
import os
import resource
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

from modvisor.ipc.event import Event
from modvisor.supervisor import AgentNetwork
from modvisor.supervisor.runtime import choose_loop

from .as_user import become


async def main(file: str, terminal: str) -> None:
    os.close(os.open(terminal, os.O_RDWR))  # it is this session's from now on, as an operator's
    memory = ctypes.create_string_buffer(Path(os.environ.pop("MEMORY_FILE")).read_bytes())
    network = AgentNetwork.load(file)
    await network.initialize(admin=True)
    await network.register_agent("alice")
    _say(_where(network, memory))
    while line := await asyncio.to_thread(sys.stdin.readline):
        _say(await _obeyed(network, json.loads(line)))
    await network.shutdown()


def _where(network: AgentNetwork, memory: Any) -> dict[str, Any]:
    state = network.state_dir
    files = {name: os.readlink(f"/proc/self/fd/{name}") for name in os.listdir("/proc/self/fd") if _is_open(name)}
    (guardian,) = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split() or ["0"]
    return {
        "supervisor": os.getpid(),
        "guardian": int(guardian),
        "supervisor_address": ctypes.addressof(memory),
        "supervisor_descriptors": resource.getrlimit(resource.RLIMIT_NOFILE)[0],
        "state": str(state.root),
        "journal": str(state.database),
        "journal_fd": next(int(name) for name, path in files.items() if path == str(state.database)),
        "admin_socket": str(state.admin_socket),
        "snapshots": str(state.snapshots),
        "marks": str(state.marks),
        "sibling_log": str(state.log_file("victim")),
        "http_port": network.port,
    }


def _is_open(name: str) -> bool:
    return os.path.lexists(f"/proc/self/fd/{name}")


async def _obeyed(network: AgentNetwork, order: dict[str, Any]) -> Any:
    if "event" in order:
        answer = await network.process_event(Event(**order["event"]))
    else:
        answer = await getattr(network, order["do"])(*order.get("args", []), **order.get("more", {}))
    return answer if isinstance(answer, dict) else answer.to_dict()


def _say(what: Any) -> None:
    print(json.dumps(what), flush=True)


if __name__ == "__main__":
    with suppress(PermissionError):  # it leads a session already
        os.setsid()
    if int(sys.argv[3]) != os.geteuid():
        become(int(sys.argv[3]))
    loop = choose_loop()
    with asyncio.Runner(loop_factory=loop.uvloop.new_event_loop if loop.uvloop else None) as runner:
        runner.run(main(sys.argv[1], sys.argv[2]))
