"""An operator's drill: six nights on which something is wrong, each solved by what the tool prints.

    python examples/drill.py [quarantine disk deploy leak token journal]

Each night starts a real network, breaks something, and then does only what an operator does who has
never seen the sources: type a command, read what it prints, and do what that says. Every command
after the first one is taken from the words that were printed before it; if they are not there, the
night ends with an error. The night of the full disk needs root, to mount a small disk.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

PATIENCE = 60.0  # seconds
MODVISOR = [sys.executable, "-m", "modvisor"]
MOD = """
from modvisor.mods import BaseMod, EventResponse, mod_event_handler

class Desk(BaseMod):
    version = "{version}"
    kept = []

    def initialize(self):
        {initialize}

    @mod_event_handler("desk.ask")
    def ask(self, event):
        {ask}
        return EventResponse(True, "version " + self.version)
"""


class Stuck(Exception):
    """What was printed does not say what to do."""


Popen = Callable[..., "subprocess.Popen[str]"]


class Night:
    """One network that somebody has to look after, and what was printed so far."""

    def __init__(self, folder: Path, popen: Popen, entry: str = "", network: str = "") -> None:
        self.folder = folder
        self._popen = popen
        self.seen = ""
        self._entry, self._network = entry, network
        self._process: subprocess.Popen[str] | None = None

    # -- how the trouble comes

    def write_mod(self, version: str = "1.0", initialize: str = "pass", ask: str = "pass") -> None:
        file = self.folder / "mods" / "desk" / "mod.py"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(MOD.format(version=version, initialize=initialize, ask=ask))

    def write_file(self, entry: str) -> None:
        text = f"network: {{name: night, port: 0{self._network}}}\nmods:\n  - {{path: ./desk{entry}}}\n"
        (self.folder / "network.yaml").write_text(text)

    def start(self) -> None:
        """Start the network; its log is what the operator has on the other screen."""
        self.stop()
        self.write_file(self._entry)
        self._process = self._popen(
            [*MODVISOR, "run"], cwd=self.folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._show(line.rstrip())
            if line.startswith("ready in "):
                return
        raise Stuck("the network did not start")

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            rest, _ = self._process.communicate(timeout=60)
            self.seen += rest
            self._process = None

    def say(self, text: str) -> None:
        print(f"\n# {text}")

    # -- what the operator does

    def type(self, *words: str, fails: bool = False, **environment: str) -> str:
        """Type a command. Return what it printed."""
        shown = " ".join(f"{name}={value}" for name, value in environment.items())
        print(f"$ {shown}{' ' if shown else ''}modvisor {' '.join(words)}")
        code, said = self._run(words, environment)
        self._show(said.rstrip())
        if (code != 0) != fails:
            raise Stuck(f"exit code {code}, which the operator did not expect")
        return said

    def watch(self, wanted: str, *words: str) -> None:
        """Type a command again and again, until it prints what fits; only that is shown."""
        deadline = time.monotonic() + PATIENCE
        code, said = self._run(words, {})
        while not re.search(wanted, said):
            if code or time.monotonic() > deadline:
                self._show(said.rstrip())
                raise Stuck(f"'modvisor {' '.join(words)}' does not print {wanted!r}")
            time.sleep(0.2)
            code, said = self._run(words, {})
        print(f"$ modvisor {' '.join(words)}      # again and again")
        self._show("\n".join(line for line in said.splitlines() if re.search(wanted, line)))
        self.seen += said

    def _run(self, words: tuple[str, ...], environment: dict[str, str]) -> tuple[int, str]:
        variables = {**os.environ, "COLUMNS": "160", **environment}
        with self._popen(
            [*MODVISOR, *words], cwd=self.folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=variables
        ) as process:
            said, _ = process.communicate(timeout=120)
        return process.returncode, said

    def told(self, pattern: str) -> re.Match[str]:
        """Return what was printed and fits; the operator knows no more than that."""
        found = list(re.finditer(pattern, self.seen))
        if not found:
            raise Stuck(f"nothing that was printed says {pattern!r}")
        return found[-1]

    def obey(self, *words: str, also: tuple[str, ...] = (), fails: bool = False, **environment: str) -> str:
        """Type a command that was printed before, word by word; ``also``: what the operator fills in."""
        self.told(r"modvisor\s+" + r"\s+".join(map(re.escape, words)))
        return self.type(*words, *also, fails=fails, **environment)

    def _show(self, text: str) -> None:
        self.seen += text + "\n"
        if text:
            print(textwrap.indent("\n".join(text.splitlines()[:14]), "  "))


def quarantine(night: Night) -> None:
    """A mod dies again and again, and is kept down."""
    night.write_mod(ask="import os; os._exit(3)")
    night.start()
    night.say("Agents get errors since ten past two.")
    for _ in range(2):
        night.type("send", "desk.ask", fails=True)
    night.type("ps")
    night.told("desk is quarantined: ended 2 times")
    night.obey("crashes", "desk")
    night.told("exit code 3")
    night.say("The line that ends the process is mended.")
    night.write_mod(version="1.1")
    night.obey("reload", "desk")
    night.type("send", "desk.ask")
    night.say("And the event that died?")
    letter = re.search(r"^ *(\d+) ", night.type("dlq", "ls"), re.MULTILINE)
    if letter is not None:
        night.type("dlq", "replay", letter[1])


def disk(night: Night) -> None:
    """The disk of the state directory is full."""
    night.start()
    ballast = night.folder / "disk" / "ballast"
    with ballast.open("wb", buffering=0) as file:
        try:
            while file.write(b"x" * 4096):
                pass
        except OSError:
            pass
    night.say("Durable events are refused.")
    night.type("send", "desk.ask", fails=True)
    night.told("disk is full; free some space")
    night.obey("doctor")
    where = night.told(r"state directory\s+(\S+): 0\.0 MB free")[1]
    night.told("free some space: the journal, the mods' files and their logs grow here")
    largest = max(Path(where).rglob("*"), key=lambda path: path.stat().st_size)
    night.say(f"The largest file there is {largest.name}. It goes; nothing is restarted.")
    largest.unlink()
    night.type("send", "desk.ask")


def deploy(night: Night) -> None:
    """A new version never gets ready."""
    night.write_mod()
    night.start()
    night.write_mod(version="2.0", initialize="import time; time.sleep(3600)")
    night.say("The deploy hangs.")
    night.type("reload", "desk", fails=True)
    night.told("the old one still serves")
    place = night.told(r"not ready within its start timeout of \S+ s; it was at (\S+):(\d+) in (\w+)")
    line = Path(place[1]).read_text().splitlines()[int(place[2]) - 1]
    night.say(f"Line {place[2]} is: {line.strip()}")
    assert "sleep(3600)" in line
    night.type("send", "desk.ask")
    night.write_mod(version="2.1")
    night.type("reload", "desk")
    assert "version 2.1" in night.type("send", "desk.ask")


def leak(night: Night) -> None:
    """A mod keeps what it should let go."""
    night.write_mod(ask="self.kept.append(bytearray(17_000_000))")
    night.start()
    night.say("Since an hour ago some events fail.")
    for _ in range(3):
        night.type("send", "desk.ask")
    night.type("send", "desk.ask", fails=True)
    night.told("hit the limit memory")
    night.watch("that 'limits.memory' allows", "ps")  # its memory is measured every few seconds
    night.obey("restart", "desk")
    night.type("send", "desk.ask")
    night.told("with 'limits.memory_soft', the network does so in time, without losing an event")
    night.say("Until its authors mend it, the network replaces it in time.")
    night.write_file(", limits: {memory: 80MB, memory_soft: 30MB}")
    night.type("reconfigure")
    for replaced in (1, 2):
        night.type("send", "desk.ask")
        night.type("send", "desk.ask")
        night.watch(rf"recycled +{replaced}\b", "stats", "desk")


def token(night: Night) -> None:
    """Nobody knows the operator's token any more."""
    night.start()
    url = night.told(r"http://[\d.]+:\d+")[0]
    night.type("token", "create", "ops", "--scope", "operate")
    night.say("A year later, at another desk.")
    night.type("ps", "--url", url, fails=True, MODVISOR_TOKEN="forgotten")
    night.told("A lost one cannot be shown again; make a new one on its machine")
    night.say("On the machine of the network.")
    said = night.obey("token", "create", also=("night-shift", "--scope", "operate"))
    made = next(word for word in said.split() if word.startswith("mvt_"))
    night.told("give it to 'modvisor --url' as MODVISOR_TOKEN")
    night.type("ps", "--url", url, MODVISOR_TOKEN=made)
    night.say("The old one may be anywhere.")
    night.type("token", "list")
    night.type("token", "revoke", "ops")


