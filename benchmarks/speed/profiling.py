"""Show where the processor time of an event goes: which functions it calls in supervisor and worker.

    python -m benchmarks.speed.profiling [--width N] [--events N] [--lines N]

The profiler makes every call dearer, small functions most. Counts are exact; times are shares, to be
compared with the whole as `make cost` measures it.
"""

from __future__ import annotations

import argparse
import cProfile
import tempfile
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from modvisor.supervisor import Event

from .networks import Asked, succeed
from .plan import Plan
from .serving import UNPOLLED, Scene, run, serving
from .timing import in_flight
from .work import ping

MOD = "mod:profiled"
C = "~"  # the file of functions that are not written in Python


@dataclass(frozen=True, slots=True)
class Called:
    """A function, how often it was called, and the seconds spent in it and not in what it called."""

    name: str
    is_python: bool
    calls: int
    seconds: float

    @classmethod
    def of(cls, file: str, line: int, name: str, calls: int, seconds: float) -> Called:
        return cls(name if file == C else f"{'/'.join(Path(file).parts[-2:])}:{line} {name}", file != C, calls, seconds)


async def profiled(scene: Scene, width: int, count: int) -> dict[str, list[Called]]:
    """Return what was called in the supervisor and in the worker while so many events were answered."""
    async with serving(scene, "./profiled", network=UNPOLLED) as asked:
        await _send(asked, width, scene.plan.warm_up)
        profile = cProfile.Profile(time.thread_time)
        await _tell(asked, "start")
        profile.enable()
        await _send(asked, width, count)
        profile.create_stats()
        worker = await _tell(asked, "stop")
    supervisor = [(*place, *found[1:3]) for place, found in profile.stats.items()]
    return {"supervisor": [Called.of(*each) for each in supervisor], "worker": [Called.of(*each) for each in worker]}


async def _send(asked: Asked, width: int, count: int) -> None:
    await in_flight(asked.ask, (ping(MOD) for _ in range(count)), width)


async def _tell(asked: Asked, word: str) -> list[list]:
    event = Event(f"bench.profile.{word}", source_id="agent:alice", destination_id=MOD)
    return (await succeed(asked.network.process_event(event))).data


def table(side: str, called: Iterable[Called], count: int, lines: int) -> Table:
    found = sorted(called, key=lambda each: -each.seconds)
    python, c = (sum(each.calls for each in found if each.is_python is kind) / count for kind in (True, False))
    seconds = sum(each.seconds for each in found)
    made = Table(title=f"{side}, per event: {python:.1f} calls of Python functions, {c:.1f} of C functions")
    for head in ("function", "calls per event", "% of the time in it"):
        made.add_column(head)
    for each in found[:lines]:
        made.add_row(each.name, f"{each.calls / count:.2f}", f"{100 * each.seconds / seconds:.1f}")
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--width", type=int, default=64, help="events in flight (64)")
    parser.add_argument("--events", type=int, default=20_000, help="how many are profiled (20000)")
    parser.add_argument("--lines", type=int, default=30, help="functions to show of each side (30)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = run(profiled(Scene(Plan(), Path(folder)), options.width, options.events))
    for side, called in found.items():
        Console(width=120).print(table(side, called, options.events, options.lines))


if __name__ == "__main__":
    main()
