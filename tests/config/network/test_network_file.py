"""The network file: what it means, and that every mistake in it is reported at once, where it stands."""

from __future__ import annotations

import hashlib
import re
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest
from argon2.low_level import Type, verify_secret
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from modvisor.ipc.errors import ModvisorError
from modvisor.supervisor.config.mods.entry import parse_mod
from modvisor.supervisor.config.mods.mod import LimitsConfig, ModConfig, RestartConfig
from modvisor.supervisor.config.network.network import (
    AdminConfig,
    AgentsConfig,
    GroupConfig,
    JournalConfig,
    LogConfig,
    NetworkConfig,
)
from modvisor.supervisor.config.network.network_file import is_allowed, load_config, parse_config
from modvisor.supervisor.config.sections.audit import AuditConfig
from modvisor.supervisor.config.sections.tls import TlsConfig
from modvisor.supervisor.config.values.env import EnvValue
from modvisor.supervisor.config.values.names import PERMISSIONS
from modvisor.supervisor.config.yaml import source as yaml_source
from modvisor.supervisor.config.yaml.bounds import Bounds
from modvisor.supervisor.config.yaml.source import ConfigError

ROOT = Path(__file__).parents[3]
DOC = (ROOT / "docs" / "config.md").read_text("utf-8")
WIKI = "modvisor.mods.workspace.wiki"
NETWORK = {"network": {"name": "demo"}}


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Load a text as ``network.yaml``, from the folder it is in."""
    monkeypatch.chdir(tmp_path)

    def load(text: str | bytes) -> NetworkConfig:
        raw = text if isinstance(text, bytes) else text.encode()
        (tmp_path / "network.yaml").write_bytes(raw)
        return load_config("network.yaml")

    return load


@pytest.fixture
def mistakes(load):
    """The mistakes in a text, as lines without the file's name."""

    def mistakes(text: str | bytes) -> list[str]:
        with pytest.raises(ConfigError) as caught:
            load(text)
        return [line.removeprefix("network.yaml:").strip() for line in str(caught.value).splitlines()]

    return mistakes


def named(text: str) -> str:
    """A complete file of which only ``text``, from line 2 on, is of interest."""
    return "network: {name: demo}\n" + text


def entry(text: str) -> str:
    """A file with one mod, whose further keys start in line 4."""
    return named(f"mods:\n  - path: {WIKI}\n" + "".join(f"    {line}\n" for line in text.splitlines()))


def parse_mistakes(data: Any, base_dir: Path = ROOT) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        parse_config(data, base_dir=base_dir)
    return str(caught.value).splitlines()


# -- what a file means


def test_smallest_file_has_every_default(load, tmp_path):
    assert load("network: {name: demo}") == NetworkConfig(
        name="demo",
        network_id="demo",
        host="127.0.0.1",
        port=None,
        event_timeout=30.0,
        base_dir=tmp_path,
        file=tmp_path / "network.yaml",
        storage=tmp_path / ".modvisor",
        mod_paths=(),
        mods=(),
        agent_groups={},
        allowed_mods=None,
        agents=AgentsConfig(1000, "drop_oldest", 300.0, 10_000, None),
        admin=AdminConfig(None),
        log=LogConfig(1_000_000, 3),
    )