def journal(night: Night) -> None:
    """The file of the journal is damaged."""
    night.start()
    register = '{"agent_id": "alice"}'
    night.type("send", "system.register_agent", register, "--as", "agent:alice")
    night.type("backup", "monday.db")
    night.stop()
    file = night.folder / ".modvisor" / "network.db"
    file.write_bytes(b"\xff" * file.stat().st_size)
    for beside in file.parent.glob("network.db-*"):
        beside.unlink()
    night.say("The machine lost power. The network is back, without its agents.")
    night.start()
    night.told("was damaged .*The damaged file is now network.db.damaged-")
    night.told("To go back to a copy instead: modvisor restore FILE")
    night.obey("restore", also=("monday.db",), fails=True)
    night.told("'modvisor stop' stops it")
    night.obey("stop")
    night.obey("restore", also=("monday.db",))
    night.start()
    assert "alice" in night.type("send", "system.list_agents", "--json")


@contextmanager
def small_disk(folder: Path) -> Iterator[None]:
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=6m,mode=700", "tmpfs", folder], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


Story = Callable[[Night], None]
NIGHTS: dict[str, tuple[Story, dict[str, str]]] = {
    "quarantine": (quarantine, {"entry": ", restart: {max_restarts: 1}"}),
    "disk": (disk, {"entry": ", durable: true", "network": ", storage: disk"}),
    "deploy": (deploy, {"entry": ", limits: {start_timeout: 2}"}),
    "leak": (leak, {"entry": ", limits: {memory: 80MB}"}),
    "token": (token, {}),
    "journal": (journal, {}),
}


def popen(words: list[str], **how: Any) -> subprocess.Popen[str]:
    return subprocess.Popen(words, text=True, **how)


def live_through(name: str, popen: Popen = popen) -> None:
    """Live through one night. Raises `Stuck` if what is printed does not help."""
    story, how = NIGHTS[name]
    print(f"\n==== {name}: {story.__doc__}")
    folder = Path(tempfile.mkdtemp(prefix=f"drill-{name}-"))
    night = Night(folder, popen, **how)
    night.write_mod()
    try:
        if name == "disk":
            with small_disk(folder / "disk"):
                try:
                    story(night)
                finally:
                    night.stop()
        else:
            story(night)
    finally:
        night.stop()
        shutil.rmtree(folder, ignore_errors=True)
    print(f"\n==== {name}: solved")


def main(names: list[str]) -> None:
    if unknown := set(names) - NIGHTS.keys():
        sys.exit(f"there is no night {', '.join(sorted(unknown))}; there are: {', '.join(NIGHTS)}")
    for name in names or NIGHTS:
        if name == "disk" and os.geteuid() != 0:
            print("\n==== disk: left out; only root can mount a small disk")
            continue
        live_through(name)


if __name__ == "__main__":
    main(sys.argv[1:])
