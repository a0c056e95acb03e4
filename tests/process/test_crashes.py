from __future__ import annotations

import signal
from pathlib import Path

import pytest

from modvisor.supervisor.process import crashes
from modvisor.supervisor.process.crashes import Cause, crash_cause, last_traceback, where_it_was
from modvisor.supervisor.process.process import Exit


def stamped(text: str) -> list[str]:
    return [f"2026-11-23T03:00:00.000Z {line}" for line in text.splitlines()]


def test_the_last_traceback_is_found_without_the_stamps() -> None:
    log = """starting
Traceback (most recent call last):
  File "a.py", line 1, in <module>
ValueError: first
working
Traceback (most recent call last):
  File "b.py", line 2, in run
KeyError: second
bye"""
    assert (
        last_traceback(stamped(log))
        == """Traceback (most recent call last):
  File "b.py", line 2, in run
KeyError: second
bye"""
    )


def test_a_dump_of_several_threads_is_one() -> None:
    log = """working
Fatal Python error: Segmentation fault

Thread 0x00007f01 (most recent call first):
  File "a.py", line 1 in wait

Current thread 0x00007f02 (most recent call first):
  File "b.py", line 2 in crash"""
    words = last_traceback(stamped(log))
    assert words is not None
    assert words.splitlines()[0] == "Fatal Python error: Segmentation fault"
    assert words.splitlines()[-1] == '  File "b.py", line 2 in crash'


def test_no_last_words() -> None:
    assert last_traceback(stamped("hello\nworld")) is None
    assert last_traceback([]) is None


@pytest.mark.parametrize(
    ("exit", "known", "cause"),
    [
        (Exit(3, None), None, Cause.EXITED),
        (Exit(0, None), None, Cause.EXITED),
        (Exit(None, signal.SIGSEGV), None, Cause.SIGNAL),
        (Exit(None, signal.SIGXCPU), None, Cause.LIMIT_HIT),
        (Exit(None, signal.SIGKILL), Cause.HANG, Cause.HANG),
    ],
)
def test_every_end_has_a_cause(exit: Exit, known: Cause | None, cause: Cause) -> None:
    assert crash_cause(exit, known) is cause


def test_where_a_process_was_is_the_first_frame_of_the_mods_own_code() -> None:
    ours = Path(crashes.__file__).parents[2] / "worker" / "life.py"
    stacks = (
        "Current thread 0x1 (most recent call first):\n"
        '  File "/usr/lib/python3.11/time.py", line 1 in sleep\n'
        f'  File "{ours}", line 166 in _load\n'
        '  File "/srv/mods/slow/mod.py", line 7 in initialize\n'
        '  File "/srv/mods/slow/mod.py", line 99 in elsewhere\n'
    )
    assert where_it_was(stacks) == "; it was at /srv/mods/slow/mod.py:7 in initialize"
    assert where_it_was("") == where_it_was('  File "<frozen runpy>", line 88 in _run_code') == ""
