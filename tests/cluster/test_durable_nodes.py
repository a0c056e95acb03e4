"""Durable events of a mod whose node is killed: another node handles each of them, and tells repeated ones apart."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from modvisor.supervisor import AgentNetwork, Event, EventResponse
from tests.conftest import until
from tests.processes.conftest import marked

from .networks import LEASE, Nodes, Process, homes, name_for, nodes, process

__all__ = ["marked", "nodes", "process"]
pytestmark = [pytest.mark.anyio, pytest.mark.timeout(90)]

WriteMod = Callable[..., str]

EVENTS = 40

WORK = """
    import asyncio
    from modvisor.mods import BaseMod, EventResponse, mod_event_handler

    class Work(BaseMod):
        @mod_event_handler("work.do")
        async def do(self, event):
            with open(self.context.storage_path / "calls", "a") as file:
                file.write(f"{event.payload['n']} {event.attempt} {self.context.fencing_token}\\n")
            await asyncio.sleep(3600 if event.attempt == 1 else 0)
            return EventResponse(True, data=event.payload["n"])
"""


@pytest.mark.slow
async def test_no_accepted_event_is_lost_with_the_node_that_held_it(
    nodes: Nodes, process: Process, write_mod: WriteMod, tmp_path: Path
) -> None:
    mod_id = name_for("b", "a")
    limits = {"concurrency": 10, "queue": 100}
    mods = [{"path": write_mod(mod_id, WORK), "durable": True, "limits": limits}]
    b, a = process("b", mods), nodes("a", mods)
    await a.initialize()
    await until(lambda: homes(a) == {mod_id: "b"} and a.get_loaded_mods()[mod_id]["state"] == "ready", LEASE * 20)
    answers = await sent(a, mod_id)
    assert {answer.error for answer in answers} <= {"pending", "timeout"}, (str(answers[0].message), b.log)
    assert await stored(a) == EVENTS, b.log
    assert handled(tmp_path), b.log
    b.kill()
    await until(lambda: {n for n, _, _ in handled(tmp_path)} == set(range(EVENTS)), LEASE * 30)
    by_event: dict[int, list[tuple[int, int]]] = {}
    for n, attempt, token in handled(tmp_path):
        by_event.setdefault(n, []).append((attempt, token))
    repeated = [tries for tries in by_event.values() if len(tries) > 1]
    assert repeated, "those that the dead node had begun"
    assert all(attempt > 1 for tries in repeated for attempt, _ in tries[1:])
    tokens = [token for _, _, token in handled(tmp_path)]
    assert tokens == sorted(tokens), "the new holder has the greater token"
    assert len(set(tokens)) == 2


async def sent(network: AgentNetwork, mod_id: str) -> list[EventResponse]:
    return await asyncio.gather(*(send(network, mod_id, n) for n in range(EVENTS)))


async def send(network: AgentNetwork, mod_id: str, n: int) -> EventResponse:
    event = Event("work.do", "agent:alice", f"mod:{mod_id}", payload={"n": n, "of": EVENTS})
    event.timeout = 1.0
    return await network.process_event(event)


async def stored(network: AgentNetwork) -> int:
    """Count the accepted events without an answer, as the servers have them."""
    cluster = network._running().cluster  # type: ignore[attr-defined]
    names = cluster.link.names
    found = await cluster.link.jetstream.request(
        f"STREAM.INFO.{names.stored('durable')}",
        {"subjects_filter": names.subject("durable") + ".*.*.e"},
        what="count accepted events",
    )
    return sum(not subject.endswith(".fence.e") for subject in found["state"]["subjects"])


def handled(folder: Path) -> list[tuple[int, int, int]]:
    """Return number, attempt and fencing token of each event that a handler began with."""
    found: list[tuple[int, int, int]] = []
    for node in "ba":  # in the order of their turns
        for file in (folder / "state" / node).rglob("calls"):
            for line in file.read_text().splitlines():
                n, attempt, token = map(int, line.split())
                found.append((n, attempt, token))
    return found
