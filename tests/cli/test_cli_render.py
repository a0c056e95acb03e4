"""Tables, lines and figures for people, and what may not reach their terminal."""

from __future__ import annotations

import io
import json
import re
import sys

import pytest

from modvisor.supervisor.cli.render.available import available_table
from modvisor.supervisor.cli.render.crashes import crash_text
from modvisor.supervisor.cli.render.events import event_line
from modvisor.supervisor.cli.render.figures import duration, size
from modvisor.supervisor.cli.render.mods import mods_table, troubles
from modvisor.supervisor.cli.render.stats import mod_table, network_table
from modvisor.supervisor.cli.render.tables import json_text
from modvisor.supervisor.cli.terminal.columns import Cell, Columns
from modvisor.supervisor.cli.terminal.output import TABLE_WIDTH, printable, show, write

MOD = {
    "mod_id": "wiki",
    "version": "1.2.0",
    "state": "ready",
    "pid": 42,
    "uptime": 3725.0,
    "restarts": 1,
    "last_error": None,
    "resources": {"cpu_percent": 3.14159, "rss": 24_100_000, "uss": 8_000_000},
    "traffic": {"events_in": 10, "failed": 2, "latency_p50_ms": 0.0461, "latency_p99_ms": 12.3456},
}
BROKEN = {"mod_id": "old", "state": "quarantined", "last_error": "mod old: exited\nTraceback …", "pid": None}


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def shown(*parts: object, stream: io.StringIO | None = None, width: int = TABLE_WIDTH) -> str:
    stream = stream or io.StringIO()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stdout", stream)
        show(*parts, width=width)  # pyright: ignore[reportArgumentType]
    return stream.getvalue()


def test_mods_table() -> None:
    header, wiki, old = shown(mods_table([MOD, BROKEN])).splitlines()
    assert " ".join(header.split()) == "ID VERSION STATE PID UP CPU RSS USS IN FAILED P50 ms P99 ms RESTARTS"
    assert " ".join(wiki.split()) == "wiki 1.2.0 ready 42 1h 02m 3.1 % 24.1 MB 8.0 MB 10 2 0.046 12.3 1"
    assert old.split() == ["old", "-", "quarantined"] + ["-"] * 10


