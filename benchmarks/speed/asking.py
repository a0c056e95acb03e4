"""Ask for one round in a process of its own, which leaves nothing behind.

The plan goes to its standard input as JSON; the figures come from its standard output as JSON.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from .networks import ROOT
from .plan import Plan
from .rows import BEFORE, OPENAGENTS, PIPE, POOL, RAY
from .timing import Figures

TIMEOUT = 120.0
MARK = "PYTHONSPEED"
"""The variable by which processes of a run are told. Workers inherit what begins with PYTHON."""

Run = Callable[[Awaitable[Figures]], Figures]
Measure = Callable[[], Figures]


def _foreign() -> str:
    """Return the interpreter of the peers' own environment."""
    peers = Path(os.environ.get("MODVISOR_PEERS_DIR") or ROOT / ".venv-peers")
    return str(peers / "openagents" / "bin" / "python")


@dataclass(frozen=True, slots=True)
class Peer:
    """A program that measures one round.

    Attributes:
        program: the module, and its arguments.
        python: returns the interpreter that runs it.
        is_slow: a round takes half a minute.
    """

    column: str
    program: str
    python: Callable[[], str] = lambda: sys.executable
    is_slow: bool = False


PEERS = (
    Peer(OPENAGENTS, "benchmarks.speed.peers.openagents", _foreign),
    Peer(PIPE, "benchmarks.speed.peers.calls pipe"),
    Peer(POOL, "benchmarks.speed.peers.calls pool"),
    Peer(RAY, "benchmarks.speed.peers.actor", _foreign, is_slow=True),
)


def other_checkout(python: str) -> Peer:
    """Return the modvisor of another checkout: that which the interpreter `python` imports."""
    return Peer(BEFORE, "benchmarks.speed.ours durable", lambda: python)


class PeerFailed(Exception):
    """A program ended without figures."""


def ask(peer: Peer, plan: Plan, folder: Path) -> Figures:
    """Return the figures of one round. `folder` is the program's home. Raises `PeerFailed`."""
    python = peer.python()
    if not Path(python).exists():
        raise PeerFailed(f"not installed: there is no {python} (make bench installs the peers)")
    link = folder / "benchmarks"  # the root has more: a `modvisor` that hides the one of the interpreter
    link.symlink_to(ROOT / "benchmarks")
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "TMPDIR": str(folder),
        "PYTHONPATH": str(link.parent),
        "RAY_USAGE_STATS_ENABLED": "0",
        **{name: value for name, value in os.environ.items() if name == MARK},
    }
    process = subprocess.Popen(
        [python, "-m", *peer.program.split()],
        cwd=folder, env=environment, text=True, start_new_session=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    try:
        out, errors = process.communicate(json.dumps(asdict(plan)), timeout=TIMEOUT)
    except subprocess.TimeoutExpired:
        raise PeerFailed(f"no figures after {TIMEOUT:g} s") from None
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # its session, with all that it may have left
        process.communicate()
        link.unlink()
    if process.returncode:
        raise PeerFailed((errors.strip().splitlines() or ["it printed nothing"])[-1])
    return json.loads(out)


@contextmanager
def by_line(command: Sequence[str], **how: Any) -> Iterator[Measure]:
    """Start a program that prints one JSON object for each line that it reads. Yield what asks it.

    So two programs can take turns, in the same moments.
    """
    with subprocess.Popen(command, **how, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        asked, told = process.stdin, process.stdout

        def measure() -> Figures:
            print(file=asked, flush=True)
            line = told.readline()
            if not line:
                raise PeerFailed(f"{' '.join(command)} ended without figures; what it said stands above")
            return json.loads(line)

        yield measure
        asked.close()
        told.read()


def answer(measure: Callable[[Plan], Awaitable[Figures]], run: Run = asyncio.run) -> None:
    """Measure as asked. All that the program prints itself goes to standard error."""
    with os.fdopen(os.dup(1), "w") as out:
        os.dup2(2, 1)
        json.dump(run(measure(Plan(**json.load(sys.stdin)))), out)
