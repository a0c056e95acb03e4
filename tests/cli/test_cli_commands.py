"""Every command against a real network."""

from __future__ import annotations

import json
import os
import shlex
import signal
import sqlite3
import subprocess
import venv
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import psutil
import pytest

from modvisor.ipc.messages import unpack
from tests import warm

from .conftest import COMMAND, DEADLINE, NETWORK, Command, Running, Served, Shell

TALKER = """
    from modvisor.mods import BaseMod, EventResponse, mod_event_handler

    class Talker(BaseMod):
        @mod_event_handler("talk.line.say")
        async def say(self, event):
            print(event.payload["text"], flush=True)
            return EventResponse(True)

        @mod_event_handler("talk.config.get")
        async def config_get(self, event):
            import os
            return EventResponse(True, data={"config": self.config, "env": os.environ.get("TALK")})
"""

DIES = """
    import os
    from modvisor.mods import BaseMod, mod_event_handler

    class Dies(BaseMod):
        @mod_event_handler("die.now")
        async def die(self, event):
            os._exit(3)
"""


def test_validate_looks_into_the_mods_own_files(cli: Command, tmp_path: Path, write_mod: Callable[..., str]) -> None:
    write_mod("echo")
    (tmp_path / "network.yaml").write_text("network: {name: demo}\nmods: [./echo]\n")
    file = tmp_path / "mods" / "echo" / "mod.yaml"
    file.write_text("limits:\n  memory: lots\n")
    (problem,) = cli.json("validate", "network.yaml", code=4)["problems"]
    assert (problem["file"], problem["line"], problem["key"]) == (str(file), 2, "limits.memory")
    file.write_text("limits: {memory: 300MB}\n")
    assert cli("validate", "network.yaml").exit_code == 0


def test_ps_lists_mods(asked: Served, cli: Command) -> None:
    header, line = cli.ok("ps").splitlines()
    assert header.split() == [
        *("ID", "VERSION", "STATE", "PID", "UP", "CPU", "RSS", "USS", "IN", "FAILED"),
        *("P50", "ms", "P99", "ms", "RESTARTS"),
    ]
    assert line.split()[:4] == ["echo", "1.0", "ready", str(asked.network.get_loaded_mods()["echo"]["pid"])]
    (mod,) = cli.json("ps")["mods"]
    assert mod["mod_id"] == "echo"


def test_options_may_stand_before_the_command(asked: Served, cli: Command) -> None:
    socket = asked.socket
    assert json.loads(cli.ok("--json", "--socket", socket, "ps"))["mods"]
    assert cli.json("ps", "-f", str(asked.folder / "network.yaml"))["mods"]


def test_a_broken_file_does_not_keep_anybody_from_looking_and_stopping(running: Running, cli: Command) -> None:
    (running.folder / "network.yaml").write_text("network: {name: demo, prot: 1}\nmods: 7\n")
    assert cli.json("ps")["mods"]
    (running.folder / "network.yaml").write_text("network: {name: [\n")
    assert cli.json("stop")["data"] == {"stopped": True, "pid": running.pid}


def test_stats_of_the_network_and_of_one_mod(served: Served, cli: Command) -> None:
    cli.ok("send", "test.ping")
    text = cli.ok("stats")
    assert "demo (demo)" in text
    assert "1, 1 ready" in text
    assert cli.json("stats")["events"]["processed"] >= 1
    assert cli.json("stats", "./echo")["traffic"]["answered"] == 1
    assert "latency p50 ms" in cli.ok("stats", "echo")
    result = cli("stats", "nobody")
    assert result.exit_code == 1
    assert "no mod 'nobody' is loaded (loaded: echo)" in result.stderr


def test_send_prints_the_answer(asked: Served, cli: Command) -> None:
    assert '"pong": 7' in cli.ok("send", "test.ping", '{"i": 7}')
    (asked.folder / "payload.json").write_text('{"i": 8}')
    assert cli.json("send", "test.ping", "@payload.json")["data"]["pong"] == 8
    assert cli.json("send", "test.ping", "-", "--as", "agent:ann", stdin='{"i": 9}')["data"]["pong"] == 9
    assert cli.json("send", "test.ping", "--to", "mod:echo", "--timeout", "5")["success"]
    assert '"pong": "Привет"' in cli.ok("send", "test.ping", '{"i": "Привет"}')