def test_every_key(load, tmp_path, monkeypatch):
    monkeypatch.setenv("HELLO_KEY", "s3cret")
    (tmp_path / "mods" / "hello").mkdir(parents=True)
    (tmp_path / "lib").mkdir()
    (tmp_path / "token").write_text("a token nobody guesses\n")
    config = load(f"""
network:
  name: My Team
  id: Team.1
  host: 0.0.0.0
  port: 0
  tls: {{cert: server.pem, key: /etc/key.pem, client_ca: ca.pem, client_required: true}}
  event_timeout: 2m
  storage: state
  mod_paths: [lib, {tmp_path}]
  cgroups: false
  preload: [numpy, pandas.io]
mods:
  - {WIKI}
  - name: ./hello
    id: greeter
    enabled: true
    required: true
    config: {{greeting: hi, many: [1, 2.5, null, true], deep: {{a: !!binary aGk=}}}}
    env: {{A: text, N: 1.10, KEY: {{from: "env:HELLO_KEY"}}, PEM: {{from: "file:token"}}, EMPTY: ""}}
    permissions: [mods, agents]
    speak_for: [alice, "mod:wiki", "agent:*", "*"]
    limits:
      concurrency: 1
      queue: 0
      observe_queue: 7
      event_timeout: 500ms
      start_timeout: 1.5
      unload_timeout: 1h
      hang_timeout: 3s
      memory: 1.5GiB
      cpu_seconds: 60
      open_files: 256
      queue_bytes: 5MB
      drain_timeout: 0
      shutdown_timeout: 2s
      term_timeout: 100ms
      memory_soft: 1GiB
      disk: 1GB
      cpu: 0.5
      processes: 3
      threads: null
      log_rate: 1MB
    restart: {{policy: transient, max_restarts: 0, window: 5m, first_delay: 0, max_delay: 700ms, healthy_after: 9,
      probe_after: 5m}}
    delivery: at_most_once
    max_attempts: 3
    durable: true
    checkpoint_every: 30s
agent_groups:
  admins: {{permissions: [channels], password_hash: {"AB" * 32}}}
  guests:
allowed_mods: ["./*", "modvisor.mods.*"]
agents: {{inbox_size: 5, inbox_policy: reject, expire_after: null, max_agents: 9, default_group: guests}}
admin: {{token: {{from: "file:token"}}, remote: true}}
audit: {{mode: best_effort, file_bytes: 1MB, files: 2, key_file: audit.key, refused_bytes: 2KB, syslog: true}}
logs: {{max_bytes: 64KB, backups: 0}}
journal: {{sync: full, dead_letters: 1, dead_letter_bytes: 2MB, dead_letter_age: 1h, durable_events: 3, durable_bytes: 4MB,
  checkpoint_bytes: 5MB}}
""")
    assert config == NetworkConfig(
        name="My Team",
        network_id="Team.1",
        host="0.0.0.0",
        port=0,
        tls=TlsConfig(tmp_path / "server.pem", Path("/etc/key.pem"), tmp_path / "ca.pem", True),
        audit=AuditConfig("best_effort", 1_000_000, 2, tmp_path / "audit.key", 2000, Path("/dev/log")),
        event_timeout=120.0,
        base_dir=tmp_path,
        file=tmp_path / "network.yaml",
        cgroups=False,
        preload=("numpy", "pandas.io"),
        journal=JournalConfig("full", 1, 2_000_000, 3600.0, 3, 4_000_000, 5_000_000),
        storage=tmp_path / "state",
        mod_paths=(tmp_path / "lib", tmp_path),
        mods=(
            ModConfig(WIKI, "wiki"),
            ModConfig(
                "./hello",
                "greeter",
                required=True,
                config={"greeting": "hi", "many": [1, 2.5, None, True], "deep": {"a": b"hi"}},
                env={
                    "A": EnvValue(literal="text"),
                    "N": EnvValue(literal="1.10"),
                    "KEY": EnvValue(variable="HELLO_KEY"),
                    "PEM": EnvValue(file=tmp_path / "token"),
                    "EMPTY": EnvValue(literal=""),
                },
                permissions=frozenset({"mods", "agents"}),
                speak_for=frozenset({"agent:alice", "mod:wiki", "agent:*", "*"}),
                limits=LimitsConfig(
                    concurrency=1,
                    queue=0,
                    queue_bytes=5_000_000,
                    observe_queue=7,
                    event_timeout=0.5,
                    start_timeout=1.5,
                    hang_timeout=3.0,
                    drain_timeout=0.0,
                    shutdown_timeout=2.0,
                    term_timeout=0.1,
                    unload_timeout=3600.0,
                    memory=3 * 2**29,
                    memory_soft=2**30,
                    disk=10**9,
                    cpu=0.5,
                    cpu_seconds=60,
                    open_files=256,
                    processes=3,
                    threads=None,
                    log_rate=1_000_000,
                ),
                restart=RestartConfig("transient", 0, 300.0, 0.0, 0.7, 9.0, 300.0),
                delivery="at_most_once",
                max_attempts=3,
                durable=True,
                checkpoint_every=30.0,
            ),
        ),
        agent_groups={
            "admins": GroupConfig("admins", frozenset({"channels"}), "ab" * 32),
            "guests": GroupConfig("guests", frozenset(), None),
        },
        allowed_mods=("./*", "modvisor.mods.*"),
        agents=AgentsConfig(5, "reject", None, 9, "guests"),
        admin=AdminConfig(EnvValue(file=tmp_path / "token"), remote=True),
        log=LogConfig(64_000, 0),
    )
    assert {name: value.resolve() for name, value in config.mods[1].env.items()} == {
        "A": "text",
        "N": "1.10",
        "KEY": "s3cret",
        "PEM": "a token nobody guesses",
        "EMPTY": "",
    }


def test_sections_left_empty_have_their_defaults(load):
    empty = "mods:\nagent_groups:\nagents:\nadmin:\nlogs:\n"
    assert load(named(empty)) == load(named(""))
    assert load(entry("config:\nenv:\nlimits:\nrestart:")).mods == (ModConfig(WIKI, "wiki"),)


@pytest.mark.parametrize(
    ("name", "network_id"),
    [("demo", "demo"), ("My Team!", "my-team"), ("--", "network"), ("日本", "network"), ("x" * 200, "x" * 128)],
)
def test_network_id_from_the_name(name, network_id):
    assert parse_config({"network": {"name": name}}, base_dir=ROOT).network_id == network_id


@pytest.mark.parametrize(
    ("path", "mod_id"),
    [("pkg.mods.wiki", "wiki"), ("pkg.wiki.mod", "wiki"), ("pkg.wiki:Wiki", "wiki"), ("./hello", "hello")],
)
def test_mod_id_from_the_path(tmp_path, path, mod_id):
    (tmp_path / "hello").mkdir()  # './hello' without a folder mods/
    assert parse_mod({"path": path}, base_dir=tmp_path) == ModConfig(path, mod_id, from_file=False)
    assert parse_mod(path, base_dir=tmp_path, from_file=True) == ModConfig(path, mod_id, from_file=True)


@pytest.mark.parametrize(
    ("written", "seconds"),
    [(30, 30.0), (0.25, 0.25), ("500ms", 0.5), ("700ms", 0.7), ("30s", 30.0), ("1.5 m", 90.0), ("2h", 7200.0)],
)
def test_durations(written, seconds):
    found = parse_mod({"path": WIKI, "limits": {"start_timeout": written}}, base_dir=ROOT).limits.start_timeout
    assert (found, type(found)) == (seconds, float)


@pytest.mark.parametrize(
    ("written", "size"),
    [
        (2_000_000, 2_000_000),
        ("512MB", 512_000_000),
        ("512mb", 512_000_000),
        ("0.29 GB", 290_000_000),
        ("1MiB", 2**20),
        ("1.5GiB", 3 * 2**29),
        ("2TB", 2 * 10**12),
        ("2000000b", 2_000_000),
    ],
)
def test_sizes(written, size):
    assert parse_mod({"path": WIKI, "limits": {"memory": written}}, base_dir=ROOT).limits.memory == size


