"""Asking the peers: one round of one peer is one process, which leaves nothing behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from .leftovers import MARK
from .plan import Plan
from .rows import OPENAGENTS, PIPE, POOL, RAY

ROOT = Path(__file__).parent.parent.parent
TIMEOUT = 120.0
BELOW = "benchmarks.speed.peers."


def environment_python() -> Path:
    """The Python of the environment that holds the peers which are no part of Python."""
    return Path(os.environ.get("MODVISOR_PEERS_DIR") or ROOT / ".venv-peers") / "openagents" / "bin" / "python"


@dataclass(frozen=True, slots=True)
class Peer:
    """``module``: the program; ``package``: what must be there for it, in the peers' own environment; ``is_slow``: a round of
    it takes half a minute."""

    column: str
    module: str
    package: str | None = None
    is_slow: bool = False

    @property
    def python(self) -> str:
        return sys.executable if self.package is None else str(environment_python())

    def missing(self) -> str | None:
        """Why it cannot be asked."""
        if self.package is None:
            return None
        if not Path(self.python).exists():
            return "not installed (make bench installs it)"
        find = f"import importlib.util, sys; sys.exit(importlib.util.find_spec({self.package!r}) is None)"
        return "not installed" if subprocess.run([self.python, "-c", find], check=False).returncode else None


PEERS = (
    Peer(OPENAGENTS, BELOW + "openagents", "openagents"),
    Peer(PIPE, BELOW + "pipe"),
    Peer(POOL, BELOW + "pool"),
    Peer(RAY, BELOW + "actor", "ray", is_slow=True),
)


class PeerFailed(Exception):
    """It ended without figures."""


def ask(peer: Peer, plan: Plan, folder: Path) -> dict[str, float]:
    """One round of a peer; ``folder`` is its home. Raises `PeerFailed`."""
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "TMPDIR": str(folder),
        "PYTHONPATH": str(ROOT),
        "RAY_USAGE_STATS_ENABLED": "0",
        **{name: value for name, value in os.environ.items() if name == MARK},
    }
    process = subprocess.Popen(
        [peer.python, "-m", peer.module],
        cwd=folder, env=environment, text=True, start_new_session=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    try:
        out, errors = process.communicate(json.dumps(asdict(plan)), timeout=TIMEOUT)
    except subprocess.TimeoutExpired:
        raise PeerFailed(f"no figures after {TIMEOUT:g} s") from None
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # the session of its own, with what it may have left
        process.communicate()
    if process.returncode:
        raise PeerFailed((errors.strip().splitlines() or ["it said nothing"])[-1])
    return json.loads(out)
