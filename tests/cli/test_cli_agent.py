"""``modvisor agent``: lines in, lines out, over the real client and a real network."""

from __future__ import annotations

import json
import os
import pty
import select
import signal
import stat
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from modvisor.supervisor.cli.terminal.chat import Command as Slash
from modvisor.supervisor.cli.terminal.chat import Mistake, Said, event_text, read_line, response_text
from modvisor_client import Event, Response
from tests import warm
from tests.http.certificates import Certificates

from .conftest import COMMAND, DEADLINE, Command, Served


@pytest.mark.parametrize(
    ("line", "asked"),
    [
        ("", None),
        ("  ", None),
        ("@bob hello there", Said("agent.message", "agent:bob", {"text": "hello there"})),
        ("#general hello", Said("agent.message", "channel:general", {"text": "hello"})),
        ("wiki.page.list", Said("wiki.page.list")),
        ('wiki.page.get {"path": "a b"}', Said("wiki.page.get", None, {"path": "a b"})),
        ('math.add @bob {"of": [1]}', Said("math.add", "agent:bob", {"of": [1]})),
        ("wiki.page.list mod:wiki", Said("wiki.page.list", "mod:wiki")),
        ("/join #general", Slash("join", ["#general"])),
        ("/", Slash("", [])),
    ],
)
def test_a_line_says_what_to_send(line: str, asked: Any) -> None:
    assert read_line(line) == asked


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("hello", "expected the name of an event such as"),
        ("@bob", "expected a text behind it"),
        ("wiki.page.get {path}", r"not JSON: .* \(column 2\)"),
        ("wiki.page.get mod:wiki [1]", "expected a JSON object"),
    ],
)
def test_a_line_that_says_nothing_is_a_mistake_that_says_what_was_expected(line: str, text: str) -> None:
    with pytest.raises(Mistake, match=text):
        read_line(line)


def test_what_comes_is_shown_short() -> None:
    said = Event("agent.message", "agent:bob", payload={"text": "hi"})
    assert event_text(said) == "bob: hi"
    in_channel = Event("agent.message", "bob", destination_id="channel:general", payload={"text": "hi"})
    assert event_text(in_channel) == "bob #general: hi"
    assert event_text(Event("wiki.page.changed", "mod:wiki", payload={"path": "é"})) == (
        'mod:wiki: wiki.page.changed {"path": "é"}'
    )
    assert response_text(Response(True, "delivered to 1 agent", {"delivered": 1})) == "= delivered to 1 agent"
    assert response_text(Response(True, "", {"a": 1})) == '= ok {"a": 1}'
    assert response_text(Response(False, "no mod x", {"error": "no_such_mod"})) == "! no mod x (no_such_mod)"


def test_lines_of_a_pipe_are_done_in_order(cli: Command, asked: Served) -> None:
    lines = 'test.ping {"i": 4}\nhello\n@nobody hi\n\n/join general\n/agents\n/help\n/quit\ntest.ping {}\n'
    result = cli("agent", "alice", stdin=lines)
    assert result.exit_code == 0, result.output
    out = result.stdout.splitlines()
    assert out[:3] == [
        '= ok {"pong": 4, "version": "1.0"}',
        "! no agent 'nobody' is registered (no_such_agent)",
        "= ok",
    ]
    assert json.loads(out[3])["agent_id"] == "alice"
    assert out[4].startswith("NAME.OF.EVENT")
    assert out[-1] == "/help  /quit"
    assert "agent alice of demo; /help lists what can be typed" in result.stderr
    assert "error: hello: expected the name of an event" in result.stderr
    assert not asked.network.agent_directory()


def test_a_command_that_is_refused_does_not_end_the_session(cli: Command, asked: Served) -> None:
    result = cli("agent", "alice", stdin='/part nowhere\ntest.ping {"i": 4}\n')
    assert result.exit_code == 0, result.output
    refused, answer = result.stdout.splitlines()
    assert (refused, answer) == ("! no channel 'nowhere' (no_such_channel)", '= ok {"pong": 4, "version": "1.0"}')


def test_json_is_a_line_for_each_answer_and_event(cli: Command, asked: Served) -> None:
    result = cli("agent", "alice", "--json", stdin='test.ping {"i": 4}\n/mods\n')
    response, mods = map(json.loads, result.stdout.splitlines())
    assert (response["response"]["data"], mods["mods"][0]["mod_id"]) == ({"pong": 4, "version": "1.0"}, "echo")
    assert result.stderr == ""


