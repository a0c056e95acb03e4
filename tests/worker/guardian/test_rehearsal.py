"""The rehearsal leaves nothing behind that a worker could trip over, in real processes."""

from __future__ import annotations

import json
import subprocess
import sys

LOOKS = """
import json, os, resource, signal, sys, threading
from pathlib import Path
from modvisor.worker.guardian import rehearsal

def state():
    return {
        "fds": sorted(os.readlink(f"/proc/self/fd/{fd}").split(":")[0] for fd in os.listdir("/proc/self/fd")
                      if os.path.exists(f"/proc/self/fd/{fd}")) if sys.platform == "linux" else [],
        "threads": [thread.name for thread in threading.enumerate()],
        "finders": [str(finder) for finder in sys.meta_path], "path": sys.path, "environ": dict(os.environ),
        "signals": {int(signum): str(signal.getsignal(signum)) for signum in signal.valid_signals()},
        "limits": [resource.getrlimit(which) for which in range(16)],
        "oom": Path("/proc/self/oom_score_adj").read_text() if sys.platform == "linux" else "",
        "rehearsed": [name for name in sys.modules if "rehearsed" in name],
        "streams": [str(sys.stdout), str(sys.stderr)],
    }

before = state()
rehearsal.rehearse(2)
rehearsal.rehearse(1)
after = state()
rehearsal.rehearse(1, "no_such_mod")
print(json.dumps([before, after, state()]))
"""


def test_it_leaves_all_as_it_was_and_a_failure_is_only_reported() -> None:
    command = [sys.executable, "-W", "error", "-c", LOOKS]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
    before, after, failed = json.loads(done.stdout)
    assert after == before
    assert failed == before
    (said,) = [line for line in done.stderr.splitlines() if line.startswith("modvisor.")]
    assert "no module named 'no_such_mod'" in said