def test_a_failed_event_is_exit_1_and_still_one_document(asked: Served, cli: Command) -> None:
    result = cli("send", "test.nothing", "--to", "agent:nobody")
    assert result.exit_code == 1
    assert "no agent 'nobody' is registered (no_such_agent)" in result.stderr
    assert result.stdout == ""
    document = cli.json("send", "test.nothing", "--to", "agent:nobody", code=1)
    assert document["data"]["error"] == "no_such_agent"


@pytest.mark.parametrize(
    ("args", "complaint"),
    [
        (("send", "test.ping", "{"), "the payload: not JSON"),
        (("send", "test.ping", "[1]"), "the payload: expected a JSON object"),
        (("send", "test.ping", "@missing.json"), "the payload: cannot read missing.json: No such file"),
        (("load", "./echo", "--env", "A"), "--env A: expected NAME=VALUE"),
        (("load", "./echo", "--limit", "memory"), "--limit memory: expected KEY=VALUE such as memory=512MB"),
        (("ps", "--socket", "x", "--url", "http://127.0.0.1:1"), "--socket and --url name two networks"),
        (("ps", "--url", "127.0.0.1:1"), "expected a URL such as"),
    ],
)
def test_what_cannot_be_read_is_a_usage_error(cli: Command, args: tuple[str, ...], complaint: str) -> None:
    result = cli(*args)
    assert result.exit_code == 2
    assert complaint in result.stderr


def test_an_event_name_that_is_none_is_refused_by_the_network(asked: Served, cli: Command) -> None:
    assert cli.json("send", "Bad Name", code=1)["data"]["error"] == "invalid_event"


def test_a_mod_in_quarantine(serve: Callable[..., Served], cli: Command, write_mod: Callable[..., str]) -> None:
    """Why it is down, what it was, and how it comes back; a crash says what was used and for which time it was tried."""
    write_mod("dies", DIES)
    serve(network=NETWORK + "  - {path: ./dies, restart: {max_restarts: 0, first_delay: 10ms}}\n")
    assert cli("send", "die.now", "--as", "agent:ann").exit_code == 1
    while cli.json("stats", "dies")["state"] != "quarantined":
        pass
    assert "\ndies is quarantined: ended 1 times within 60 s; " in cli.ok("ps")
    assert "    bring it back with: modvisor restart dies (" in cli.ok("ps")
    figures = " ".join(cli.ok("stats", "dies").split())
    assert "quarantined ended 1 times within 60 s" in figures
    assert "limit threads 500" in figures
    assert cli.ok("restart", "dies").startswith("mod dies restarted (pid ")
    assert "quarantined" not in cli.ok("ps")


def test_what_a_mod_dies_of(serve: Callable[..., Served], cli: Command, write_mod: Callable[..., str]) -> None:
    write_mod("dies", DIES)
    serve(network=NETWORK + "  - {path: ./dies, restart: {first_delay: 10ms}}\n")
    assert cli.json("send", "die.now", "--as", "agent:ann", code=1)["data"]["error"] == "dead_lettered"
    first, second = cli.ok("crashes", "dies").strip().split("\n\n")
    assert "exited: exit code 3\n  incarnation 1, pid " in first
    assert " s of processor, at most " in first
    assert "  was handling die.now from agent:ann\n" in first + "\n"
    assert "  was handling die.now from agent:ann (attempt 2)\n" in second
    assert "the event is to blame, not the mod" in second
    figures = " ".join(cli.ok("stats", "dies").split())
    assert "traffic redelivered 1 traffic dead lettered 1" in figures
    assert ", after " in figures.partition("last crash")[2]
    figures = " ".join(cli.ok("stats").split())
    assert "dead letters 1, " in figures
    assert "journal write errors 0" in figures