def test_merge_keys(load):
    config = load(
        named(f"""\
mods:
  - path: {WIKI}
    env: &env {{A: 1.10, B: b}}
    limits: &small {{memory: 512MB, concurrency: 8}}
  - path: modvisor.mods.workspace.project
    env: {{<<: *env, B: 2.50}}
    limits: {{<<: [*small, {{queue: 5, memory: 1GB}}], concurrency: 16}}
  - path: modvisor.mods.workspace.messaging
    limits: *small
""")
    )
    assert config.mods[1].limits == LimitsConfig(memory=512_000_000, queue=5, concurrency=16)
    assert config.mods[2].limits == LimitsConfig(memory=512_000_000, concurrency=8)
    assert config.mods[1].env == {"A": EnvValue(literal="1.10"), "B": EnvValue(literal="2.50")}


def test_aliases_make_copies(load):
    config = load(
        named(f"mods:\n  - {{path: {WIKI}, config: &c {{list: [1]}}}}\n  - {{path: a.b, config: *c}}\n"),
    )
    config.mods[0].config["list"].append(2)
    assert config.mods[1].config == {"list": [1]}


def test_plain_data_is_copied_and_its_tuples_are_lists():
    given_config = {"when": datetime(2026, 1, 31, tzinfo=UTC), "pair": (1, 2)}
    mod = parse_mod({"path": WIKI, "config": given_config}, base_dir=ROOT)
    assert mod.config == {"when": given_config["when"], "pair": [1, 2]}
    assert mod.config is not given_config


def test_relative_paths_start_at_the_file(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "net").mkdir()
    (tmp_path / "net" / "n.yaml").write_text("network: {name: x, storage: ../state}")
    monkeypatch.chdir(tmp_path)
    config = load_config(Path("net/n.yaml"))
    assert config.base_dir == tmp_path / "net"
    assert config.file == tmp_path / "net" / "n.yaml"
    assert config.storage == tmp_path / "state"
    at_home = parse_config({"network": {"name": "x", "storage": "~/state"}}, base_dir="net")
    assert (at_home.base_dir, at_home.storage, at_home.file) == (tmp_path / "net", tmp_path / "home" / "state", None)


def test_a_byte_order_mark_is_no_mistake(load):
    assert load(b"\xef\xbb\xbfnetwork: {name: demo}").name == "demo"


def test_numbers_in_sixties_are_text(load):
    assert load(entry("config: {at: 1:30}\nenv: {AT: 12:30:45}")).mods[0].config == {"at": "1:30"}


# -- several mistakes


def test_the_report_in_the_manual(load):
    """The three mistakes that docs/config.md shows, in a file that makes them."""
    text = f"""\
network:
  name: demo
  prot: 8700
mods:
  - {WIKI}
  - path: modvisor.mods.workspace.project
    limits:
      concurrency: 8
      memory: lots

  # the wiki again
  - {WIKI}
"""
    with pytest.raises(ConfigError) as caught:
        load(text)
    assert str(caught.value) == _blocks("text")[0].strip()


def test_all_mistakes_in_the_order_of_the_file(load):
    with pytest.raises(ConfigError) as caught:
        load("""\
mods:
  - path: Not A Path
    limits: {concurrency: 0, memroy: 1}
  - 5
network:
  id: ok
  port: 70000
  port: 8700
agents: {default_group: gests}
agent_groups:
  guests: {permissions: [mod]}
""")
    error = caught.value
    assert [(problem.file, problem.line, problem.key, problem.message) for problem in error.problems] == [
        (
            "network.yaml",
            2,
            "mods[0].path",
            "mod_path 'Not A Path': expected 'pkg.mods.wiki', 'pkg.module:Class' or './name' "
            "(a folder under mods/ beside the network file)",
        ),
        ("network.yaml", 3, "mods[0].limits.concurrency", "expected a whole number from 1 to 1000000000, got 0"),
        ("network.yaml", 3, "mods[0].limits.memroy", "unknown key; did you mean 'memory'?"),
        ("network.yaml", 4, "mods[1]", "expected a mod_path, or a mapping with a 'path', got 5"),
        ("network.yaml", 5, "network.name", "the key is missing; give the network a name"),
        ("network.yaml", 7, "network.port", "expected a whole number from 0 to 65535, got 70000"),
        ("network.yaml", 8, "network.port", "this key is already given in line 7; remove one"),
        ("network.yaml", 9, "agents.default_group", "no group 'gests' in agent_groups; did you mean 'guests'?"),
        ("network.yaml", 11, "agent_groups.guests.permissions[0]", "unknown permission 'mod'; did you mean 'mods'?"),
    ]
    assert isinstance(error, ModvisorError)
    assert error.code == "bad_config"
    assert error.details == {"problems": str(error).splitlines()}


def test_plain_data_has_no_lines():
    assert parse_mistakes({"network": {"name": 5}, "mods": [{"path": WIKI, "limits": {"memory": "lots"}}]}) == [
        "network.name: expected text, got 5; put it in quotes",
        "mods[0].limits.memory: expected a size such as '512MB', got 'lots'",
    ]


@pytest.mark.parametrize("value", [True, False, None])
def test_whose_files_are_watched(value):
    """Of the network all mods, of a mod that one; null leaves it to the network."""
    mod = parse_mod({"path": WIKI, "watch": value}, base_dir=ROOT)
    assert mod.watch is value
    assert parse_config({"network": {"name": "x", "watch": value is True}}, base_dir=ROOT).watch is (value is True)
    with pytest.raises(ConfigError, match="watch: expected true or false, got 'files'"):
        parse_mod({"path": WIKI, "watch": "files"}, base_dir=ROOT)


