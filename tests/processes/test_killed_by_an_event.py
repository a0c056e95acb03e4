"""Durable events and the death of the supervisor: who kills it is given up, who only was there is not."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import pytest

from modvisor.supervisor import AgentNetwork, Event
from tests.processes.conftest import Marked
from tests.processes.test_events import HEAD

KILLS = int(os.environ.get("MODVISOR_KILLS", "3"))
"""How often the supervisor is killed in a long test; `make long` says 100."""

pytestmark = [pytest.mark.anyio, pytest.mark.skipif(sys.platform != "linux", reason="needs a guardian")]

WriteMod = Callable[..., str]
MakeNetwork = Callable[..., AgentNetwork]

# Each call is noted before anything happens. Some wait, some keep their thread or the loop busy; the poison kills.
WORK = """
        def note(self, event):
            with open(self.context.storage_path / "calls", "ab", 0) as file:
                file.write(f"{event.event_id} {event.attempt}\\n".encode())

        def supervisor(self):
            return int((self.context.storage_path.parent.parent / "state.lock").read_text())

        @mod_event_handler("work.wait")
        async def wait(self, event):
            self.note(event)
            await asyncio.sleep(event.payload["time"])
            return EventResponse(True)

        @mod_event_handler("work.block")
        async def block(self, event):
            self.note(event)
            time.sleep(event.payload["time"])
            return EventResponse(True)

        @mod_event_handler("work.thread")
        def thread(self, event):
            self.note(event)
            time.sleep(event.payload["time"])
            return EventResponse(True)

        @mod_event_handler("work.kill")
        async def kill(self, event):
            self.note(event)
            match event.payload["how"]:
                case "and waits":
                    os.kill(self.supervisor(), 9)
                    await asyncio.sleep(9)
                case "and returns":
                    os.kill(self.supervisor(), 9)
                case "by a command":
                    await asyncio.create_subprocess_exec("kill", "-9", str(self.supervisor()))
                    await asyncio.sleep(9)
                case "unseen":
                    import ctypes
                    ctypes.CDLL(None).kill(self.supervisor(), 9)
                    time.sleep(9)
"""

MOD = HEAD.replace("import asyncio, os", "import asyncio, os, time") + WORK

SUPERVISOR = """
import asyncio, json, os, sys
from modvisor.supervisor import AgentNetwork, Event

base, attempts, events = sys.argv[1], int(sys.argv[2]), json.loads(sys.argv[3])

async def main():
    mod = {"path": "./work", "durable": True, "max_attempts": attempts, "sandbox": "off"}  # in a cell it could not
    network = AgentNetwork.from_config({"network": {"name": "n", "storage": "state"}, "mods": [mod]}, base_dir=base)
    await network.initialize()
    sent = [network.process_event(Event(name, "agent:a", payload=payload, event_id=event_id))
            for event_id, name, payload in events]
    os.write(1, b"ready\\n")
    await asyncio.gather(*sent)
    while network.get_network_stats()["journal"]["durable_events"]:
        await asyncio.sleep(0.01)
    for letter in await network.dead_letters.list():
        print("letter", letter["event"]["event_id"], letter["attempts"])
    await network.shutdown()

asyncio.run(main())
"""

Sent = list[tuple[str, str, dict[str, object]]]


class Run:
    """The lives of one network, one after the other."""

    def __init__(self, base: Path, marked: Marked, attempts: int) -> None:
        self._base = base
        self._marked = marked
        self._attempts = attempts
        self.letters: dict[str, int] = {}

    async def live(self, events: Sent | None = None, *, killed_after: float | None = None) -> int:
        """One life. Return its exit status; it is killed so many seconds after a handler began."""
        command = [sys.executable, "-c", SUPERVISOR, str(self._base), str(self._attempts), json.dumps(events or [])]
        environ = {"PATH": "/usr/bin:/bin", **self._marked.variable}
        process = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE, env=environ)
        assert process.stdout is not None
        if killed_after is not None:
            before = self._noted()
            assert await process.stdout.readline() == b"ready\n"
            while self._noted() == before:
                await asyncio.sleep(0.001)
            await asyncio.sleep(killed_after)
            if process.returncode is None:
                os.kill(process.pid, signal.SIGKILL)
        said = await process.stdout.read()
        for line in said.decode().splitlines():
            if line.startswith("letter "):
                _, event_id, attempts = line.split()
                self.letters[event_id] = int(attempts)
        await process.wait()
        await self._marked.gone_within(5)
        return process.returncode or 0

    def _noted(self) -> int:
        calls = self._base / "state" / "mods" / "work" / "calls"
        return calls.stat().st_size if calls.exists() else 0

    def attempts(self) -> dict[str, list[int]]:
        """The attempts that each event's handler saw, in order."""
        seen: dict[str, list[int]] = defaultdict(list)
        for line in (self._base / "state" / "mods" / "work" / "calls").read_text().splitlines():
            event_id, attempt = line.split()
            seen[event_id].append(int(attempt))
        return seen


