"""Which event loop a process gets, and what it is told when uvloop cannot be had."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from modvisor.supervisor.clock import new_loop
from modvisor.supervisor.runtime import (
    ASYNCIO,
    SWITCH,
    UVLOOP,
    NoUvloop,
    choose_loop,
    has_uvloop,
    loop_name,
    share_interpreter,
)

BROKEN = "raise ImportError('uvloop/loop.so: undefined symbol: uv_wrong')"

needs_uvloop = pytest.mark.skipif(not has_uvloop(), reason="uvloop is not installed here")


@pytest.fixture
def uvloop_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str | None], None]:
    """Put another uvloop before the installed one; None: uninstall it."""

    def put(source: str | None) -> None:
        monkeypatch.delitem(sys.modules, "uvloop", raising=False)
        if source is None:
            monkeypatch.setattr("sys.path", [])
            return
        (tmp_path / "uvloop").mkdir()
        (tmp_path / "uvloop" / "__init__.py").write_text(source)
        monkeypatch.syspath_prepend(tmp_path)

    return put


def name_of_new_loop(wanted: str) -> str:
    loop = new_loop(wanted)
    try:
        return loop_name(loop)
    finally:
        loop.close()


@needs_uvloop
def test_uvloop_is_the_default_where_it_is_installed() -> None:
    assert [name_of_new_loop(wanted) for wanted in ("auto", "uvloop", "asyncio")] == [UVLOOP, UVLOOP, ASYNCIO]


def test_an_ordinary_loop_is_asyncio_s() -> None:
    loop = asyncio.new_event_loop()
    loop.close()
    assert loop_name(loop) == ASYNCIO


@pytest.mark.parametrize("source", [BROKEN, "import greenish", "1 / 0"], ids=["library", "dependency", "other"])
def test_a_broken_uvloop_is_replaced_by_asyncio_and_told_once(
    source: str, uvloop_is: Callable[[str | None], None], caplog: pytest.LogCaptureFixture
) -> None:
    uvloop_is(source)
    with caplog.at_level(logging.WARNING):
        assert name_of_new_loop("auto") == ASYNCIO
    (record,) = caplog.records
    assert "uvloop is installed and cannot be imported" in record.getMessage()
    assert any(why in record.getMessage() for why in ("undefined symbol", "greenish", "division by zero"))
    assert "pip install --force-reinstall uvloop" in record.getMessage()
    with pytest.raises(NoUvloop, match="cannot be imported"):
        choose_loop("uvloop")


def test_without_uvloop_asyncio_is_taken_without_a_word(
    uvloop_is: Callable[[str | None], None], caplog: pytest.LogCaptureFixture
) -> None:
    uvloop_is(None)
    assert name_of_new_loop("auto") == ASYNCIO
    assert not caplog.records
    with pytest.raises(NoUvloop, match=r"pip install 'modvisor\[fast\]'"):
        new_loop("uvloop")


def test_a_thread_that_computes_lets_the_loop_go_on_soon() -> None:
    before, pythons_own = sys.getswitchinterval(), 0.005
    try:
        sys.setswitchinterval(pythons_own)
        share_interpreter()
        assert sys.getswitchinterval() == pytest.approx(SWITCH)
        assert pythons_own / 5 > SWITCH
    finally:
        sys.setswitchinterval(before)
