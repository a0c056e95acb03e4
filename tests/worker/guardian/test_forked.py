"""Steps of a forked worker's end; whole ends are in tests/processes."""

from __future__ import annotations

import gzip
import io
import sys
from pathlib import Path
from types import ModuleType

import pytest

from modvisor.worker.guardian.forked import _clear, _flush, _tolerantly

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="Linux")


def test_the_mods_objects_end_private_names_first() -> None:
    ended: list[str] = []

    class Loud:
        def __init__(self, name: str) -> None:
            self.name = name

        def __del__(self) -> None:
            ended.append(self.name)

    module = ModuleType("mod")
    vars(module).update(public=Loud("public"), _private=Loud("private"))
    _clear([module])
    assert ended == ["private", "public"]


def test_what_is_open_is_written(tmp_path: Path) -> None:
    text = (tmp_path / "text").open("w")
    packed = gzip.open(tmp_path / "packed", "wb")  # noqa: SIM115
    text.write("words")
    packed.write(b"bytes")
    _flush([packed, text, text.buffer])
    assert (tmp_path / "text").read_text() == "words"
    with gzip.open(tmp_path / "packed") as file:
        assert file.read() == b"bytes"
    text.close()
    packed.close()


def test_a_failure_is_printed_and_the_rest_goes_on(capsys: pytest.CaptureFixture[str]) -> None:
    def fail() -> None:
        raise SystemExit("at the very end")

    _tolerantly(fail)
    assert "at the very end" in capsys.readouterr().err
    closed = io.StringIO()
    closed.close()
    _tolerantly(closed.flush)
    assert capsys.readouterr().err == ""