def test_load_unload_reload(served: Served, cli: Command, write_mod: Callable[..., str]) -> None:
    write_mod("talker", TALKER)
    options = ("--id", "voice", "--config", '{"a": 1}', "--env", "TALK=loud=1")
    assert cli.ok("load", "./talker", *options).startswith("mod voice 0.0.0 loaded from ./talker (pid ")
    data = cli.json("send", "talk.config.get")["data"]
    assert data == {"config": {"a": 1}, "env": "loud=1"}
    write_mod("talker", TALKER.replace('"env"', '"environment"'))
    assert cli.ok("reload", "voice", "--config", '{"a": 2}').startswith("mod voice reloaded")
    assert cli.json("send", "talk.config.get")["data"] == {"config": {"a": 2}, "environment": "loud=1"}
    assert cli.ok("unload", "./talker", "--timeout", "3") == "mod voice unloaded\n"
    assert [mod["mod_id"] for mod in cli.json("ps")["mods"]] == ["echo"]
    assert cli.json("unload", "voice", code=1)["data"]["error"] == "no_such_mod"
    assert cli.json("reload", "voice", code=1)["data"]["error"] == "no_such_mod"
    assert cli.json("load", "./echo", code=1)["data"]["error"] == "already_loaded"


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (["load", ".hello"], "did you mean './hello'?"),
        (["load", "mods/hello/"], "did you mean './hello'?"),
        (["load", "no such"], "expected 'pkg.mods.wiki'"),
        (["load", "./Upper"], "expected lower-case letters"),
        (["load", "./echo", "--id", "No Id"], "expected lower-case letters"),
        (["load", "./nowhere"], "is a folder"),
        (["swap", "echo", ".hello"], "did you mean './hello'?"),
        (["reload", "echo", "--path", ".hello"], "did you mean './hello'?"),
    ],
)
def test_a_wrong_value_of_an_entry_is_exit_4_like_one_in_the_file(
    asked: Served, cli: Command, command: list[str], said: str
) -> None:
    (asked.folder / "mods" / "Upper").mkdir(exist_ok=True)
    document = cli.json(*command, code=4)
    assert document["data"]["error"] == "bad_config"
    assert said in document["message"]


def test_load_another_version_with_libraries_and_a_python_of_its_own(
    served: Served, cli: Command, write_mod: Callable[..., str], tmp_path: Path
) -> None:
    source = TALKER.replace("class Talker(BaseMod):", "class Talker(BaseMod):\n        version = words.VERSION")
    write_mod("talker/versions/1.4", source.replace("from modvisor", "import words\n    from modvisor", 1))
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "words.py").write_text("VERSION = '1.4'\n")
    venv.create(tmp_path / "own", with_pip=False, symlinks=True)
    options = ("--version", "1.4.0", "--python", str(tmp_path / "own"), "--add-path", str(tmp_path / "lib"))
    assert cli.ok("load", "./talker", "--id", "old", *options).startswith("mod old 1.4 loaded from ./talker (pid ")
    command = psutil.Process(cli.json("ps")["mods"][1]["pid"]).cmdline()
    assert command[0] == str(tmp_path / "own" / "bin" / "python")
    failed = cli.json("load", "./talker", "--id", "new", "--version", "2.0", code=1)
    assert (failed["data"]["error"], failed["data"]["available"]) == ("wrong_version", ["1.4"])


