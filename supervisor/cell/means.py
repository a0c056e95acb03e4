"""Finds out what this host enforces of each profile, by confining processes as workers are."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping

from ...ipc.cell import OFF, PROFILES, as_report, missing
from ..config import NetworkConfig
from ..limits import FAIL, OK, WARN, Check
from .profile import sandbox_of

PATIENCE = 20.0
"""Seconds that the trials may take."""

_TRIAL = [sys.executable, "-P", "-m", "modvisor.worker.guardian.trial"]

_REMEDY = (
    "run the network where namespaces are allowed: as root, or with user namespaces (sysctl "
    "kernel.unprivileged_userns_clone=1, kernel.apparmor_restrict_unprivileged_userns=0), and in a container with "
    "CAP_SYS_ADMIN; or say 'sandbox_fallback: warn'"
)


def reports() -> dict[str, dict[str, str]]:
    """Return the report of each profile on this host; empty if nothing can be tried. Blocks for a tenth of a second."""
    if sys.platform != "linux":
        return {}
    try:
        done = subprocess.run(_TRIAL, capture_output=True, timeout=PATIENCE, check=True)
        return {profile: as_report(report) for profile, report in json.loads(done.stdout).items()}
    except (OSError, subprocess.SubprocessError, ValueError):
        return {}


def examine_sandboxes(config: NetworkConfig | None = None) -> list[Check]:
    """Check what this host enforces of each profile, and of what the mods of ``config`` ask for."""
    found = reports()
    checks = [_check(profile, found.get(profile)) for profile in PROFILES if profile != OFF]
    return checks if config is None else [*checks, *_mods(config, found)]


def _check(profile: str, report: Mapping[str, str] | None) -> Check:
    name = f"sandbox {profile}"
    if report is None:
        return Check(name, WARN, "NOT enforced on this host", "use Linux")
    gaps = missing(report)
    text = "; ".join(f"{part}: {means}" for part, means in report.items() if part not in gaps)
    if gaps:
        reasons = "; ".join(f"{part} NOT enforced: {why}" for part, why in gaps.items())
        return Check(name, WARN, f"{reasons}; {text}", _REMEDY)
    return Check(name, OK, text)


def _mods(config: NetworkConfig, found: Mapping[str, Mapping[str, str]]) -> Iterator[Check]:
    """Yield a check for each mod that would not be loaded here, since its sandbox cannot be enforced."""
    for mod in config.mods:
        sandbox = sandbox_of(mod, config)
        gaps = missing(found.get(sandbox.profile, {}))
        if mod.enabled and sandbox.required and gaps:
            text = f"is not loaded: its sandbox '{sandbox.profile}' asks for {', '.join(gaps)}"
            yield Check(f"mod {mod.mod_id}", FAIL, text, _REMEDY)
