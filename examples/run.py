"""Start the example network, replay a git repository's history through its mods, and keep serving.

    python examples/run.py [REPOSITORY] [--port N] [--limit N] [--once]

You could type all of it by hand: ``modvisor run``, ``git_history.py``, ``modvisor replay``,
``modvisor send`` and ``modvisor ps``.
"""

from __future__ import annotations

import argparse
import json
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

HERE = Path(__file__).resolve().parent
NETWORK = HERE / "network.yaml"
STATE = HERE / ".modvisor"
READY = "ready in "


def modvisor(*words: str) -> list[str]:
    """Return the command line of the ``modvisor`` command of this Python."""
    return [sys.executable, "-m", "modvisor", *words]


def say(text: str) -> None:
    print(f"\n--- {text}", flush=True)


@contextmanager
def running_network(port: int | None) -> Iterator[subprocess.Popen[str]]:
    """Start a network and wait until it is ready. Stop it at the end."""
    options = [] if port is None else ["--port", str(port)]
    with subprocess.Popen(modvisor("run", str(NETWORK), *options), stdout=subprocess.PIPE, text=True) as network:
        assert network.stdout is not None
        printer = threading.Thread(target=pass_on, args=(network.stdout,), daemon=True)
        try:
            for line in network.stdout:
                print(line, end="", flush=True)
                if line.startswith(READY):
                    break
            else:
                raise SystemExit(network.wait() or 1)  # its own message says why it did not start
            printer.start()
            yield network
        finally:
            # Ask the network to stop, instead of sending a signal. Its terminal or service manager
            # may have sent it one already, and a second one would kill it.
            stop = modvisor("--file", str(NETWORK), "stop")
            if subprocess.run(stop, check=False, capture_output=True).returncode and network.poll() is None:
                network.send_signal(signal.SIGTERM)
            network.wait()
            if printer.is_alive():
                printer.join()  # it reads to the end before the pipe is closed


def pass_on(lines: IO[str]) -> None:
    """Print what the network prints later, on a reload or at its end."""
    for line in lines:
        print(line, end="", flush=True)


def call(*words: str) -> None:
    """Run a ``modvisor`` command and show its output."""
    subprocess.run(modvisor("--file", str(NETWORK), *words), check=True)


def ask(event: str, **payload: object) -> dict[str, object]:
    """Send an event to the network and return the data of the answer."""
    words = modvisor("--file", str(NETWORK), "--json", "send", event, json.dumps(payload), "--as", "agent:visitor")
    return json.loads(subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True).stdout)["data"]


def replay(repository: Path, limit: int) -> None:
    """Replay the commits since the last run; the mods still have the data of the earlier ones."""
    STATE.mkdir(exist_ok=True)
    history, bookmark = STATE / "history.jsonl", STATE / "replayed"
    words = [sys.executable, str(HERE / "git_history.py"), str(repository), "--project", "demo", "--limit", str(limit)]
    if bookmark.exists():
        words += ["--after", bookmark.read_text().strip()]
    with history.open("w") as file:
        subprocess.run(words, stdout=file, check=True)
    call("replay", str(history))
    newest = subprocess.run(["git", "-C", str(repository), "log", "-1", "--no-merges", "--format=%H"],
                            stdout=subprocess.PIPE, check=True, text=True)  # fmt: skip
    bookmark.write_text(newest.stdout)


def tour() -> None:
    """Print what the four mods know by now."""
    pages = ask("wiki.page.list")["pages"]
    print("wiki       pages:", ", ".join(page["path"] for page in pages))  # type: ignore[union-attr]
    commits = ask("project.commit.list", project_id="demo", limit=1)["commits"]
    print("project    newest commit:", commits[0]["message"])  # type: ignore[index]
    messages = ask("messaging.channel.history", channel="commits", limit=1)["messages"]
    print("messaging  newest message:", messages[-1]["text"])  # type: ignore[index]
    summary = ask("analytics.summary.get", window="1h")
    print(f"analytics  {summary['events']} events observed, {summary['rate']:.1f} per second")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("repository", nargs="?", default=HERE.parent, type=Path)
    parser.add_argument("--port", type=int, help="listen here instead of the port in network.yaml; 0 takes a free one")
    parser.add_argument("--limit", type=int, default=2000, help="replay only the newest N commits (default: 2000)")
    parser.add_argument("--once", action="store_true", help="stop after the tour instead of serving")
    options = parser.parse_args()
    # Leave by an exception, so that `running_network` stops the network.
    signal.signal(signal.SIGTERM, lambda _signum, _frame: sys.exit(128 + signal.SIGTERM))
    say(f"modvisor run {NETWORK.relative_to(HERE.parent)}")
    with running_network(options.port) as network:
        say("the history of this repository, replayed through the mods")
        replay(options.repository, options.limit)
        say("what the mods know by now")
        tour()
        say("modvisor ps")
        call("ps")
        if not options.once:
            say("serving; Ctrl-C ends it. In another terminal: cd examples; ../.venv/bin/modvisor ps")
            signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the network too; wait while it drains
            network.wait()


if __name__ == "__main__":
    main()
