"""Count the processor's instructions of an event in the network, where the machine is too busy to measure time.

    python -m benchmarks.speed.instructions [--against /path/to/other/.venv/bin/python] [--events N]

The network runs in valgrind, its mods run outside. What else the machine does changes nothing: two
counts of the same code differ by less than half a per cent. They tell nothing of the kernel, of the
mods, of waiting, or of the cache: use them to compare two versions of the same path, and believe
`make cost` for the rest. Linux, with valgrind installed.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .cost import Checkout
from .plan import Plan
from .serving import UNPOLLED, Scene, run, serving
from .timing import in_flight
from .work import PATH, Fields, ping

BENCHMARKS = Path(__file__).parent.parent
TIMEOUT = 300.0
COUNTED = re.compile(r"^(?:summary|totals): (\d+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Kind:
    """Events of one kind, `width` in flight, to these mods."""

    label: str
    width: int
    mods: tuple[Any, ...] = ("./echo",)
    make: Callable[[], Fields] = ping


KINDS = {
    "one": Kind("one at a time", 1),
    "many": Kind("64 in flight", 64),
    "wide": Kind("256 in flight", 256, ({"path": "./echo", "limits": {"concurrency": 256}},)),
    "path": Kind("two mods in a row, 64 in flight", 64, ("./passing", "./answering"), lambda: ping(None, PATH)),
}


async def counted(scene: Scene, kind: Kind, events: int) -> None:
    """Let valgrind count while so many events are answered. Does not return."""
    async with serving(scene, *kind.mods, network=UNPOLLED) as asked:
        await in_flight(asked.ask, (kind.make() for _ in range(scene.plan.warm_up)), kind.width)
        subprocess.run(["callgrind_control", "-i", "on", str(os.getpid())], stdout=subprocess.DEVNULL, check=True)  # noqa: ASYNC221
        await in_flight(asked.ask, (kind.make() for _ in range(events)), kind.width)
        os._exit(0)  # it cannot shut down: of the end of a process it would not hear, see `_never_ready`


def _never_ready(pid: int, flags: int = 0) -> int:
    """Return a descriptor in place of a pidfd: valgrind does not know that system call."""
    reading, _writing = os.pipe()
    return reading


def per_event(checkout: Checkout, name: str, events: int, home: Path) -> float:
    """Return the instructions of one event of a kind, with the modvisor of a checkout."""
    out = home / "callgrind.out"
    tool = ["valgrind", "--tool=callgrind", "--instr-atstart=no", f"--callgrind-out-file={out}"]
    part = [checkout.python, "-m", "benchmarks.speed.instructions", "--serve", name, "--events", str(events)]
    part += ["--home", str(home)]
    done = subprocess.run([*tool, *part], **checkout.how(TIMEOUT), text=True, check=False)
    found = COUNTED.search(out.read_text()) if out.exists() else None
    if done.returncode or found is None:
        sys.exit(f"{' '.join(part)}:\n{done.stderr[-2000:]}")
    out.unlink()
    return int(found[1]) / events


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--against", metavar="PYTHON", help="the interpreter of another checkout")
    parser.add_argument("--events", type=int, default=4000, help="how many are counted (4000)")
    parser.add_argument("--serve", choices=KINDS, help=argparse.SUPPRESS)
    parser.add_argument("--home", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve is not None:
        os.pidfd_open = _never_ready
        folder = Path(tempfile.mkdtemp(dir=options.home))  # of whoever has started this, who removes it
        run(counted(Scene(Plan(), folder), KINDS[options.serve], options.events))
    if shutil.which("valgrind") is None:
        sys.exit("valgrind is not installed: on Debian and Ubuntu, apt-get install valgrind")
    with tempfile.TemporaryDirectory(prefix="modvisor-counted-", ignore_cleanup_errors=True) as folder:
        show([sys.executable, *filter(None, [options.against])], options.events, Path(folder))


def show(pythons: Sequence[str], events: int, home: Path) -> None:
    """Print the counts of each checkout, and the ratio of the first to the second."""
    (home / "benchmarks").symlink_to(BENCHMARKS)
    checkouts = [Checkout(os.path.abspath(python), home) for python in pythons]  # a link tells the environment
    print("instructions of an event in the network: " + ", then ".join(each.root for each in checkouts))
    for name, kind in KINDS.items():
        found = [per_event(checkout, name, events, home) for checkout in checkouts]
        ratio = f"{found[0] / found[1]:12.3f}" if len(found) == 2 else ""
        print(f"{kind.label:34}" + "".join(f"{each:12,.0f}" for each in found) + ratio, flush=True)


if __name__ == "__main__":
    main()