def test_one_mod_is_checked_like_an_entry():
    with pytest.raises(ConfigError) as caught:
        parse_mod({"path": WIKI, "ID": "x", "restart": {"policy": "always"}}, base_dir=ROOT)
    assert str(caught.value).splitlines() == [
        "ID: unknown key; known here: aliases, audience, checkpoint_every, command, config, delivery, durable, enabled, env, "
        "id, launch, limits, max_attempts, name, optional, overlap, partition_by, path, paths, permissions, placement, "
        "probation, python, reload, required, requires, restart, sandbox, sandbox_fallback, speak_for, suspects, version, "
        "watch, workers",
        "restart.policy: expected one of permanent, transient, temporary, got 'always'",
    ]


# -- the file as a whole


@pytest.mark.parametrize("text", ["", "# nothing\n"])
def test_empty_file(mistakes, text):
    assert mistakes(text) == ["nothing is configured; write at least 'network: {name: demo}'"]


def test_missing_file(tmp_path):
    with pytest.raises(ConfigError) as caught:
        load_config(tmp_path / "no.yaml")
    assert str(caught.value) == f"{tmp_path}/no.yaml: cannot read the file: No such file or directory"
    with pytest.raises(ConfigError) as caught:
        load_config(tmp_path)
    assert str(caught.value) == f"{tmp_path}: cannot read the file: Is a directory"
    with pytest.raises(ConfigError):
        load_config("a\0b")


def test_large_file(mistakes, monkeypatch):
    monkeypatch.setattr(yaml_source, "NETWORK_FILE", Bounds(30, 100))
    assert mistakes("network: {name: demo} # too much") == [
        "the file is larger than 30 bytes; move data to other files and name those here"
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "- a",
            "1: expected a mapping with admin, agent_groups, agents, allowed_mods, audit, cluster, dashboard, http, journal, "
            "logs, metrics, mods, network, redact, relay, tracing, got a list",
        ),
        (b"network:\n  name: caf\xe9", "2: byte 0xe9 is not UTF-8; save the file as UTF-8"),
        ("network: {name: x}\nmods: [", "2: not valid YAML: expected the node content, but found '<stream end>'"),
        ("a: 1\n  b: 2", "2: not valid YAML: mapping values are not allowed here"),
        ("a:\n\tb: 1", "2: not valid YAML: found character '\\t' that cannot start any token; indent with spaces"),
        ("a: 1\n---\nb: 2", "2: a second document starts here; keep one document in a file"),
        ("a: 1\nb: *x", "2: not valid YAML: found undefined alias 'x'"),
        ("a: 1\nb: \x07", "2: not valid YAML: character U+0007 is not allowed"),
        ('a: 1\nb: "\\UFFFFFFFF"', "2: not valid YAML: a number is out of range here"),
        ("a:\n" + "[" * 200, "2: nested deeper than 100 levels"),
        ("!tagged {a: 1}", "1: the tag !tagged is not allowed; write plain values, lists and mappings"),
    ],
)
def test_unreadable_files(mistakes, text, expected):
    (found,) = mistakes(text)
    assert found.startswith(expected)


def test_too_many_values_through_aliases(mistakes):
    bomb = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    bomb += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 10)]
    assert mistakes("\n".join(bomb)) == ["5: more than 100000 values, counting repeated aliases"]


def test_too_many_values_through_merges(mistakes):
    bomb = ["a0: &a0 {x: 1}"] + [f"a{i}: &a{i} {{<<: [{', '.join([f'*a{i - 1}'] * 10)}]}}" for i in range(1, 10)]
    assert mistakes("\n".join(bomb)) == ["6: more than 100000 values, counting repeated aliases"]


def test_too_deep_through_aliases(mistakes):
    chain = ["config: {a: &a0 []}"] + [f"v{i}: &a{i} [*a{i - 1}]" for i in range(1, 200)]
    found = mistakes(entry("config:\n" + "\n".join(f"  {line}" for line in chain)))
    assert all(line.endswith(": nested deeper than 100 levels") for line in found)