def test_load_with_limits_and_guarantees(served: Served, cli: Command) -> None:
    options = (
        "--limit",
        "memory=300MB",
        "--limit",
        "cpu=0.5",
        "--limit",
        "threads=null",
        "--limit",
        "event_timeout=2m",
    )
    cli.ok("load", "./echo", "--id", "second", *options, "--durable", "--max-attempts", "3", "--checkpoint-every", "5m")
    limits = cli.json("stats", "second")["limits"]
    assert {key: limits[key]["limit"] for key in ("memory", "cpu", "threads")} == {
        "memory": 300_000_000, "cpu": 0.5, "threads": None,
    }  # fmt: skip
    served.stop()
    with closing(sqlite3.connect(served.folder / ".modvisor" / "network.db")) as database:
        ((spec,),) = database.execute("SELECT spec FROM mod").fetchall()
    assert unpack(spec) == {
        "limits": {"memory": "300MB", "cpu": 0.5, "threads": None, "event_timeout": "2m"},
        "durable": True, "max_attempts": 3, "checkpoint_every": "5m",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (("--limit", "memory=lots"), "./echo: limits.memory: expected a size such as '512MB', got 'lots' (bad_config)"),
        (("--limit", "memroy=1GB"), "./echo: limits.memroy: unknown key; did you mean 'memory'? (bad_config)"),
        (("--limit", "cpu=fast"), "limits.cpu: expected a number from 0.01 to 10000, got 'fast'"),
        (("--limit", "cpu=NaN"), "limits.cpu: expected a number from 0.01 to 10000"),
        (("--limit", "memory=200MB", "--limit", "memory_soft=1GB"), "limits.memory_soft: must be less than memory"),
        (("--max-attempts", "0"), "./echo: max_attempts: expected a whole number from 1 to 100, got 0"),
        (("--checkpoint-every", "often"), "checkpoint_every: expected seconds or a duration such as '30s' (units: ms"),
    ],
)  # fmt: skip
def test_what_a_mods_entry_cannot_be_is_refused_in_the_words_of_the_file(
    asked: Served, cli: Command, options: tuple[str, ...], complaint: str
) -> None:
    result = cli("load", "./echo", "--id", "second", *options)
    assert result.exit_code == 4
    assert complaint in result.stderr
    assert [mod["mod_id"] for mod in cli.json("ps")["mods"]] == ["echo"]


def test_what_the_file_forbids_is_not_allowed(serve: Callable[..., Served], cli: Command) -> None:
    serve(network=NETWORK + 'allowed_mods: ["./echo"]\n')
    assert cli.json("load", "modvisor.mods.workspace.wiki", code=6)["data"]["error"] == "forbidden"


def test_logs_of_a_running_and_of_a_stopped_network(
    served: Served, cli: Command, write_mod: Callable[..., str]
) -> None:
    cli.ok("load", write_mod("talker", TALKER))
    for text in ("one", "two", "\x1b[31mred"):
        cli.ok("send", "talk.line.say", json.dumps({"text": text}))
    lines = cli.ok("logs", "talker", "-n", "2").splitlines()
    assert [line.rpartition(" ")[2] for line in lines] == ["two", "\N{REPLACEMENT CHARACTER}[31mred"]
    assert [json.loads(line)["line"][-3:] for line in cli.ok("logs", "talker", "--json").splitlines()][:2] == [
        "one",
        "two",
    ]
    assert cli("logs", "nobody").exit_code == 1
    served.stop()
    result = cli("logs", "./talker", "-n", "2")
    assert result.stdout.splitlines() == lines
    assert "this is the log it left" in result.stderr
    assert cli("logs", "nobody").exit_code == 3
    assert cli("logs", "talker", "--follow").exit_code == 3


def test_logs_follow(served: Served, cli: Command, write_mod: Callable[..., str]) -> None:
    cli.ok("load", write_mod("talker", TALKER))
    cli.ok("send", "talk.line.say", '{"text": "before"}')
    with warm.Popen([*COMMAND, "logs", "talker", "-f"], stdout=subprocess.PIPE) as follower:
        try:
            assert follower.stdout is not None
            assert follower.stdout.readline().endswith(" before\n")
            cli.ok("send", "talk.line.say", '{"text": "after"}')
            assert follower.stdout.readline().endswith(" after\n")
            follower.send_signal(signal.SIGINT)
            assert follower.wait(DEADLINE) == 5
        finally:
            follower.kill()


def test_events_are_watched_until_the_network_ends(served: Served, cli: Command) -> None:
    with warm.Popen([*COMMAND, "--json", "events", "test.*"], stdout=subprocess.PIPE) as watcher:
        try:
            assert watcher.stdout is not None
            assert json.loads(watcher.stdout.readline()) == {"listening": True}
            cli("send", "other.thing", "--to", "agent:nobody")
            cli.ok("send", "test.ping", '{"i": 1}', "--as", "agent:ann")
            record = json.loads(watcher.stdout.readline())
            assert record["event"]["event_name"] == "test.ping"
            assert record["event"]["source_id"] == "agent:ann"
            assert record["response"]["data"]["pong"] == 1
            served.stop()
            assert watcher.wait(DEADLINE) == 0
        finally:
            watcher.kill()


