"""`modvisor logs` of several mods: merged in the order of time, each line with its mod."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Callable

import pytest

from tests import warm

from .conftest import COMMAND, DEADLINE, Command, Served

TALKER = """
    from modvisor.mods import BaseMod, EventResponse, mod_event_handler

    class Talker(BaseMod):
        @mod_event_handler("NAME.line.say")
        async def say(self, event):
            print(event.payload["text"], flush=True)
            return EventResponse(True)
"""


def say(cli: Command, mod: str, text: str) -> None:
    cli.ok("send", f"{mod}.line.say", json.dumps({"text": text}))


def talking(serve: Callable[..., Served], cli: Command, write_mod: Callable[..., str]) -> Served:
    """Serve two mods that have written two lines each."""
    for name in ("ann", "bob_b"):
        write_mod(name, TALKER.replace("NAME", name))
    served = serve(network="network: {name: demo}\nmods: [./ann, ./bob_b]\n")
    for number, mod in enumerate(["ann", "bob_b", "ann", "bob_b"]):
        say(cli, mod, f"line {number}")
    return served


def test_several_mods_are_merged_in_the_order_of_time(
    serve: Callable[..., Served], cli: Command, write_mod: Callable[..., str]
) -> None:
    served = talking(serve, cli, write_mod)
    lines = cli.ok("logs", "ann", "bob_b").splitlines()
    assert [line.partition(" | ")[0] for line in lines] == ["ann  ", "bob_b", "ann  ", "bob_b"]
    assert [line[-6:] for line in lines] == [f"line {number}" for number in range(4)]
    assert cli.ok("logs").splitlines() == lines, "without a name: all"
    records = [json.loads(line) for line in cli.ok("logs", "--json", "-n", "1").splitlines()]
    assert [(each["mod"], each["line"][-6:]) for each in records] == [("ann", "line 2"), ("bob_b", "line 3")]

    served.stop()
    kept = cli("logs", "-n", "1")
    assert [line[-6:] for line in kept.stdout.splitlines()] == ["line 2", "line 3"]
    assert "this is the log it left" in kept.stderr


@pytest.mark.slow
def test_several_mods_are_followed(serve: Callable[..., Served], cli: Command, write_mod: Callable[..., str]) -> None:
    talking(serve, cli, write_mod)
    with warm.Popen([*COMMAND, "logs", "-f", "-n", "1", "ann", "bob_b"], stdout=subprocess.PIPE) as follower:
        try:
            assert follower.stdout is not None
            shown = [follower.stdout.readline() for _ in range(2)]
            assert [line[-7:-1] for line in shown] == ["line 2", "line 3"]
            for number, mod in enumerate(["bob_b", "ann"]):
                say(cli, mod, f"more {number}")
                assert follower.stdout.readline().endswith(f" more {number}\n")
            follower.send_signal(signal.SIGINT)
            assert follower.wait(DEADLINE) == 5
        finally:
            follower.kill()