# -- single mistakes; the line is that of the key


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        # of YAML
        ("config: {a: !!int }", "mods[0].config.a: YAML cannot read '' as int; put it in quotes"),
        ("config: {a: 2026-01-31}", "mods[0].config.a: YAML reads 2026-01-31 as a date; put it in quotes to make it text"),
        ("config: {a: !!int x}", "mods[0].config.a: YAML cannot read 'x' as int; put it in quotes"),
        ("config: {a: !!bool x}", "mods[0].config.a: YAML cannot read 'x' as bool; put it in quotes"),
        ("config: {a: !!binary é}", "mods[0].config.a: YAML cannot read 'é' as binary; put it in quotes"),
        (
            "config: {a: !!python/name:os.system x}",
            "mods[0].config.a: the tag !!python/name:os.system is not allowed; write plain values, lists and mappings",
        ),
        (
            "config: {a: !!set {b}}",
            "mods[0].config.a: the tag !!set is not allowed; write plain values, lists and mappings",
        ),
        ("config: &c {a: *c}", "mods[0].config.a: the alias contains itself; write the value out"),
        ("config: &c {<<: *c}", "mods[0].config: the alias contains itself; write the value out"),
        (
            "config: {<<: 5}",
            "mods[0].config: '<<' merges mappings only; write '<<: *name' of a mapping marked '&name'",
        ),
        ("config: {on: 1}", "mods[0].config.on: YAML reads this key as bool, but keys are text; put it in quotes"),
        ("config: {1: x}", "mods[0].config.1: YAML reads this key as int, but keys are text; put it in quotes"),
        ("config: {? [a] : 1}", "mods[0].config: a list or mapping cannot be a key; keys are text"),
        ("config: {a: 1, a: 2}", "mods[0].config.a: this key is already given in line 4; remove one"),
        ("config: {a b: {c: 2026-01-31}}", "mods[0].config.'a b'.c: YAML reads 2026-01-31 as a date; put it in quotes "
         "to make it text"),
        # of plain data
        (
            "config: {a: [1, 99999999999999999999]}",
            "mods[0].config.a[1]: integer of 67 bits does not fit in 64; send it as text",
        ),
        ("config: [1]", "mods[0].config: expected a mapping, got a list"),
        # of kinds
        ("enabled: 1", "mods[0].enabled: expected true or false, got 1"),
        ("required: 'yes'", "mods[0].required: expected true or false, got 'yes'"),
        ("id: 5", "mods[0].id: expected text, got 5; put it in quotes"),
        ("id: on", "mods[0].id: expected text, got true; put it in quotes"),
        ("id:", "mods[0].id: expected text, got nothing"),
        ("id: [a]", "mods[0].id: expected text, got a list"),
        ("id: ' '", "mods[0].id: must not be empty"),
        (
            'id: "a\\0"',
            "mods[0].id: contains a NUL or half of a surrogate pair, which paths, variables and messages cannot carry; "
            "remove it",
        ),
        (
            "id: My Wiki",
            "mods[0].id: mod id 'My Wiki': expected lower-case letters, digits, '_', '.', '@', '-' (1 to 128, no '..')",
        ),
        ("limits: 5", "mods[0].limits: expected a mapping with concurrency, cpu, cpu_seconds, cpu_yield, disk, drain_timeout, "
         "event_timeout, hang_timeout, log_rate, memory, memory_soft, observe_queue, open_files, processes, queue, "
         "queue_bytes, shutdown_timeout, start_timeout, term_timeout, threads, unload_timeout, got 5"),
        ("limits: {queue: -1}", "mods[0].limits.queue: expected a whole number from 0 to 1000000000, got -1"),
        ("limits: {queue: true}", "mods[0].limits.queue: expected a whole number from 0 to 1000000000, got true"),
        ("limits: {queue: 1.5}", "mods[0].limits.queue: expected a whole number from 0 to 1000000000, got 1.5"),
        ("limits: {queue: null}", "mods[0].limits.queue: expected a whole number from 0 to 1000000000, got nothing"),
        (
            "limits: {open_files: 3}",
            "mods[0].limits.open_files: expected a whole number from 16 to 1000000000, got 3",
        ),
        (f"limits: {{queue: 0x{'f' * 9000}}}", "mods[0].limits.queue: expected a whole number from 0 to 1000000000, "
         "got a huge number"),
        ("limits: {memory: lots}", "mods[0].limits.memory: expected a size such as '512MB', got 'lots'"),
        ("limits: {memory: 512M}", "mods[0].limits.memory: expected a size such as '512MB', got '512M'"),
        ("limits: {memory: true}", "mods[0].limits.memory: expected a size such as '512MB', got true"),
        (
            "limits: {memory: 512}",
            "mods[0].limits.memory: expected 1000000 bytes or more, got 512; give a unit, as in '512MB'",
        ),
        (
            "limits: {start_timeout: 1:30}",
            "mods[0].limits.start_timeout: expected seconds or a duration such as '30s' (units: ms, s, m, h, d), got '1:30'",
        ),
        (
            "limits: {start_timeout: .nan}",
            "mods[0].limits.start_timeout: expected seconds or a duration such as '30s' (units: ms, s, m, h, d), got nan",
        ),
        (
            "limits: {start_timeout: .inf}",
            "mods[0].limits.start_timeout: expected more than 0 seconds, at most 1000000000, got inf",
        ),
        (
            "limits: {hang_timeout: 0s}",
            "mods[0].limits.hang_timeout: expected more than 0 seconds, at most 1000000000, got '0s'",
        ),
        (
            "restart: {first_delay: -1}",
            "mods[0].restart.first_delay: expected 0 seconds or more, at most 1000000000, got -1",
        ),
        (
            "restart: {first_delay: 60}",
            "mods[0].restart.max_delay: must not be less than first_delay, 60 seconds",
        ),
        ("restart: {policy: never}", "mods[0].restart.policy: expected one of permanent, transient, temporary, got 'never'"),
        ("permissions: mods", "mods[0].permissions: expected a list such as [mods, agents], got 'mods'"),
        ("permissions: [all]", "mods[0].permissions[0]: unknown permission 'all'; known here: agents, channels, mods"),
        (
            "speak_for: [system]",
            "mods[0].speak_for[0]: expected a source such as 'agent:alice', 'mod:wiki', 'agent:*' or '*', got 'system'",
        ),
        (
            "speak_for: ['a b']",
            "mods[0].speak_for[0]: agent id 'a b': expected letters, digits, '_', '.', '@', '-' (1 to 128, no '..')",
        ),
        # of entries
        (
            "name: a.b",
            "mods[0].name: means the same as 'path', and both are given; remove one (an 'id' names the mod)",
        ),
        # of the environment; secrets are not repeated
        ("env: [A]", "mods[0].env: expected a mapping of environment variables, got a list"),
        (
            "env: {A-B: x}",
            "mods[0].env.A-B: expected a variable name of letters, digits and '_' that does not start with a digit",
        ),
        (
            "env: {DEBUG: on}",
            "mods[0].env.DEBUG: expected text, a number, {from: 'env:VARIABLE'} or {from: 'file:PATH'}, "
            "got true; put it in quotes",
        ),
        (
            "env: {A: {}}",
            "mods[0].env.A: expected text, a number, {from: 'env:VARIABLE'} or {from: 'file:PATH'}, got a mapping",
        ),
        ("env: {A: {form: 'env:X'}}", "mods[0].env.A.form: unknown key; did you mean 'from'?"),
        ("env: {A: {from: s3cret}}", "mods[0].env.A.from: expected 'env:VARIABLE' or 'file:PATH'"),
        ("env: {A: {from: 'env:'}}", "mods[0].env.A.from: expected 'env:VARIABLE' or 'file:PATH'"),
        (
            "env: {A: {from: 'env:MODVISOR_TEST_UNSET'}}",
            "mods[0].env.A: the environment variable MODVISOR_TEST_UNSET is not set; set it before the start",
        ),
        (
            "env: {A: {from: 'file:/no/such'}}",
            "mods[0].env.A: cannot read the file /no/such: No such file or directory: the folder /no does not exist",
        ),
    ],
)  # fmt: skip
def test_mistakes_in_a_mod(mistakes, text, expected):
    assert mistakes(entry(text)) == [f"4: {expected}"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("mod: []", "mod: unknown key; did you mean 'mods'?"),
        ("mods: {a: b}", "mods: expected a list of mods, got a mapping"),
        (
            "mods: [{}]",
            "mods[0].path: the key is missing; give the mod_path, such as 'modvisor.mods.workspace.wiki' or './name'",
        ),
        (
            "mods: [pkg.Wiki]",
            "mods[0]: mod id 'Wiki': expected lower-case letters, digits, '_', '.', '@', '-' (1 to 128, no '..'); "
            "give the mod an 'id' of its own",
        ),
        ("mods: [2026-01-31]", "mods[0]: YAML reads 2026-01-31 as a date; put it in quotes to make it text"),
        ("agents: {inbox_policy: drop}", "agents.inbox_policy: expected one of drop_oldest, reject, got 'drop'"),
        (
            "agents: {expire_after: 0}",
            "agents.expire_after: expected more than 0 seconds, at most 1000000000, got 0",
        ),
        ("agents: {default_group: x}", "agents.default_group: no group 'x' in agent_groups; known here: none"),
        ("agent_groups: [a]", "agent_groups: expected a mapping of groups, got a list"),
        (
            "agent_groups: {'a b': {}}",
            "agent_groups.'a b': expected a group name of letters, digits, '_', '.', '@', '-'",
        ),
        (
            "agent_groups: {g: {password_hash: s3cret}}",
            "agent_groups.g.password_hash: expected argon2id ('$argon2id$v=19$…') or a SHA-256 of 64 hexadecimal "
            "digits; print one with: modvisor hash-password",
        ),
        (
            "agent_groups: {g: {password_hash: '$argon2id$v=19$m=9000000,t=2,p=1$YWFhYWFhYWE$YWFhYWFhYWFhYWFhYWFhYQ'}}",
            "agent_groups.g.password_hash: a check of this argon2id takes too much (at most m=1048576, t=100, p=16); "
            "print one with: modvisor hash-password",
        ),
        (
            "agent_groups: {g: {send: 'chat.*'}}",
            "agent_groups.g.send: expected a list such as ['chat.*'], got 'chat.*'",
        ),
        (
            "agent_groups: {g: {receive: [Chat]}}",
            "agent_groups.g.receive[0]: 'Chat': expected an event name ('wiki.page.create'), a prefix ('wiki.*') or '*'",
        ),
        (
            "agent_groups: {g: {quota: {events_per_second: 0}}}",
            "agent_groups.g.quota.events_per_second: expected a number from 0.001 to 1e+09, got 0",
        ),
        (
            "agents: {guests: {quota: {inbox: 5}}}",
            "agents.guests.quota.inbox: unknown key; did you mean 'inbox_size'?",
        ),
        (
            "agents: {registration: password}",
            "agents.registration: expected one of open, group_password, invite, closed, got 'password'",
        ),
        (
            "agents: {reserved: [a b]}",
            "agents.reserved[0]: expected the id of an agent such as 'admin', or a pattern such as 'bot-*', got 'a b'",
        ),
        (
            "allowed_mods:",
            "allowed_mods: expected a list; write [] to allow no mod, or remove the key to allow every mod",
        ),
        ("allowed_mods: [5]", "allowed_mods[0]: expected text, got 5; put it in quotes"),
        (
            "admin: {token: ''}",
            "admin.token: the token is empty; give one that cannot be guessed, or leave the key out",
        ),
        (
            "admin: {token: {from: 'env:MODVISOR_TEST_EMPTY'}}",
            "admin.token: the token is empty; give one that cannot be guessed, or leave the key out",
        ),
        (
            "admin: {token: {from: 'env:MODVISOR_TEST_UNSET'}}",
            "admin.token: the environment variable MODVISOR_TEST_UNSET is not set; set it before the start",
        ),
        ("logs: {backups: 1001}", "logs.backups: expected a whole number from 0 to 1000, got 1001"),
        ("logs: {max_bytes: 1}", "logs.max_bytes: expected 1000 bytes or more, got 1; give a unit, as in '512MB'"),
    ],
)
def test_mistakes_at_the_top(mistakes, monkeypatch, text, expected):
    monkeypatch.setenv("MODVISOR_TEST_EMPTY", "")
    monkeypatch.delenv("MODVISOR_TEST_UNSET", raising=False)
    assert mistakes(named(text)) == [f"2: {expected}"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("mods: []", "1: network: the key is missing; write at least 'network: {name: demo}'"),
        ("network:", "1: network.name: the key is missing; give the network a name"),
        ("network: demo", "1: network: expected a mapping with cgroups, event_loop, event_timeout, host, id, insecure, "
         "log_format, mod_paths, name, polling, port, preload, preload_timeout, sandbox, sandbox_fallback, "
         "sandbox_uids, scheduling, spares, storage, tls, watch, got 'demo'"),
        ("network: {name: x, polling: on}", "1: network.polling: expected auto or off, got true"),
        ("network: {name: x, polling: always}", "1: network.polling: expected auto or off, got 'always'"),
        ("network: {name: x, preload: numpy}", "1: network.preload: expected a list such as [numpy], got 'numpy'"),
        ("network: {name: x, preload: [no-module]}", "1: network.preload[0]: expected the name of a module, such as numpy or "
         "pandas.io, got 'no-module'"),
        ("network: {name: x, preload: [json, modvisor.ipc]}", "1: network.preload[1]: modvisor.ipc is part of modvisor, "
         "which loads its own modules; remove it from the list"),
        ("network: {name: x, preload: [pkg]}\nmods: ['pkg.mods.wiki:Wiki']", "1: network.preload[0]: pkg contains the mod "
         "pkg.mods.wiki:Wiki, and a reload must run the mod's fresh code; list libraries only"),
        ("network: {name: x, port: true}", "1: network.port: expected a whole number from 0 to 65535, got true"),
        ("network: {name: x, port: -1}", "1: network.port: expected a whole number from 0 to 65535, got -1"),
        ("network: {name: x, id: a/b}", "1: network.id: expected letters, digits, '_', '.', '@', '-' (1 to 128, no '..'), "
         "got 'a/b'"),
        ("network: {name: x, id: ..}", "1: network.id: expected letters, digits, '_', '.', '@', '-' (1 to 128, no '..'), "
         "got '..'"),
        ("network: {name: x, mod_paths: [/no/such]}", "1: network.mod_paths[0]: the folder /no/such does not exist"),
        ("network: {name: x, storage: 5}", "1: network.storage: expected text, got 5; put it in quotes"),
    ],
)  # fmt: skip
def test_mistakes_in_the_network(mistakes, text, expected):
    assert mistakes(text) == [expected]