def test_the_secret_may_be_kept(cli: Command, asked: Served, tmp_path: Path) -> None:
    path = tmp_path / "secret"
    for _ in range(2):
        cli.ok("agent", "alice", "--secret-file", str(path), "--url", asked.url, stdin="test.ping\n")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert "alice" in asked.network.agent_directory()
    refused = cli("agent", "alice", "--url", asked.url, stdin="")
    assert (refused.exit_code, "(id_taken)" in refused.stderr) == (1, True)
    cli.ok("agent", "alice", "--secret-file", str(path), stdin="system.unregister_agent\n")


GROUPED = """
network: {name: demo, port: 0}
mods: [{path: ./echo}]
agent_groups:
  crew: {password_hash: %s}
"""


def test_a_group_is_joined_by_its_password(
    cli: Command, serve: Callable[..., Served], monkeypatch: pytest.MonkeyPatch
) -> None:
    serve(GROUPED % "2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b")  # secret
    monkeypatch.setenv("MODVISOR_PASSWORD", "secret")
    assert "group crew" in cli("agent", "alice", "--group", "crew", stdin="test.ping\n").stderr
    monkeypatch.setenv("MODVISOR_PASSWORD", "guess")
    assert cli("agent", "alice", "--group", "crew", stdin="").exit_code == 6


def test_over_tls_a_certificate_is_trusted_by_its_file(
    cli: Command, serve: Callable[..., Served], tmp_path: Path
) -> None:
    Certificates.at(tmp_path)
    serve("network: {name: demo, port: 0, tls: {cert: cert.pem, key: key.pem}}\nmods: [{path: ./echo}]\n")
    assert '{"pong": 1' in cli.ok("agent", "alice", "--ca", "ca.pem", stdin='test.ping {"i": 1}\n')
    refused = cli("agent", "alice", stdin="")
    assert (refused.exit_code, "--ca names the certificate to trust (untrusted)" in refused.stderr) == (6, True)


def test_no_network_and_no_port_are_told(cli: Command, serve: Callable[..., Served]) -> None:
    assert cli("agent", "alice", "--url", "http://127.0.0.1:1", stdin="").exit_code == 3
    assert cli("agent", "not an id", "--url", "http://127.0.0.1:1", stdin="").exit_code == 2
    serve("network: {name: demo}\nmods: [{path: ./echo}]\n")
    result = cli("agent", "alice", stdin="")
    assert result.exit_code == 1
    assert "it has no port; set network.port in its file" in result.stderr


@pytest.fixture
def talking(asked: Served) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    started: list[subprocess.Popen[str]] = []

    def start(*args: str, **how: Any) -> Any:
        process = warm.Popen([*COMMAND, "agent", *args], cwd=asked.folder, **how)
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.wait(DEADLINE)


def test_events_are_shown_as_they_come_until_it_is_interrupted(
    talking: Callable[..., Any], asked: Served, cli: Command
) -> None:
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    bob = talking("bob", "--stay", **pipes)
    assert "agent bob of demo" in bob.stderr.readline()
    bob.stdin.close()
    cli.ok("agent", "alice", stdin="@bob hello\n")
    assert bob.stdout.readline() == "alice: hello\n"
    bob.send_signal(signal.SIGINT)
    assert bob.wait(DEADLINE) == 5
    assert "Traceback" not in bob.stderr.read()
    assert not asked.network.agent_directory()
    bob.stdout.close()
    bob.stderr.close()


def test_a_terminal_has_a_prompt_and_events_stand_above_it(
    talking: Callable[..., Any], asked: Served, cli: Command
) -> None:
    ours, theirs = pty.openpty()
    try:
        bob = talking("bob", stdin=theirs, stdout=theirs, stderr=theirs)
        os.close(theirs)
        shown = read_until(ours, b"bob> ")
        cli.ok("agent", "alice", stdin="@bob hello\n")
        shown = read_until(ours, b"hello\r\nbob> ")
        assert b"\r\x1b[Kalice: hello\r\nbob> " in shown
        os.write(ours, b'test.ping {"i": 1}\n')
        read_until(ours, b'= ok {"pong": 1, "version": "1.0"}')
        os.write(ours, b"/quit\n")
        assert bob.wait(DEADLINE) == 0
    finally:
        os.close(ours)


def read_until(fd: int, expected: bytes) -> bytes:
    read, end = b"", time.monotonic() + DEADLINE
    while expected not in read:
        assert select.select([fd], [], [], end - time.monotonic())[0], f"waited for {expected!r}, got {read!r}"
        read += os.read(fd, 4096)
    return read