def innocents(count: int, kinds: list[str], seconds: float, prefix: str = "e") -> Sent:
    return [(f"{prefix}{n}", f"work.{kinds[n % len(kinds)]}", {"time": seconds}) for n in range(count)]


@pytest.mark.parametrize(
    ("how", "attempts", "lives"),
    [
        ("and waits", 1, 1),
        pytest.param("and waits", 2, 2, marks=pytest.mark.slow),
        pytest.param("and returns", 3, 3, marks=pytest.mark.slow),
        pytest.param("by a command", 2, 2, marks=pytest.mark.slow),
        pytest.param("unseen", 2, 7, marks=pytest.mark.slow),
    ],
)
async def test_a_durable_event_that_kills_the_supervisor_ends_as_a_dead_letter(
    tmp_path: Path, write_mod: WriteMod, marked: Marked, how: str, attempts: int, lives: int
) -> None:
    write_mod("work", MOD)
    run = Run(tmp_path, marked, attempts)
    events: Sent = [*innocents(5, ["wait", "thread"], 0.05), ("poison", "work.kill", {"how": how})]
    status, died = await run.live(events), 1
    while status == -9 and died < 8:
        status = await run.live()
        died += status == -9
    assert status == 0
    assert list(run.letters) == ["poison"]
    assert run.letters["poison"] == died
    assert died <= lives
    seen = run.attempts()
    assert seen["poison"] == list(range(1, died + 1))
    assert len(seen) == 6, "the innocent are handled, too"


@pytest.mark.parametrize(
    ("kinds", "kills"),
    [
        (["wait", "thread"], 1),
        pytest.param(["wait"], KILLS, marks=[pytest.mark.slow, pytest.mark.timeout(1000)]),
        pytest.param(["wait", "thread", "block"], KILLS, marks=[pytest.mark.slow, pytest.mark.timeout(1000)]),
    ],
)
async def test_kills_from_outside_are_held_against_no_event(
    tmp_path: Path, write_mod: WriteMod, marked: Marked, kinds: list[str], kills: int
) -> None:
    """Not even with one attempt."""
    write_mod("work", MOD)
    run, chance = Run(tmp_path, marked, attempts=1), random.Random(kills)
    for number in range(kills):
        new = innocents(6, kinds, 0.05, prefix=f"r{number}-")
        await run.live(new, killed_after=chance.uniform(0, 0.06))
    assert await run.live() == 0
    assert run.letters == {}
    seen = run.attempts()
    assert sum(len(attempts) > 1 for attempts in seen.values()) >= kills
    for event_id, attempts in seen.items():
        assert all(attempt >= 2 for attempt in attempts[1:]), (event_id, attempts)
        assert attempts == sorted(set(attempts)), (event_id, attempts)


async def test_a_clean_stop_is_told_to_the_handler_and_counts_against_nobody(
    make_network: MakeNetwork, write_mod: WriteMod
) -> None:
    network = make_network()
    write_mod("work", MOD)
    settings = {"durable": True, "max_attempts": 1, "limits": {"drain_timeout": 0.05}}
    await network.initialize()
    assert (await network.load_mod("./work", **settings)).success
    sent = asyncio.create_task(
        network.process_event(Event("work.wait", "agent:a", payload={"time": 0.4}, event_id="slow"))
    )
    calls = network.state_dir.storage_of("work") / "calls"
    for number in (1, 2, 3):
        while not calls.exists() or calls.read_text().count("\n") < number:
            await asyncio.sleep(0.01)
        await network.shutdown()
        await network.initialize()
    assert (await sent).error == "pending"
    while network.get_network_stats()["journal"]["durable_events"]:
        await asyncio.sleep(0.01)
    assert calls.read_text().split() == ["slow", "1", "slow", "2", "slow", "3", "slow", "4"]
    assert await network.dead_letters.list() == []