def test_a_local_mod_needs_its_folder(mistakes, tmp_path):
    for text in ("mods: [./hello]", "mods: [{path: ./hello, enabled: false}]"):
        (found,) = mistakes(named(text))
        assert found.endswith(f"no such mod: neither {tmp_path}/mods/hello nor {tmp_path}/hello is a folder")
    (found,) = mistakes(named(f"mods: [./{'x' * 400}]"))  # longer than a file's name may be
    assert "no such mod" in found


def test_equal_ids_name_both_lines(mistakes):
    text = named(f"mods:\n  - {WIKI}\n  - path: a.b\n  - enabled: false\n    path: c.d\n    id: wiki\n")
    assert mistakes(text) == [
        "5: mods[2]: the mod id 'wiki' is taken by mods[0] (line 3); give one of them an 'id' of its own"
    ]
    assert parse_mistakes({**NETWORK, "mods": [WIKI, WIKI]}) == [
        "mods[1]: the mod id 'wiki' is taken by mods[0]; give one of them an 'id' of its own"
    ]


def test_a_mod_that_is_not_enabled_needs_no_secrets(load, monkeypatch):
    monkeypatch.delenv("MODVISOR_TEST_UNSET", raising=False)
    text = "env: {A: {from: 'env:MODVISOR_TEST_UNSET'}, B: {from: 'file:none'}}"
    assert load(entry("enabled: false\n" + text)).mods[0].env["A"] == EnvValue(variable="MODVISOR_TEST_UNSET")


