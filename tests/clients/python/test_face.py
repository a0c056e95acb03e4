"""`modvisor.client` is `modvisor_client`, and what each of them imports."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import modvisor.client
import modvisor_client
import modvisor_client.sync

SOURCES = Path(modvisor_client.__file__).parent


def test_the_face_of_modvisor_is_the_same_objects() -> None:
    assert modvisor.client.AgentClient is modvisor_client.AgentClient
    assert modvisor.client.sync is modvisor_client.sync
    assert set(modvisor.client.__all__) == {*modvisor_client.__all__, "sync"} - {"__version__"}
    assert all(getattr(modvisor.client, name) is not None for name in modvisor.client.__all__)
    with pytest.raises(AttributeError, match="has no attribute 'Nothing'"):
        _ = modvisor.client.Nothing


def test_a_client_imports_nothing_of_the_network_and_httpx_only_for_large_events() -> None:
    script = """
import sys
import modvisor_client, modvisor_client.sync
known = {name.split(".")[0] for name in sys.modules}
print(sorted(known & {"modvisor", "uvicorn", "starlette", "yaml", "msgspec", "psutil", "typer", "rich", "httpx", "uvloop"}))
import modvisor.client
print("modvisor.supervisor" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=30, check=True)
    assert done.stdout.split() == ["[]", "False"]


def test_no_file_of_the_client_is_long() -> None:
    long = {path.name: len(path.read_text().splitlines()) for path in SOURCES.glob("*.py")}
    assert {name: lines for name, lines in long.items() if lines > 450} == {}
