"""What is kept of the mods' compiled code, and what becomes of it in real workers."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from modvisor.supervisor import AgentNetwork, Event
from modvisor.supervisor.sources import compiled
from modvisor.supervisor.sources.compiled import CompiledCode
from modvisor.supervisor.sources.saved_files import digest
from modvisor.worker.sources import packed
from tests.conftest import ECHO

A, B = ("./a", Path("/mods/a")), ("./b", Path("/mods/b"))


def reported(path: str, source: bytes, code: bytes | None = None) -> dict[str, Any]:
    entry = {"path": path, "source": source, "is_package": False}
    return entry if code is None else {**entry, "code": code}


def test_code_is_kept_by_mod_and_taken_out_of_the_report() -> None:
    known = CompiledCode()
    modules = {"a.mod": reported("/mods/a/mod.py", b"x", b"code"), "a.more": reported("/mods/a/more.py", b"y")}
    known.take(A, modules)
    assert modules["a.mod"] == reported("/mods/a/mod.py", b"x")
    assert known.of(A) == {"/mods/a/mod.py": (digest(b"x"), b"code")}
    assert known.of(B) == {}
    known.take(A, {"a.mod": reported("/mods/a/mod.py", b"z", b"newer")})
    assert known.of(A) == {"/mods/a/mod.py": (digest(b"z"), b"newer")}


@pytest.mark.parametrize(
    "modules", [None, [], "text", {"a": None}, {"a": {"code": b"c"}}, {"a": {"path": 1, "source": b"", "code": b"c"}}]
)
def test_what_a_stranger_reports_keeps_nothing(modules: Any) -> None:
    known = CompiledCode()
    known.take(A, modules)
    assert known.of(A) == {}


def test_it_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled, "MAX_BYTES", 250)
    monkeypatch.setattr(compiled, "MAX_MOD_BYTES", 120)
    known = CompiledCode()
    for whose in (A, B):
        known.take(whose, {"m": reported("/m", b"", b"c" * 90)})
    assert known.of(A), "asked for, so the newest"
    known.take(("./c", None), {"m": reported("/m", b"", b"c" * 90)})
    assert [bool(known.of(whose)) for whose in (A, B, ("./c", None))] == [True, False, True]
    known.take(B, {"m": reported("/m", b"", b"c" * 200)})
    assert known.of(B) == {}, "too large alone"


async def ask(network: AgentNetwork) -> Any:
    return (await network.process_event(Event("test.ping", destination_id="mod:echo"))).data["version"]


@pytest.mark.anyio
@pytest.mark.parametrize("launch", ["fork", pytest.param("exec", marks=pytest.mark.slow)])
async def test_the_next_worker_need_not_compile_and_never_runs_what_was_edited(
    network: AgentNetwork, write_mod: Callable[..., str], launch: str
) -> None:
    path = write_mod("echo")
    file = network.config.base_dir / "mods" / "echo" / "mod.py"
    before, source = os.stat(file), file.read_bytes()
    assert (await network.load_mod(path, launch=launch)).success
    assert await ask(network) == "1.0"
    await network.unload_mod("echo")

    known = network._running().mods._recipe.compiled._mods[("./echo", file.parent)]
    assert list(known) == [str(file)]
    # Other code under the same source tells whether it is what runs.
    other = compile(source.replace(b'"1.0"', b'"kept"'), str(file), "exec")
    known[str(file)] = digest(source), packed(other)
    assert (await network.load_mod(path, launch=launch)).success
    assert await ask(network) == "kept"

    file.write_bytes(source.replace(b'"1.0"', b'"2.0"'))  # of the same size,
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))  # and as old
    assert (await network.reload_mod("echo")).success
    assert await ask(network) == "2.0"
    file.write_bytes(source)
    assert (await network.reload_mod("echo")).success
    assert await ask(network) == "1.0"


@pytest.mark.anyio
async def test_code_that_is_damaged_is_compiled_anew(network: AgentNetwork, write_mod: Callable[..., str]) -> None:
    path = write_mod("echo", ECHO)
    assert (await network.load_mod(path)).success
    await network.unload_mod("echo")
    (known,) = network._running().mods._recipe.compiled._mods.values()
    for file, (of, code) in known.items():
        known[file] = of, code[:-20]
    assert (await network.load_mod(path)).success
    assert await ask(network) == "1.0"
