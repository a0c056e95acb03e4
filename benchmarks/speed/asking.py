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
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from .plan import Plan
from .rows import OPENAGENTS, PIPE, POOL, RAY

ROOT = Path(__file__).parent.parent.parent
TIMEOUT = 120.0
MARK = "PYTHONSPEED"
"""The variable by which processes of a run are told. Workers inherit what begins with PYTHON."""

CLIENT = "PYTHONSPEEDCLIENT"
"""The variable that names the interpreter of the client over HTTP: the same for every network."""

Run = Callable[[Awaitable[dict[str, float]]], dict[str, float]]


@dataclass(frozen=True, slots=True)
class Peer:
    """A program that measures one round.

    Attributes:
        program: the module, and its arguments.
        is_foreign: it runs in the peers' own environment.
        is_slow: a round takes half a minute.
    """

    column: str
    program: str
    is_foreign: bool = False
    is_slow: bool = False

    @property
    def python(self) -> str:
        peers = Path(os.environ.get("MODVISOR_PEERS_DIR") or ROOT / ".venv-peers")
        return str(peers / "openagents" / "bin" / "python") if self.is_foreign else sys.executable


PEERS = (
    Peer(OPENAGENTS, "benchmarks.speed.peers.openagents", is_foreign=True),
    Peer(PIPE, "benchmarks.speed.peers.calls pipe"),
    Peer(POOL, "benchmarks.speed.peers.calls pool"),
    Peer(RAY, "benchmarks.speed.peers.actor", is_foreign=True, is_slow=True),
)


class PeerFailed(Exception):
    """A program ended without figures."""


def ask(peer: Peer, plan: Plan, folder: Path) -> dict[str, float]:
    """Return the figures of one round. `folder` is the program's home. Raises `PeerFailed`."""
    if not Path(peer.python).exists():
        raise PeerFailed("not installed (make bench installs it)")
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "TMPDIR": str(folder),
        "PYTHONPATH": str(ROOT),
        "RAY_USAGE_STATS_ENABLED": "0",
        CLIENT: sys.executable,
        **{name: value for name, value in os.environ.items() if name == MARK},
    }
    process = subprocess.Popen(
        [peer.python, "-m", *peer.program.split()],
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
    if process.returncode:
        raise PeerFailed((errors.strip().splitlines() or ["it printed nothing"])[-1])
    return json.loads(out)


def answer(measure: Callable[[Plan], Awaitable[dict[str, float]]], run: Run = asyncio.run) -> None:
    """Measure as asked. All that the program prints itself goes to standard error."""
    with os.fdopen(os.dup(1), "w") as out:
        os.dup2(2, 1)
        json.dump(run(measure(Plan(**json.load(sys.stdin)))), out)