def test_the_mods_of_the_file_must_be_allowed(load, mistakes):
    mods = f"mods: [{WIKI}, a.b, {{path: c.d, enabled: false}}]\n"
    assert mistakes(named(mods + "allowed_mods: ['modvisor.*']")) == [
        "3: allowed_mods: no pattern allows 'a.b', which 'mods' lists; add a pattern for it"
    ]
    assert len(load(named(mods)).mods) == 3


def test_groups_that_cannot_be_read_hide_no_default_group(mistakes):
    assert mistakes(named("agents: {default_group: a}\nagent_groups: 5")) == [
        "3: agent_groups: expected a mapping of groups, got 5"
    ]


class TestPlainData:
    """What YAML cannot express, and library users can."""

    def test_keys_that_are_no_text(self):
        assert parse_mistakes({**NETWORK, 5: 1}) == ["5: expected text as the key, got 5"]
        assert parse_mistakes({**NETWORK, "mods": [{"path": WIKI, "config": {None: 1}}]}) == [
            "mods[0].config.nothing: expected text as the key, got nothing"
        ]

    def test_values_that_no_message_carries(self):
        found = parse_mistakes({**NETWORK, "mods": [{"path": WIKI, "config": {"a": [date(2026, 1, 31)], "b": {1}}}]})
        assert [line.partition(";")[0] for line in found] == [
            "mods[0].config.a[0]: cannot carry a datetime.date",
            "mods[0].config.b: cannot carry a builtins.set",
        ]

    def test_data_that_contains_itself(self):
        loop: dict[str, Any] = {}
        loop["again"] = [loop, loop]
        assert parse_mistakes({**NETWORK, "mods": [{"path": WIKI, "config": loop}]}) == [
            "mods[0].config.again[0]: nested deeper than 100 levels, or contains itself",
            "mods[0].config.again[1]: nested deeper than 100 levels, or contains itself",
        ]

    @pytest.mark.parametrize("data", [None, {}, [], 5, {"network": None}, {"network": {"name": object()}}])
    def test_nonsense(self, data):
        assert len(parse_mistakes(data)) == 1


