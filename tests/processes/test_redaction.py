"""Secrets of a mod in all that is shown of it, or kept for people: logs, crash reports, dead letters, watched events."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from modvisor.ipc.messages import pack
from modvisor.supervisor import AgentNetwork, Event
from modvisor.supervisor.http.admin.events import event_line
from modvisor.supervisor.journal import JournalAtRest
from tests.conftest import until

pytestmark = pytest.mark.anyio

LEAKY = """
    import os
    from modvisor.mods import BaseMod, EventResponse, mod_event_handler

    class Leaky(BaseMod):
        def initialize(self):
            print("started with", os.environ["KEY"], "and token=tok-printed", flush=True)

        @mod_event_handler("leaky.fail")
        async def fail(self, event):
            raise ValueError("no access with " + os.environ["KEY"])

        @mod_event_handler("leaky.die")
        async def die(self, event):
            print("dies with", os.environ["KEY"], flush=True)
            os._exit(3)
"""
SECRETS = ("s3cr3t-in-file", "tok-printed", "4444-5555", "pw-of-the-payload")


async def test_a_secret_of_a_mod_is_shown_nowhere(
    make_network: Callable[..., AgentNetwork],
    write_mod: Callable[..., str],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    write_mod("leaky", LEAKY)
    network = make_network(
        redact=["card_number"],
        mods=[{"path": "./leaky", "env": {"KEY": SECRETS[0]}, "max_attempts": 1, "restart": {"first_delay": 0.001}}],
    )
    await network.initialize()
    payload = {"card_number": SECRETS[2], "deep": [{"password": SECRETS[3], "text": "shown"}]}
    with network.tap() as watched:
        failed = await network.process_event(Event("leaky.fail", "agent:ann", "mod:leaky", payload=payload))
        assert failed.error == "handler_error"
        dead = await network.process_event(Event("leaky.die", "agent:ann", "mod:leaky", payload=payload))
        assert dead.error == "dead_lettered"
        lines = [event_line(*watched.get_nowait(), network.redaction.data) for _ in range(2)]
    await until(lambda: network.get_loaded_mods()["leaky"]["state"] == "ready")
    assert network.dead_letters is not None
    letter = await network.dead_letters.show(dead.data["dead_letter"])
    assert letter["event"]["payload"] == {"card_number": "***", "deep": [{"password": "***", "text": "shown"}]}
    shown = {
        "log": "\n".join(network.mod_log("leaky")),
        "log file": "".join(path.read_text() for path in (tmp_path / "state" / "logs").iterdir()),
        "crashes": json.dumps(network.get_crashes()),
        "stats": json.dumps(network.get_network_stats(), default=str),
        "letter": json.dumps(letter),
        "watched": b"".join(lines).decode(),
    }
    assert "started with *** and token=***" in shown["log"]
    assert "dies with ***" in shown["crashes"]
    await network.shutdown()
    with JournalAtRest(tmp_path / "state" / "network.db") as journal:
        reports, figures = journal.crashes(None), journal.last_stats()
        kept = journal.dead_letter(dead.data["dead_letter"])
    assert len(reports) == 1
    shown["reports on disk"] = str(reports)
    shown["figures on disk"] = str(figures)
    assert kept.event["payload"] == payload, "a replay needs it"
    assert b"shown" not in pack(reports), "no payload in a crash report"
    found = [(place, secret) for place, text in shown.items() for secret in SECRETS if secret in text]
    assert found == []
    assert network.redaction.text(f"api_key={SECRETS[0]}") == "api_key=***"
