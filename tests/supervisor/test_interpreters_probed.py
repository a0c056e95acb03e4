"""What a worker inherits, how it is started, and which interpreters are refused."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from modvisor.supervisor.process.interpreters import (
    BOOTSTRAP,
    BadPython,
    Interpreter,
    command_and_environment,
    foreign_environment,
    msgpack_folder,
    probe,
    worker_command,
    worker_environment,
)

ENVIRONMENT = {
    "PATH": "/bin", "LC_ALL": "C", "PYTHONPATH": "/ours", "PYTHONUTF8": "1", "VIRTUAL_ENV": "/venv",
    "AWS_SECRET_ACCESS_KEY": "secret", "MODVISOR_TOKEN": "secret",
}  # fmt: skip


def test_a_worker_inherits_what_python_needs_and_no_secrets() -> None:
    assert worker_environment(ENVIRONMENT).keys() == {"PATH", "LC_ALL", "PYTHONPATH", "PYTHONUTF8", "VIRTUAL_ENV"}


def test_another_interpreter_inherits_nothing_that_leads_to_ours() -> None:
    assert foreign_environment(ENVIRONMENT) == {"PATH": "/bin", "LC_ALL": "C", "PYTHONUTF8": "1"}


def test_the_commands_of_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", "/ours")
    command, environment = command_and_environment("/usr/bin/python3", None)
    assert command == worker_command("/usr/bin/python3") == ["/usr/bin/python3", "-P", "-m", "modvisor.worker"]
    assert environment["PYTHONPATH"] == "/ours"
    command, environment = command_and_environment("/usr/bin/python3", Interpreter(Path("/venv/bin/python"), "3.12.1"))
    assert command == ["/venv/bin/python", "-P", str(BOOTSTRAP), "modvisor.worker", msgpack_folder()]
    assert "PYTHONPATH" not in environment
    assert BOOTSTRAP.is_file()


def stand_in(file: Path, says: str, status: int = 0) -> Path:
    """Write a program that answers a probe with ``says``."""
    file.write_text(f"#!/bin/sh\necho '{says}'\nexit {status}\n")
    file.chmod(0o755)
    return file


@pytest.mark.anyio
async def test_our_own_interpreter_passes() -> None:
    found = await probe(Path(sys.executable))
    assert found == Interpreter(Path(sys.executable), ".".join(map(str, sys.version_info[:3])))


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("says", "status", "message"),
    [
        ("[[2, 7, 18], null]", 0, "is Python 2.7.18; a mod needs 3.11 or newer"),
        ("[[3, 12, 0], [0, 6]]", 0, "has msgpack 0.6; a mod needs 1.0 or newer there, or none at all"),
        ("hello", 0, "is no Python that runs (exit code 0): hello"),
        ("broken", 3, "is no Python that runs (exit code 3): broken"),
    ],
)
async def test_an_interpreter_that_cannot_run_a_worker(tmp_path: Path, says: str, status: int, message: str) -> None:
    with pytest.raises(BadPython) as caught:
        await probe(stand_in(tmp_path / "python", says, status))
    assert message in str(caught.value)


@pytest.mark.anyio
async def test_an_interpreter_that_does_not_exist(tmp_path: Path) -> None:
    with pytest.raises(BadPython, match="cannot be run: No such file or directory"):
        await probe(tmp_path / "python")


@pytest.mark.anyio
async def test_a_changed_interpreter_is_probed_again(tmp_path: Path) -> None:
    assert (await probe(stand_in(tmp_path / "python", "[[3, 12, 0], null]"))).version == "3.12.0"
    (tmp_path / "python").unlink()
    assert (await probe(stand_in(tmp_path / "python", "[[3, 13, 10], null]"))).version == "3.13.10"