def test_events_for_people_with_a_count(asked: Served, cli: Command) -> None:
    with warm.Popen([*COMMAND, "events", "-n", "2"], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as watcher:
        try:
            assert watcher.stderr is not None
            assert watcher.stderr.readline() == "watching *; Ctrl-C ends it\n"
            cli.ok("send", "test.ping", "--as", "agent:ann")
            cli("send", "test.other", "--to", "agent:nobody")
            out, _ = watcher.communicate(timeout=DEADLINE)
        finally:
            watcher.kill()
    first, second = out.splitlines()
    assert first[9:] == "test.ping agent:ann  ok"
    assert second[9:].startswith("test.other system:system → agent:nobody  no_such_agent: no agent 'nobody'")
    assert watcher.returncode == 0


def test_events_into_a_pipe_that_closes(asked: Served, cli: Command) -> None:
    command = shlex.join([*COMMAND, "--json", "events"])
    with subprocess.Popen(
        ["bash", "-c", f"{command} | head -1; echo ${{PIPESTATUS[0]}}"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as shell:  # fmt: skip
        try:
            assert shell.stdout is not None
            assert shell.stdout.readline() == '{"listening": true}\n'
            while shell.poll() is None:  # the first write after head has gone fails
                cli.ok("send", "test.ping")
            assert shell.stdout.read() == "0\n"
            assert shell.stderr is not None
            assert shell.stderr.read() == ""
        finally:
            shell.kill()


def test_replay(served: Served, cli: Command, tmp_path: Path) -> None:
    event = {"event_name": "test.ping", "source_id": "agent:ann", "payload": {}}
    lines = [json.dumps({**event, "payload": {"i": i}}) for i in range(1200)]
    lines += ["", "{", '{"event_name": "BAD"}', json.dumps({"event": event, "response": {"success": True}})]
    lines += [json.dumps({**event, "event_name": "test.lost", "destination_id": "agent:nobody"})]
    (tmp_path / "events.jsonl").write_text("\n".join(lines))
    result = cli("replay", "events.jsonl", "--json", "--concurrency", "8")
    assert result.exit_code == 1
    summary = json.loads(result.stdout)
    assert (summary["events"], summary["answered"], summary["delivered"]) == (1202, 1201, 0)
    assert summary["failed"] == {"no_such_agent": 1}
    assert [each["line"] for each in summary["malformed"]] == [1202, 1203]
    assert "error: line 1202: not JSON" in result.stderr
    assert "error: line 1203: event_name 'BAD'" in result.stderr
    assert cli.json("stats", "echo")["traffic"]["answered"] == 1201


def test_replay_from_standard_input_and_again(served: Served, cli: Command) -> None:
    line = json.dumps({"event_name": "test.ping", "source_id": "agent:ann", "event_id": "e1"})
    text = cli.ok("replay", "-", stdin=line)
    assert [each.split()[-1] for each in text.splitlines()[:2]] == ["1", "1"]
    cli.ok("replay", "-", stdin=line)
    assert cli.json("stats", "echo")["traffic"]["answered"] == 1  # the network remembered the id
    cli.ok("replay", "-", "--new-ids", "--any-order", stdin=line)
    assert cli.json("stats", "echo")["traffic"]["answered"] == 2


@pytest.mark.parametrize(("interrupted", "code", "error"), [(True, 5, "interrupted"), (False, 3, "no_network")])
def test_a_replay_that_ends_early_says_what_it_did(
    running: Running, cli: Command, interrupted: bool, code: int, error: str
) -> None:
    batch = '{"event_name": "test.ping", "source_id": "agent:ann"}\n' * 500
    command = [*COMMAND, "--json", "replay", "-"]
    with warm.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as sender:
        try:
            assert sender.stdin is not None
            sender.stdin.write(batch)
            sender.stdin.flush()
            while cli.json("stats", "echo")["traffic"]["answered"] < 500:
                assert sender.poll() is None
            if interrupted:
                sender.send_signal(signal.SIGINT)
            else:
                assert running.end() == 0
            out, errors = sender.communicate(None if interrupted else batch, timeout=DEADLINE)
        finally:
            sender.kill()
    assert sender.returncode == code
    assert "Traceback" not in errors
    document = json.loads(out)
    assert (document["success"], document["data"]["error"]) == (False, error)
    assert document["events"] in (
        range(501) if interrupted else (500,)
    )  # the answer may not have been read, or in part


def test_replay_of_a_file_that_is_not_there(asked: Served, cli: Command) -> None:
    result = cli("replay", "missing.jsonl")
    assert result.exit_code == 2
    assert "cannot read missing.jsonl: No such file" in result.stderr


def test_reconfigure(served: Served, cli: Command, write_mod: Callable[..., str]) -> None:
    write_mod("second")
    (served.folder / "network.yaml").write_text(NETWORK + "  - path: ./second\n")
    assert list(cli.json("reconfigure")["data"]["added"]) == ["second"]
    (served.folder / "network.yaml").write_text("network: {name: demo, prot: 1}\n")
    document = cli.json("reconfigure", code=4)
    assert document["data"]["problems"][0]["key"] == "network.prot"


def test_stop_waits_for_the_end_of_the_process(running: Running, cli: Command) -> None:
    text = cli.ok("stop")
    assert text == f"the network of network.yaml has stopped (pid {running.pid})\n"
    assert running.process.wait(DEADLINE) == 0
    assert running.left() == set()
    result = cli("stop")
    assert result.exit_code == 3
    socket = running.said[0]["admin_socket"]
    assert result.stderr == (
        f"error: no network is running for network.yaml (no socket at {socket}); "
        "start it with: modvisor run network.yaml\n"
    )


def test_stop_without_waiting(running: Running, cli: Command) -> None:
    assert cli.json("stop", "--no-wait")["data"] == {"stopped": False, "pid": None}
    assert running.process.wait(DEADLINE) == 0


def test_over_http_with_a_token(start: Callable[..., Running], cli: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    running = start(network=NETWORK + "admin: {token: a-token-of-some-length}\n")
    url = running.said[-1]["url"]
    refused = cli("ps", "--url", url)
    assert refused.exit_code == 6
    assert "give --token or MODVISOR_TOKEN" in refused.stderr
    assert cli.json("ps", "--url", url, "--token", "wrong", code=6)["data"]["error"] == "unauthenticated"
    assert cli.json("ps", "--url", url + "/", "--token", "a-token-of-some-length")["mods"]
    monkeypatch.setenv("MODVISOR_URL", url)
    monkeypatch.setenv("MODVISOR_TOKEN", "a-token-of-some-length")
    assert cli.json("ps")["mods"]
    assert cli.json("stop")["data"] == {"stopped": False, "pid": None}
    assert running.process.wait(DEADLINE) == 0
    assert cli("ps").exit_code == 3


def test_a_network_without_a_token_has_no_admin_api_over_http(asked: Served, cli: Command) -> None:
    result = cli("ps", "--url", asked.url, "--token", "any")
    assert result.exit_code == 6
    assert "make a new one on its machine: modvisor token create NAME" in result.stderr


def test_a_socket_in_a_deep_folder(start: Callable[..., Running], cli: Command, tmp_path: Path) -> None:
    deep = "/".join(["a-folder-with-a-long-name"] * 5)
    start(network=NETWORK.replace("port: 0", f"storage: {deep}"))
    assert len(str(tmp_path / deep)) > 107
    assert cli.json("ps")["mods"]
    assert cli.json("stop")["data"]["stopped"]


def test_a_new_mod_passes_its_test_and_loads(served: Served, cli: Command, tmp_path: Path) -> None:
    made = cli.json("new", "price_watch")
    assert [Path(file).name for file in made["files"]] == ["__init__.py", "mod.py", "mod.yaml", "test_mod.py"]
    said = (tmp_path / "mods" / "price_watch" / "mod.yaml").read_text().splitlines()[0]
    assert said == "# yaml-language-server: $schema=../mod.schema.json"
    assert json.loads((tmp_path / "mods" / "mod.schema.json").read_text())["properties"]["limits"]
    assert cli.json("new", "second")["mod_path"] == "./second"
    result = warm.run_pytest("--strict-markers", "-W", "error", "mods", folder=tmp_path, timeout=DEADLINE)
    assert "6 passed" in result.stdout, result.stdout + result.stderr
    assert cli.json("load", made["mod_path"])["data"]["mod_id"] == "price_watch"
    payload = '{"name": "Ada"}'
    assert cli.ok("send", "price_watch.greeting.get", payload).startswith("Hello, Ada!")
    cli.ok("reload", "price_watch")
    assert cli.json("send", "price_watch.greeting.get", payload)["data"] == {"count": 2}
    assert cli("new", "second").exit_code == 1


@pytest.mark.parametrize("name", ["Price", "price-watch", "../up", "json", "class", ""])
def test_a_name_that_cannot_be_a_package(cli: Command, tmp_path: Path, name: str) -> None:
    assert cli("new", name).exit_code == 2
    assert not (tmp_path / "mods").exists()


def test_the_shell_completes_mods_and_paths(served: Served, shell: Shell, write_mod: Callable[..., str]) -> None:
    write_mod("second")
    assert shell.in_a_process("modvisor unload ") == shell("modvisor unload ") == ["echo"]
    assert shell("modvisor unload x") == []
    assert shell("modvisor load ./") == ["./echo", "./second"]
    assert "modvisor.mods.workspace.wiki" in shell("modvisor load modvisor")
    assert shell("modvisor load ./echo --limit mem") == ["memory=", "memory_soft="]
    os.rename("network.yaml", "other.yaml")
    assert shell("modvisor unload ") == []
    assert shell("modvisor -f other.yaml unload ") == ["echo"]
    assert shell("modvisor unload --file other.yaml ") == ["echo"]
    served.stop()
    assert shell("modvisor -f other.yaml unload ") == []


def test_what_could_be_loaded_with_a_network_and_without_one(
    served: Served, cli: Command, write_mod: Callable[..., str]
) -> None:
    write_mod("broken", "x = (")
    found = {mod["mod_path"]: mod for mod in cli.json("mods")["mods"]}
    assert (found["./echo"]["versions"], found["./echo"]["loaded"]) == (["1.0"], ["echo"])
    assert "SyntaxError" in found["./broken"]["error"]
    lines = cli.ok("mods").splitlines()
    assert lines[0].split() == ["NAME", "VERSIONS", "FROM", "LOADED", "PATH", "REQUIRES", "DESCRIPTION"]
    assert ["echo", "1.0", "network", "echo", "./echo", "-", "-"] in [line.split() for line in lines]
    assert [line for line in lines if line.startswith("./broken: ")]
    served.stop()
    without = {mod["mod_path"]: mod for mod in cli.json("mods")["mods"]}
    assert without == {path: {**mod, "loaded": []} for path, mod in found.items()}
    (served.folder / "network.yaml").write_text("network: {prot: 1}")
    assert cli("mods").exit_code == 4


def test_a_mod_with_what_it_requires(served: Served, cli: Command, write_mod: Callable[..., str]) -> None:
    write_mod("wiki")
    source = "from modvisor.mods import BaseMod\nclass Shop(BaseMod):\n    requires = ['wiki>=1']\n"
    assert cli.ok("load", write_mod("shop", source)).rstrip().endswith(", and with it wiki")
    figures = cli.json("stats", "wiki")
    assert (figures["dependency"], figures["required_by"]) == (True, ["shop"])
    refused = cli("unload", "wiki")
    assert (refused.exit_code, "mod wiki is needed by shop" in refused.output) == (1, True)
    assert cli.json("unload", "wiki", code=1)["data"]["needed_by"] == ["shop"]
    assert cli.ok("unload", "wiki", "--cascade") == "mod wiki unloaded, and with it shop\n"
    assert [mod["mod_id"] for mod in cli.json("ps")["mods"]] == ["echo"]