# -- which mods may be loaded


@pytest.mark.parametrize(
    ("allowed", "path", "expected"),
    [
        (None, "anything.at_all", True),
        ((), WIKI, False),
        (("modvisor.mods.*",), WIKI, True),
        (("modvisor.mods.*",), "modvisor.modsy.wiki", False),
        (("./*",), "./hello", True),
        (("a.b", "./*"), "a.b", True),
        (("a.b",), "a.b:Class", False),
        (("A.*",), "a.b", False),
    ],
)
def test_allowed_mods(allowed, path, expected):
    assert is_allowed(allowed, path) is expected


# -- any text at all

WORDS = """
    network: mods: agents: agent_groups: admin: logs: name: path: config: env: limits: memory: from: x: y: on a b
    - & * &a *a [ ] { } , <<: ? | > ! !!int !!set !!binary !!timestamp " ' # --- ... % @ ` \\ ~ 1 0x 1:2 2026-01-31 .inf
"""
LAYOUT = st.sampled_from([" ", "\n", "\n  ", "\n    ", "\n\t", ""])
YAMLISH = st.lists(st.tuples(st.sampled_from(WORDS.split()), LAYOUT), max_size=40).map(
    lambda parts: "".join(map("".join, parts))
)
PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.binary(max_size=3) | st.dates(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3) | st.integers(), inner, max_size=3),
    max_leaves=8,
)
SHAPED = st.fixed_dictionaries(
    {"network": PLAIN | st.fixed_dictionaries({"name": PLAIN}, optional={"port": PLAIN, "storage": PLAIN, "id": PLAIN})},
    optional={
        "mods": PLAIN | st.lists(PLAIN | st.fixed_dictionaries({"path": st.just(WIKI) | PLAIN}, optional=dict.fromkeys(
            ("id", "config", "env", "limits", "restart", "permissions", "speak_for", "enabled"), PLAIN
        )), max_size=3),
        "agents": PLAIN | st.fixed_dictionaries({}, optional={"default_group": PLAIN, "expire_after": PLAIN}),
        "agent_groups": PLAIN | st.dictionaries(st.text(max_size=3), PLAIN, max_size=2),
        "admin": PLAIN | st.fixed_dictionaries({"token": PLAIN}),
        "allowed_mods": PLAIN,
    },
)  # fmt: skip


def outcome(function, *args, **kwargs) -> None:
    """Run a loader; any other exception than `ConfigError` is the test's failure."""
    try:
        config = function(*args, **kwargs)
    except ConfigError as error:
        problems = error.problems
    else:
        assert isinstance(config, NetworkConfig)
        return
    assert problems
    assert all(problem.message for problem in problems)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], max_examples=200)
@given(st.binary(max_size=40) | st.text(max_size=40).map(lambda text: text.encode()) | YAMLISH.map(str.encode))
@example(b'network: {name: "\\ud800"}')
@example(b"network: {name: demo, storage: ~nobody}")
@example("mods: [{path: a.b, limits: {memory: 5\u0130B}}]".encode())
def test_any_file_loads_or_is_reported(tmp_path, raw):
    (tmp_path / "network.yaml").write_bytes(raw)
    outcome(load_config, tmp_path / "network.yaml")


@settings(max_examples=100)
@given(SHAPED)
def test_any_data_loads_or_is_reported(data):
    outcome(parse_config, data, base_dir=ROOT)


# -- the example and the manual


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "agents: {registration: group_password}",
            [
                "agents.registration: no group in agent_groups has a password_hash, so agents register only with an invite"
            ],
        ),
        ("agents: {registration: invite}", []),
        (
            "agents: {requires_password: true}",
            [
                "agents.requires_password: this is the older name of a key; write 'registration: group_password' instead",
                "agents.requires_password: no group in agent_groups has a password_hash, so agents register only with an "
                "invite",
            ],
        ),
    ],
)
def test_what_is_said_of_registration_beside_the_file(load, text, expected):
    config = load(named(text))
    assert [f"{each.key}: {each.message}" for each in config.warnings] == expected
    assert config.agents.registration == ("invite" if "invite" in text else "group_password")


def test_the_bundled_example():
    config = load_config(ROOT / "examples" / "network.yaml")
    assert (config.name, config.host, config.port) == ("demo", "127.0.0.1", 8700)
    assert [mod.path for mod in config.mods] == [
        f"modvisor.mods.workspace.{name}" for name in ("wiki", "project", "messaging", "analytics")
    ]
    (admins,) = config.agent_groups.values()
    assert (admins.name, admins.permissions, config.warnings) == ("admins", PERMISSIONS, ())
    assert verify_secret(
        (admins.password_hash or "").encode(), hashlib.sha256(b"change-me").hexdigest().encode(), Type.ID
    )
    assert config.allowed_mods == ("modvisor.mods.*", "./*")


def _blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", DOC, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize(("said", "meant"), [("auto", "auto"), ("off", "off"), ("'off'", "off"), ("false", "off")])
def test_the_bare_word_off_is_no_boolean(tmp_path: Path, said: str, meant: str) -> None:
    file = tmp_path / "network.yaml"
    file.write_text(f"network: {{name: x, polling: {said}}}")
    assert load_config(file).polling == meant
