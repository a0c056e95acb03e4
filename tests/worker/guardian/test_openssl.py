"""OpenSSL frees nothing at the end of what the guardian forks."""

from __future__ import annotations

import subprocess
import sys

import pytest

AT_EXIT = """
import ctypes, hashlib
from importlib.util import find_spec
library = ctypes.CDLL(find_spec("_hashlib").origin)
told = ctypes.CFUNCTYPE(None)(lambda: print("tidied up", flush=True))
if not getattr(library, "OPENSSL_atexit", None):
    print("hidden")
library.OPENSSL_atexit(told)
hashlib.new("sha256", b"x").digest()
ctypes.PyDLL(None).exit(0)
"""


def run(before: str) -> str:
    done = subprocess.run([sys.executable, "-c", before + AT_EXIT], capture_output=True, text=True, timeout=30)
    return done.stdout.strip()


@pytest.mark.skipif(sys.platform != "linux", reason="the guardian's")
def test_openssl_does_not_tidy_up_after_the_guardian_was_imported() -> None:
    if run("") != "tidied up":
        pytest.skip("this Python's OpenSSL does not say when it tidies up")
    assert run("import modvisor.worker.guardian.__main__") == ""
