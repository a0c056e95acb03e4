"""Count how many files of the house one operation crosses, and how often it changes the file.

    python benchmarks/crossings.py [--rounds N] [--json] [--files OPERATION]

`sys.setprofile` counts, in the supervisor's process, every call of a function that is defined below
`supervisor/` or `ipc/`. A change of file is a call in another file than the call before. The column
`resumed` counts what an `await` adds to both: Python tells of a coroutine that goes on as of a call.
Those are no calls that somebody reads, and are in no other column. The mod is the bundled wiki, in a
network that holds nothing else. Each figure is the median of several networks. Only public names are
used: the interpreter of any checkout counts that checkout.
"""

from __future__ import annotations

import argparse
import asyncio
import inspect
import json
import logging
import statistics
import sys
import tempfile
from collections import Counter
from collections.abc import Awaitable, Callable
from itertools import pairwise
from pathlib import Path
from types import FrameType
from typing import Any

import modvisor.supervisor
from modvisor.supervisor import AgentNetwork, Event

HOUSE = Path(modvisor.supervisor.__file__).parent.parent
FLOORS = ("supervisor", "ipc")
WIKI = "modvisor.mods.workspace.wiki"
GOES_ON = inspect.CO_COROUTINE | inspect.CO_GENERATOR | inspect.CO_ASYNC_GENERATOR
OPERATIONS = ("load", "event", "reload", "restart", "unload")


class Walk:
    """The files of the house, in the order of the calls of their functions."""

    def __init__(self) -> None:
        self._below = tuple(f"{HOUSE / floor}/" for floor in FLOORS)
        self._begun = set[FrameType]()
        self.files: list[str] = []
        self.resumed = 0

    def __call__(self, frame: FrameType, what: str, _: Any) -> None:
        file = frame.f_code.co_filename
        if what != "call" or not file.startswith(self._below):
            return
        if frame in self._begun:
            self.resumed += 1
            return
        if frame.f_code.co_flags & GOES_ON:
            self._begun.add(frame)
        self.files.append(str(Path(file).relative_to(HOUSE)))

    def end(self) -> None:
        """Let go of the frames, and so of all that their variables hold."""
        self._begun.clear()

    def figures(self) -> dict[str, int]:
        crossed = set(self.files)
        own = {file for file in crossed if file.startswith("supervisor/")}
        changes = sum(here != there for here, there in pairwise(self.files))
        return {
            "files": len(crossed),
            "of_supervisor": len(own),
            "changes": changes,
            "calls": len(self.files),
            "resumed": self.resumed,
        }


async def walked(operation: Awaitable[Any]) -> Walk:
    walk = Walk()
    before = sys.getprofile()
    sys.setprofile(walk)
    try:
        response = await operation
    finally:
        sys.setprofile(before)
        walk.end()
    assert response.success, response
    return walk


async def walks() -> dict[str, Walk]:
    """Do every operation once, in a new network."""
    with tempfile.TemporaryDirectory() as folder:
        config = {"network": {"name": "crossings", "storage": "state"}}
        async with AgentNetwork.from_config(config, base_dir=folder) as network:
            search = Event("wiki.page.search", "agent:alice", "mod:wiki", {"query": "rooms"})
            todo: dict[str, Callable[[], Awaitable[Any]]] = {
                "load": lambda: network.load_mod(WIKI, config={"public": True}),
                "event": lambda: network.process_event(search),
                "reload": lambda: network.reload_mod("wiki"),
                "restart": lambda: network.restart_mod("wiki"),
                "unload": lambda: network.unload_mod("wiki"),
            }
            return {name: await walked(todo[name]()) for name in OPERATIONS}


def counted(rounds: int) -> dict[str, dict[str, float]]:
    """Return the median figures of each operation. One round before is not counted: it imports."""
    asyncio.run(walks())
    found = [asyncio.run(walks()) for _ in range(rounds)]
    figures = {name: [each[name].figures() for each in found] for name in OPERATIONS}
    return {name: {key: statistics.median(each[key] for each in of) for key in of[0]} for name, of in figures.items()}


def lines(figures: dict[str, dict[str, float]]) -> list[str]:
    head = f"{'':10} {'files':>6} {'of supervisor/':>15} {'changes of file':>16} {'calls':>6} {'resumed':>8}"
    return [head, *(_line(name, of) for name, of in figures.items())]


def _line(name: str, of: dict[str, float]) -> str:
    figures = f"{of['files']:6g} {of['of_supervisor']:15g} {of['changes']:16g} {of['calls']:6g} {of['resumed']:8g}"
    return f"{name:10} {figures}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--files", choices=OPERATIONS, help="print the files of one operation, with their calls")
    options = parser.parse_args()
    logging.getLogger("modvisor").setLevel(logging.ERROR)
    if options.files:
        for file, calls in Counter(asyncio.run(walks())[options.files].files).most_common():
            print(f"{calls:6} {file}")
        return
    figures = counted(options.rounds)
    print(json.dumps(figures, indent=1) if options.json else "\n".join([f"{HOUSE}:", *lines(figures)]))


if __name__ == "__main__":
    main()