def test_colours_only_on_a_terminal_and_not_with_no_color(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    green = "\x1b[32mready"
    assert green in shown(mods_table([MOD]), stream=Terminal())
    assert "\x1b" not in shown(mods_table([MOD]))
    monkeypatch.setenv("NO_COLOR", "1")
    assert green not in shown(mods_table([MOD]), stream=Terminal())


def test_a_narrow_terminal_loses_no_column(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    assert "RESTARTS" in shown(mods_table([MOD]), stream=Terminal())
    assert "…" not in shown(mods_table([MOD]), stream=Terminal())


@pytest.mark.parametrize("term", ["dumb", "unknown", "", "xterm"])
@pytest.mark.parametrize("columns", ["40", "160"])
def test_ids_and_pids_are_never_cut(monkeypatch: pytest.MonkeyPatch, term: str, columns: str) -> None:
    monkeypatch.setenv("TERM", term)
    monkeypatch.setenv("COLUMNS", columns)
    mod = {**MOD, "mod_id": "x" * 128, "pid": 4_194_304, "version": "2026.11.29rc12"}
    table = shown(mods_table([mod]), stream=Terminal())
    assert "x" * 128 in table
    assert "4194304" in table
    assert "…" not in table
    offered = {"name": "n" * 60, "versions": ["1.0", "2.0"], "source": "network", "loaded": ["a", "b"], "error": None}
    offered |= {"mod_path": f"./{'n' * 60}", "requires": ["wiki>=2,<3"], "optional": [], "description": "d " * 200}
    table = shown(available_table([offered]), stream=Terminal())
    assert f"./{'n' * 60}" in table
    assert "wiki>=2,<3" in table
    assert "…" not in table


def test_json_shows_letters_of_any_script_and_escapes_what_controls_a_terminal() -> None:
    text = shown(json_text({"name": "Привет, 日本", "bad": "\x1b[2J\u202e\x9b", "plain": [1, None]}))
    assert '"name": "Привет, 日本"' in text
    assert r'"bad": "\u001b[2J\u202e\u009b"' in text
    assert json.loads(text)["bad"] == "\x1b[2J\u202e\x9b"


@pytest.mark.parametrize("text", ["日本\u3000語", "10\u00a0000 €", "👩\u200d👩\u200d👧", "می\u200cخواهم"])
def test_spaces_and_joiners_of_other_scripts_are_text(text: str) -> None:
    assert printable(text) == text
    assert text in json_text({"name": text}).plain


def test_json_is_escaped_where_its_letters_cannot_be_written() -> None:
    ascii_only = io.TextIOWrapper(io.BytesIO(), "ascii")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stdout", ascii_only)
        assert "\\u041f" in json_text({"name": "Привет"}).plain


def test_what_a_mod_says_is_never_markup_nor_a_terminal_command() -> None:
    line = shown(mods_table([{**MOD, "version": "[red]1[/red]\x1b[2J"}])).splitlines()[1]
    assert "[red]1[/red]\N{REPLACEMENT CHARACTER}[2J" in line
    assert printable("a\tb\nc\x07\x9b") == "a\tb\nc" + 2 * "\N{REPLACEMENT CHARACTER}"
    assert printable("Grüße → 👋") == "Grüße → 👋"


def test_troubles_name_the_mod_once_and_indent_the_rest() -> None:
    assert troubles([MOD, {**BROKEN, "state": "failed"}]) == [
        "old is failed: exited\n    Traceback …\n    mend it, then: modvisor reload old"
    ]


def test_a_mod_that_runs_other_code_than_other_nodes_is_marked() -> None:
    mods = [{**MOD, "node": "a", "mixed": None}, {**MOD, "node": "b", "mixed": "runs other code than other nodes"}]
    lines = shown(mods_table(mods)).splitlines()
    assert [f"{MOD['version']}*" in line for line in lines[1:]] == [False, True]
    assert troubles(mods) == [f"* {MOD['mod_id']} on node b runs other code than other nodes"]


def test_a_quarantine_comes_with_its_reason_and_the_way_back() -> None:
    why = "mod old is quarantined: ended 6 times within 60 s"
    mod = {**BROKEN, "quarantined": why}
    assert troubles([mod]) == [
        "old is quarantined: ended 6 times within 60 s\n"
        "    bring it back with: modvisor restart old (when its files were changed: modvisor reload old); "
        "modvisor crashes old says why"
    ]
    text = shown(mod_table(mod))
    assert "ended 6 times within 60 s" in text
    assert "modvisor restart old" in text
    assert "modvisor restart" not in shown(mod_table({**MOD, "quarantined": None}))


def test_limits_say_by_what_they_are_enforced_and_which_are_not() -> None:
    limits = {
        "memory": {"limit": 512_000_000, "enforced_by": "watchdog, RLIMIT_DATA of each process"},
        "memory_soft": {"limit": None, "enforced_by": None},
        "cpu": {"limit": 0.5, "enforced_by": None},
    }
    lines = [" ".join(line.split()) for line in shown(mod_table({**MOD, "limits": limits})).splitlines()]
    assert "limit memory 512.0 MB, by watchdog, RLIMIT_DATA of each process" in lines
    assert "limit memory soft none" in lines
    assert "limit cpu 0.5, NOT ENFORCED: see modvisor doctor" in lines
    assert "NOT" not in shown(mod_table({**MOD, "pid": None, "limits": limits})), "its process has not told yet"


def test_journal_figures() -> None:
    journal = {
        "durable_events": 2, "durable_bytes": 1000, "dead_letters": 3, "dead_letter_bytes": 2_000_000, "checkpoints": 1,
        "file_bytes": 90_000, "write_errors": 1, "last_error": "event: disk full",
    }  # fmt: skip
    text = shown(network_table({"journal": journal}))
    assert [" ".join(line.split()) for line in text.splitlines()][-5:] == [
        "dead letters 3, 2.0 MB: see modvisor dlq ls",
        "durable events 2, 1.0 kB without an answer",
        "checkpoints 1",
        "journal 90.0 kB",
        "journal write errors 1, the last: event: disk full",
    ]
    assert "dead letters" not in shown(network_table({"journal": {}}))


REPORT = {
    "mod_id": "wiki", "version": "1.0", "incarnation": 2, "pid": 42, "at": 0.0, "uptime": 0.2, "cause": "exited",
    "detail": "exit code 3", "traceback": None, "log": [], "alone": True, "in_flight_count": 1,
    "in_flight": [{"event_id": "e", "event_name": "a.b", "source_id": "agent:ann", "attempt": 2}],
    "usage": {"cpu_seconds": 0.0612, "max_rss": 24_300_000},
    "resources": {"cpu_percent": None, "rss": 24_100_000, "threads": 1, "open_files": None, "children": 0},
}  # fmt: skip


def test_a_crash_says_what_was_used_and_who_is_to_blame() -> None:
    assert crash_text(REPORT).splitlines()[1:] == [
        "  incarnation 2, pid 42, after 0.2s",
        "  used 0.061 s of processor, at most 24.3 MB resident",
        "  last sample: RSS 24.1 MB, threads 1, open files -, children 0",
        "  was handling a.b from agent:ann (attempt 2)",
        "  which was under suspicion and handled alone: the event is to blame, not the mod",
    ]
    trial = crash_text({**REPORT, "trial": True}).splitlines()[-1]
    assert trial == "  it was a trial process, beside the one that serves, which went on"
    first = {"event_id": "f", "event_name": "a.c", "source_id": None, "attempt": 1}
    together = {**REPORT, "alone": False, "usage": None, "resources": None, "in_flight_count": 9,
                "in_flight": [first, *REPORT["in_flight"] * 8]}  # fmt: skip
    [line] = crash_text(together).splitlines()[2:]
    assert line.startswith("  was handling a.c from -, a.b from agent:ann (attempt 2), ")
    assert line.endswith(" and 4 more")


def test_stats_table_takes_what_there_is() -> None:
    stats = {"network_name": "n", "network_id": "i", "uptime_seconds": 5.0, "events": {"inbox_dropped": 3}, "mods": {}}
    text = shown(network_table(stats))
    assert "n (i)" in text
    assert "events inbox dropped" in text
    text = shown(mod_table({**MOD, "loaded_at": 0.0}))
    assert "24.1 MB" in text
    assert "1970-01-01" in text or "1969-12-31" in text


def test_event_lines() -> None:
    event = {"event_name": "a.b", "source_id": "agent:ann", "destination_id": "channel:general", "timestamp": 0.0}
    line = event_line({"event": event, "response": {"success": True, "data": {"delivered": 3}}})
    assert line[8:] == " a.b agent:ann → channel:general  delivered to 3"
    failed = {"success": False, "message": "took\ntoo long", "data": {"error": "timeout"}}
    assert event_line({"event": event, "response": failed}).endswith("  timeout: took too long")
    assert event_line({"event": event, "response": {"success": True, "data": [1]}}).endswith("  ok")
    assert event_line({"event": event, "response": {"success": False}}).endswith("  failed")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(None, "-"), (0.04, "0.0s"), (9.94, "9.9s"), (59.9, "59s"), (60, "1m 00s"), (3599, "59m 59s"),
     (3600, "1h 00m"), (86_400, "1d 00h"), (1e7, "115d 17h")],
)  # fmt: skip
def test_durations(seconds: float | None, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("count", "text"),
    [(None, "-"), (0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (24_100_000, "24.1 MB"), (3e12, "3.0 TB")],
)
def test_sizes(count: float | None, text: str) -> None:
    assert size(count) == text


def test_text_that_the_encoding_cannot_carry_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    out = io.TextIOWrapper(io.BytesIO(), "ascii")
    monkeypatch.setattr(sys, "stdout", out)
    write("Grüße \ud800")
    out.flush()
    assert out.buffer.getvalue() == b"Gr??e ?\n"  # pyright: ignore[reportAttributeAccessIssue]
    monkeypatch.undo()
    out.close()


def test_columns_stand_below_one_another_whatever_letters_they_hold() -> None:
    made = Columns(["ID", "N", "END"], right=["N"])
    made.add_row(Cell("wiki", "green"), Cell("7"), Cell("x"))
    made.add_row(Cell("日本"), Cell("1234"))
    plain = list(made.lines(styled=False))
    assert plain == ["ID       N  END", "wiki     7  x", "日本  1234"]
    styled = list(made.lines(styled=True))
    assert styled[1].startswith("\x1b[32mwiki\x1b[0m")
    assert [re.sub(r"\x1b\[\d+m", "", line) for line in styled] == plain


def test_a_mod_that_failed_to_start_comes_with_what_to_do() -> None:
    mod = {**BROKEN, "state": "failed", "last_error": "mod old: no such key"}
    assert troubles([mod]) == ["old is failed: no such key\n    mend it, then: modvisor reload old"]


@pytest.mark.parametrize(
    ("used", "soft", "told"),
    [
        (89, None, []),
        (90, 80, ["free it with: modvisor restart big"]),
        (95, None, [
            "free it with: modvisor restart big; with 'limits.memory_soft', the network does so in time, without losing "
            "an event"
        ]),
    ],
)  # fmt: skip
def test_a_mod_that_has_nearly_all_of_its_memory_is_named_before_it_fails(
    used: int, soft: int | None, told: list[str]
) -> None:
    limits = {"memory": {"limit": 100_000_000}, "memory_soft": {"limit": soft}}
    mod = {"mod_id": "big", "state": "ready", "limits": limits, "resources": {"rss": used * 1_000_000}}
    said = troubles([mod])
    assert [line.strip() for text in said for line in text.splitlines()[1:]] == told
    assert all(text.startswith(f"big uses {used}.0 MB of the 100.0 MB that 'limits.memory' allows") for text in said)
