"""A Debian to deploy to: a root that mmdebstrap made, once, with modvisor installed into a copy of it.

Everything lies in `build/deploy`, which `make clean` removes.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BUILD = ROOT / "build" / "deploy"
PACKAGES = "systemd,systemd-sysv,dbus,python3,python3-venv,procps"
NEEDED = ("mmdebstrap", "systemd-nspawn", "buildah")

deployed = pytest.mark.skipif(
    "MODVISOR_DEPLOY" not in os.environ,
    reason="make deploy-test runs it: root, a Debian mirror, two minutes, and " + ", ".join(NEEDED),
)


def run(*words: str | Path, **how: object) -> str:
    """Run a command to its end; what it said on both streams is in the failure."""
    done = subprocess.run(
        [str(word) for word in words], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **how
    )  # type: ignore[call-overload]
    assert done.returncode == 0, f"{' '.join(map(str, words))}: exit code {done.returncode}\n{done.stdout}"
    return done.stdout


def debian() -> Path:
    """Return the root without modvisor."""
    made = BUILD / "debian"
    if not made.exists():
        BUILD.mkdir(parents=True, exist_ok=True)
        half = BUILD / "debian.half"
        shutil.rmtree(half, ignore_errors=True)
        run("mmdebstrap", "--variant=minbase", f"--include={PACKAGES}", "bookworm", half)
        half.rename(made)
    return made


def wheels() -> Path:
    """Return a folder with modvisor as it is now, and all that it needs to be built and installed."""
    made = BUILD / "wheels"
    made.mkdir(parents=True, exist_ok=True)
    for old in made.glob("modvisor*"):
        old.unlink()
    pip = [sys.executable, "-m", "pip"]
    run(*pip, "wheel", "-q", "--wheel-dir", made, ROOT / "clients" / "python", ROOT)
    run(*pip, "download", "-q", "--dest", made, "setuptools>=77", "wheel")
    return made


def copy_of(root: Path, name: str) -> Path:
    made = BUILD / name
    shutil.rmtree(made, ignore_errors=True)
    run("cp", "-a", "--reflink=auto", root, made)
    return made
