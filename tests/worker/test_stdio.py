"""What the worker itself writes into the mod's log."""

from __future__ import annotations

import io
import sys

import pytest

from modvisor.ipc.errors import ModvisorError
from modvisor.worker import stdio


def test_every_word_of_the_worker_is_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    stdio.say("one")
    stdio.say("two\n")
    assert capsys.readouterr().err == "one\ntwo\n"


def test_an_error_is_reported_by_its_traceback_if_it_has_one(capsys: pytest.CaptureFixture[str]) -> None:
    stdio.report(ModvisorError("no", traceback="Traceback …\n"))
    stdio.report(ModvisorError("no", traceback=""))
    assert capsys.readouterr().err == "Traceback …\nERROR no\n"


def test_a_stream_that_the_mod_has_closed_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    stream.close()
    monkeypatch.setattr(sys, "stderr", stream)
    stdio.say("nobody hears it")
    stdio.flush()
