"""The network's own messages as JSON: one object a line, with the ids that a message is about, and no secret."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from modvisor.supervisor import AgentNetwork
from modvisor.supervisor.cli.running.json_lines import json_formatter, named_in
from modvisor.supervisor.cli.terminal.exits import ExitCode
from tests import warm

from .conftest import COMMAND, DEADLINE, NETWORK


def record(template: str, *args: Any, **more: Any) -> logging.LogRecord:
    made = logging.LogRecord("modvisor.x", logging.WARNING, "", 0, template, args, more.pop("exc_info", None))
    made.__dict__.update(more)
    return made


def line(*given: Any, mask: Callable[[str], str] = str, **more: Any) -> dict[str, Any]:
    text = json_formatter(mask).format(record(*given, **more))
    assert "\n" not in text
    return json.loads(text)


def test_a_line_has_time_level_logger_and_message_in_front() -> None:
    found = line("mod %s: its request %s failed", "wiki", "query", created=1.5)
    assert list(found)[:4] == ["time", "level", "logger", "message"]
    assert found == {
        "time": "1970-01-01T00:00:01.500Z", "level": "warning", "logger": "modvisor.x",
        "message": "mod wiki: its request query failed", "mod": "wiki",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("template", "args", "named"),
    [
        ("event %s of mod %s was given up", ("e1", "wiki"), {"event_id": "e1", "mod": "wiki"}),
        ("agent %s did not get the late answer to event %s", ("ann", "e1"), {"agent": "ann", "event_id": "e1"}),
        ("100 %% of mod %s", ("wiki",), {"mod": "wiki"}),
        ("%d of %d changes, the first of mod %s", (1, 2, "wiki"), {"mod": "wiki"}),
        ("mod %(name)s", ({"name": "wiki"},), {}),
        ("nothing is named", (), {}),
    ],
)
def test_ids_are_found_where_the_template_names_them(template: str, args: Any, named: dict[str, str]) -> None:
    assert named_in(template, record(template, *args).args) == named


def test_what_the_code_says_itself_comes_before_what_the_template_says() -> None:
    assert line("mod %s", "wiki#1", mod="wiki", event_id="e1")["mod"] == "wiki"
    assert line("mod %s", "wiki#1", mod="wiki", event_id="e1")["event_id"] == "e1"


def test_a_traceback_is_part_of_the_line() -> None:
    try:
        raise RuntimeError("no luck")
    except RuntimeError:
        found = line("failed", exc_info=sys.exc_info())
    assert found["exception"].startswith("Traceback (most recent call last):")
    assert found["exception"].endswith("RuntimeError: no luck")


def test_secrets_are_masked_in_messages_tracebacks_and_ids_and_the_line_stays_json() -> None:
    network = AgentNetwork.from_config({"network": {"name": "x"}})
    try:
        raise RuntimeError('password="hush hush"')
    except RuntimeError:
        found = line(
            'refused token="%s"', "hush", mask=network.redaction.text, exc_info=sys.exc_info(), agent="token=hush"
        )
    assert "hush" not in json.dumps(found)


def test_a_network_writes_its_messages_as_json(tmp_path: Path, write_mod: Callable[..., str]) -> None:
    write_mod("echo")
    (tmp_path / "network.yaml").write_text(NETWORK)
    command = [*COMMAND, "--json", "run", "--log-format", "json"]
    with warm.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            ready = json.loads(process.stdout.readline())
            os.kill(ready["mods"][0]["pid"], signal.SIGKILL)
            assert process.stderr is not None
            crash = json.loads(process.stderr.readline())
            process.send_signal(signal.SIGINT)
            process.communicate(timeout=DEADLINE)
        finally:
            process.kill()
    assert (crash["logger"], crash["mod"], crash["level"]) == ("modvisor.keeper", "echo", "warning")
    assert "SIGKILL" in crash["message"]


def test_without_the_library_the_message_says_what_to_install(tmp_path: Path) -> None:
    (tmp_path / "network.yaml").write_text("network: {name: demo, log_format: json}\n")
    script = "import sys; sys.modules['structlog'] = None; from modvisor.supervisor.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", script, "run"], cwd=tmp_path, capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode == ExitCode.START_FAILED
    assert "install modvisor[logs]" in done.stderr
