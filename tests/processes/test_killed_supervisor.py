"""kill -9 of the supervisor at any moment, under load, over and over: what it had accepted and promised, it keeps."""

from __future__ import annotations

import os
import random
import shutil
import sqlite3
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from tests import warm
from tests.processes.conftest import Marked
from tests.processes.test_events import HEAD

pytestmark = [pytest.mark.anyio, pytest.mark.skipif(sys.platform != "linux", reason="needs a guardian")]

WriteMod = Callable[..., str]

KILLS = int(os.environ.get("MODVISOR_KILLS", "8"))
"""Of the slow test. `make long` kills more often."""

SECOND = 1.0
"""In which all its processes must be gone."""

# Notes each event it has handled; one in four takes its time, so that some are being handled whenever it is killed.
WORK = """
        def initialize(self):
            self.notes = os.open(self.context.storage_path / "handled", os.O_WRONLY | os.O_APPEND | os.O_CREAT)

        @mod_event_handler("work.do")
        async def do(self, event):
            if event.payload["n"] % 4 == 0:
                await asyncio.sleep(0.02)
            os.write(self.notes, f"{event.event_id}\\n".encode())
            return EventResponse(True)
"""

# Says on its standard output what it does before it does it, and what came of it.
SUPERVISOR = """
import asyncio, os, random, sys
from modvisor.supervisor import AgentNetwork, Event

base, number, loaded = sys.argv[1], int(sys.argv[2]), "load" in sys.argv
chance = random.Random(number)

def say(*words):
    os.write(1, (" ".join(map(str, words)) + "\\n").encode())

async def send(network, k):
    n = 0
    while True:
        n += 1
        patience = chance.choice([0.005, 30])
        event = Event("work.do", f"agent:a{k}", payload={"n": n}, event_id=f"r{number}-{k}-{n}", timeout=patience)
        say("sent", event.event_id)
        response = await network.process_event(event)
        say(response.error or "answered", event.event_id)

async def load(network):
    while True:
        name = f"d{chance.randrange(4)}"
        if name in network.get_loaded_mods():
            say("unloading", name)
            assert (await network.unload_mod(name)).success
            say("unloaded", name)
        else:
            say("loading", name)
            response = await network.load_mod("./echo", {"x": name}, mod_id=name)
            assert response.success, response
            say("loaded", name)

async def main():
    config = {"network": {"name": "n", "storage": "state"}, "mods": [{"path": "./work", "durable": True}]}
    network = AgentNetwork.from_config(config, base_dir=base)
    await network.initialize()
    say("ready", *(f"{mod['mod_id']}={mod['state']}" for mod in network.get_loaded_mods().values()))
    if loaded:
        await asyncio.gather(load(network), *(send(network, k) for k in range(8)))
    while network.get_network_stats()["journal"]["durable_events"]:
        await asyncio.sleep(0.01)
    await network.shutdown()
    say("done")

asyncio.run(main())
"""


class Story:
    """What a supervisor said over all its lives, and what must be true after each of them."""

    def __init__(self, base: Path) -> None:
        self._base = base
        self.answered: set[str] = set()
        self.accepted: set[str] = set()  # found in the journal when it had been killed
        self.refused: Counter[str] = Counter()
        self.mods: dict[str, bool | None] = {}  # loaded, or not; None: it was killed over it

    def heard(self, line: str) -> None:
        what, *rest = line.split()
        match what:
            case "answered":
                self.answered.add(rest[0])
            case "loading" | "unloading":
                self.mods[rest[0]] = None
            case "loaded" | "unloaded":
                self.mods[rest[0]] = what == "loaded"
            case "ready":
                self._is_as_it_was(dict(word.split("=") for word in rest))
            case "sent" | "pending":
                pass  # a pending one is in the journal, or was answered late
            case other:
                self.refused[other] += 1

    def _is_as_it_was(self, states: dict[str, str]) -> None:
        assert set(states.values()) == {"ready"}, states
        for mod, was_loaded in self.mods.items():
            assert was_loaded is None or was_loaded == (mod in states), (mod, was_loaded, states)
            self.mods[mod] = mod in states
        assert set(states) - set(self.mods) == {"work"}

    def killed(self) -> None:
        """Read what it had accepted from a copy: opening the file itself would be a part of its recovery."""
        copy = self._base / "copy"
        copy.mkdir(exist_ok=True)
        for file in (self._base / "state").glob("network.db*"):
            shutil.copy(file, copy)
        with closing(sqlite3.connect(copy / "network.db")) as connection:
            self.accepted |= {event_id for (event_id,) in connection.execute("SELECT event_id FROM durable")}
        shutil.rmtree(copy)

    def handled(self) -> Counter[str]:
        return Counter((self._base / "state" / "mods" / "work" / "handled").read_text().split())


def live(
    base: Path, marked: Marked, number: int, story: Story, *, lines: int | None = None, seconds: float | None = None
) -> None:
    """One life: killed after so many lines of what it says, or so many seconds (which may be before it has started)."""
    command = [sys.executable, "-c", SUPERVISOR, str(base), str(number)]
    to_be_killed = lines is not None or seconds is not None
    environ = {"PATH": "/usr/bin:/bin", **marked.variable}
    with warm.Popen(
        command + ["load"] * to_be_killed, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environ
    ) as popen:
        timer = threading.Timer(0.0 if seconds is None else seconds, popen.kill)
        if seconds is not None:
            timer.start()
        try:
            assert popen.stdout is not None
            assert popen.stderr is not None
            for count, line in enumerate(popen.stdout):
                if count == lines:
                    popen.kill()
                if line.endswith("\n"):
                    story.heard(line)
            errors = popen.stderr.read()
        finally:
            popen.kill()
            timer.cancel()
    assert popen.returncode == (-9 if to_be_killed else 0), errors


@pytest.mark.parametrize(
    ("rounds", "most_lines"),
    [(3, 500), pytest.param(KILLS, 2000, marks=[pytest.mark.slow, pytest.mark.timeout(600)])],
)
async def test_no_accepted_event_is_lost_and_the_same_mods_come_back(
    tmp_path: Path, write_mod: WriteMod, marked: Marked, rounds: int, most_lines: int
) -> None:
    write_mod("work", HEAD + WORK)
    write_mod("echo")
    story, chance = Story(tmp_path), random.Random(rounds)
    for number in range(rounds):
        moment = {"seconds": chance.uniform(0, 0.7)} if number % 5 == 4 else {"lines": chance.randrange(most_lines)}
        live(tmp_path, marked, number, story, **moment)
        await marked.gone_within(SECOND)
        story.killed()
    live(tmp_path, marked, rounds, story)
    await marked.gone_within(SECOND)

    handled = story.handled()
    assert story.accepted - set(handled) == set(), "accepted and lost"
    assert story.answered - set(handled) == set(), "answered and not done"
    twice = {event_id for event_id, times in handled.items() if times > 1}
    assert twice - story.accepted == set(), "done twice, and not because its answer was lost with the supervisor"
    assert set(story.refused) <= {"done"}, story.refused
    assert len(story.accepted) >= rounds / 2
    assert len(story.answered) > 10 * rounds
