"""``modvisor top`` on a real terminal: tmux, at the sizes that people have, with colours and without."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from .conftest import COMMAND, DEADLINE, Command, Running

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("tmux") is None, reason="needs a terminal without a person: apt install tmux"),
]

COLOUR = re.compile(r"\x1b\[(?:[\d;]*;)?(?:[349][0-7]|[34]8;)[\d;]*m")


class Terminal:
    """A terminal of tmux with one program on it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._socket = folder / "tmux.sock"

    def start(self, width: int, height: int, **env: str) -> None:
        given = [f"{name}={value}" for name, value in env.items()]
        size = ("-x", str(width), "-y", str(height))
        line = shlex.join(["env", *given, *COMMAND, "top"]) + "; echo ended with $?; exec cat"
        self.tmux("-f", "/dev/null", "new-session", "-d", *size, "-c", str(self._folder), line)

    def tmux(self, *args: str) -> str:
        done = subprocess.run(
            ["tmux", "-S", str(self._socket), *args],
            capture_output=True, text=True, timeout=DEADLINE, check=True, env={**os.environ, "LC_ALL": "C.UTF-8"},
        )  # fmt: skip
        return done.stdout

    def press(self, *keys: str) -> None:
        self.tmux("send-keys", *keys)

    def screen(self, *more: str) -> str:
        return self.tmux("capture-pane", "-p", *more)

    def until(self, pattern: str) -> str:
        """Wait until a pattern is on the screen."""
        deadline = time.monotonic() + DEADLINE
        while re.search(pattern, shown := self.screen(), re.M) is None:
            assert time.monotonic() < deadline, f"no {pattern!r} on the screen:\n{shown}"
            time.sleep(0.05)
        return shown


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Terminal]:
    made = Terminal(tmp_path)
    yield made
    made.tmux("kill-server")


@pytest.mark.parametrize(("width", "height", "last"), [(80, 24, "UP"), (200, 50, "AUDIENCE")])
def test_it_fills_the_terminal_follows_its_size_and_ends_with_q(
    running: Running, terminal: Terminal, cli: Command, width: int, height: int, last: str
) -> None:
    terminal.start(width, height, COLUMNS="90", LINES="20")  # as of another terminal
    shown = terminal.until(r"(?s)^echo +ready.*^\? keys  q quit").splitlines()
    assert (len(shown), max(map(len, shown)) <= width) == (height, True)
    assert next(line for line in shown if line.startswith("MOD")).split()[-1] == last
    cli.ok("send", "test.ping", '{"i": 1}')
    terminal.press("Enter")
    terminal.until(r"^mod path +\./echo")
    terminal.press("q")
    terminal.until(r"^MOD ")
    terminal.tmux("resize-window", "-x", "50", "-y", "12")
    small = terminal.until(r"(?s)^MOD .*^echo .*^\? keys .*(R reload|e events|L log)$").splitlines()
    assert (len(small), max(map(len, small)) <= 50) == (12, True)
    terminal.press("R")
    terminal.until("reload echo\\?")
    terminal.press("y")
    terminal.until("mod echo reloaded")
    terminal.press("q")
    terminal.until("^ended with 0")


@pytest.mark.parametrize("env", [{"NO_COLOR": "1"}, {"TERM": "vt100"}])
def test_without_colours_what_is_chosen_is_inverted(running: Running, terminal: Terminal, env: dict[str, str]) -> None:
    terminal.start(80, 24, **env)
    terminal.until(r"^echo +ready")
    assert COLOUR.search(shown := terminal.screen("-e")) is None, shown
    assert re.search(r"\x1b\[7mecho", shown)


def test_a_locale_without_blocks_gets_letters(running: Running, terminal: Terminal) -> None:
    terminal.start(80, 24, LC_ALL="C", PYTHONUTF8="0", PYTHONCOERCECLOCALE="0")
    terminal.until(r"^echo +ready")
    terminal.press("?")
    assert terminal.until(r"\+- keys -+\+").isascii()


def test_a_dumb_terminal_gets_tables(running: Running, terminal: Terminal) -> None:
    terminal.start(80, 24, TERM="dumb")
    terminal.until(r"^echo +ready")
    assert "\x1b" not in terminal.screen()
    terminal.press("C-c")
    terminal.until("ended with 5")


def test_a_network_that_was_killed_is_found_again(
    running: Running, start: Callable[..., Running], terminal: Terminal
) -> None:
    terminal.start(80, 24)
    terminal.until(r"^echo +ready")
    running.kill()
    assert "echo" in terminal.until("connection lost, trying again")
    start(network=None)
    terminal.until("1 mod: 1 ready  0 agents(?!.*lost)")
    terminal.press("q")
    terminal.until("^ended with 0")
