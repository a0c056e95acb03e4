"""Steps of a worker's end; whole ends are in tests/processes."""

from __future__ import annotations

import gzip
import io
import threading
from pathlib import Path
from types import ModuleType

import pytest

from modvisor.worker.endings import clear, name_threads, tolerantly, write_files


def test_the_mods_objects_end_private_names_first() -> None:
    ended: list[str] = []

    class Loud:
        def __init__(self, name: str) -> None:
            self.name = name

        def __del__(self) -> None:
            ended.append(self.name)

    module = ModuleType("mod")
    vars(module).update(public=Loud("public"), _private=Loud("private"))
    clear([module])
    assert ended == ["private", "public"]


def test_what_is_open_is_written(tmp_path: Path) -> None:
    text = (tmp_path / "text").open("w")
    packed = gzip.open(tmp_path / "packed", "wb")  # noqa: SIM115
    text.write("words")
    packed.write(b"bytes")
    write_files([packed, text, text.buffer], close=True)
    assert (tmp_path / "text").read_text() == "words"
    with gzip.open(tmp_path / "packed") as file:
        assert file.read() == b"bytes"
    text.close()
    packed.close()


def test_a_failure_is_printed_and_the_rest_goes_on(capsys: pytest.CaptureFixture[str]) -> None:
    def fail() -> None:
        raise SystemExit("at the very end")

    tolerantly(fail)
    assert "at the very end" in capsys.readouterr().err
    closed = io.StringIO()
    closed.close()
    tolerantly(closed.flush)
    assert capsys.readouterr().err == ""


def test_threads_that_hold_up_the_end_are_named(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("modvisor.worker.endings.PATIENCE", 0.0)
    go = threading.Event()
    threads = [threading.Thread(target=go.wait, name=name, daemon=name == "daemon") for name in ("poller", "daemon")]
    for thread in threads:
        thread.start()
    try:
        name_threads()
        said = capsys.readouterr().err
        assert "its process waits for 1 of its threads: poller;" in said
        assert "daemon=True" in said
    finally:
        go.set()
        for thread in threads:
            thread.join()
    name_threads()
    assert capsys.readouterr().err == ""
