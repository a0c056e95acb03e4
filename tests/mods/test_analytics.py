"""The analytics mod, through its events and over restarts."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from modvisor.mods import Refused
from modvisor.mods.workspace.analytics import AnalyticsMod
from modvisor.worker.testing import ModHarness

pytestmark = pytest.mark.anyio
Analytics = ModHarness[AnalyticsMod]
START = 1_000_000_020.0  # the beginning of a minute


def harness(path: Path, clock: Any, **config: Any) -> Analytics:
    made = ModHarness(AnalyticsMod, storage_path=path, config=config)
    made.mod.clock = clock
    return made


@pytest.fixture
async def stats(tmp_path: Path, clock: Any) -> AsyncIterator[Analytics]:
    clock.now = START
    async with harness(tmp_path, clock) as made:
        yield made


async def ok(stats: Analytics, name: str, **payload: Any) -> dict[str, Any]:
    answer = await stats.ask(f"analytics.{name}", payload)
    assert answer.success, answer
    assert answer.message
    return answer.data


async def happen(
    stats: Analytics, name: str, times: int = 1, source: str | None = "agent:alice", **payload: Any
) -> None:
    for _ in range(times):
        await stats.observe(name, payload, source_id=source, timestamp=stats.mod.clock())


async def test_an_empty_network(stats: Analytics) -> None:
    summary = await ok(stats, "summary.get")
    assert (summary["events"], summary["rate"], summary["top_names"]) == (0, 0.0, [])
    assert summary["total"] == {"events": 0, "since": None}
    assert summary["windows"] == ["1m", "5m", "1h"]
    assert (await ok(stats, "percentile.get"))["values"][0] == {"quantile": 0.5, "value": None}
    assert sum(point["events"] for point in (await ok(stats, "series.get"))["points"]) == 0
    assert (await ok(stats, "distinct.get", window="total"))["count"] == 0


async def test_what_is_counted(stats: Analytics, clock: Any) -> None:
    await happen(stats, "wiki.page.edit", 6)
    await happen(stats, "wiki.page.get", 3, source="bob")
    clock.advance(5)
    await happen(stats, "chat.message.send", 1, source="mod:bot")
    await happen(stats, "chat.message.send", 1, source=None)
    clock.advance(5)
    summary = await ok(stats, "summary.get")
    assert (summary["events"], summary["seconds"], summary["rate"]) == (11, 10.0, 1.1)
    assert summary["since"] == START
    assert [(item["name"], item["events"]) for item in summary["top_names"]] == [
        ("wiki.page.edit", 6), ("wiki.page.get", 3), ("chat.message.send", 2),
    ]  # fmt: skip
    assert [(item["domain"], item["events"]) for item in summary["top_domains"]] == [("wiki", 9), ("chat", 2)]
    sources = (await ok(stats, "sources.top"))["items"]
    assert [(item["source"], item["events"]) for item in sources] == [
        ("alice", 6), ("bob", 3), ("mod:bot", 1), ("unknown", 1),
    ]  # fmt: skip
    assert summary["distinct_sources"] == {"count": 4, "exact": True, "error": 0.0}
    for asked, events in [
        ({}, 11), ({"pattern": "wiki.*"}, 9), ({"pattern": "wiki.page.get"}, 3), ({"pattern": "nope.*"}, 0),
        ({"source": "agent:bob"}, 3), ({"source": "bob"}, 3), ({"source": "nobody"}, 0),
    ]:  # fmt: skip
        assert (await ok(stats, "rate.get", **asked))["events"] == events, asked
        points = (await ok(stats, "series.get", **asked))["points"]
        assert sum(point["events"] for point in points) == events, asked
    points = (await ok(stats, "series.get"))["points"]
    assert (len(points), points[-1]["at"]) == (60, int(clock.now))
    assert {point["at"] - START: point["events"] for point in points if point["events"]} == {0.0: 9, 5.0: 2}
    assert (await ok(stats, "distinct.get", of="names"))["count"] == 3


async def test_windows_slide(stats: Analytics, clock: Any) -> None:
    await happen(stats, "a.b", 10)
    for after, expected in [(59, (10, 10, 10)), (61, (0, 10, 10)), (301, (0, 0, 10)), (3_700, (0, 0, 0))]:
        clock.now = START + after
        counts = [(await ok(stats, "rate.get", window=window))["events"] for window in ("1m", "5m", "1h")]
        assert tuple(counts) == expected, after
    await happen(stats, "a.b")
    assert [(await ok(stats, "rate.get", window=window))["events"] for window in ("1m", "5m", "1h", "total")] == [
        1,
        1,
        1,
        11,
    ]


async def test_percentiles(stats: Analytics, clock: Any) -> None:
    for number in range(1, 101):
        clock.now = START + number / 4
        await happen(stats, "a.b", 1, text="x" * 10 * number)
    sizes = await ok(stats, "percentile.get", quantiles=[0.5, 0.99, 1])
    assert sizes["samples"] == 100
    assert [round(item["value"] / 10) for item in sizes["values"]] == pytest.approx([51, 100, 101], rel=0.08)
    gaps = await ok(stats, "percentile.get", metric="gap_seconds", quantiles=[0.1, 1.0])
    assert [item["value"] for item in gaps["values"]] == pytest.approx([0.25, 0.25], rel=0.07)
    assert gaps["samples"] == 99


async def test_top_lists_page_to_the_end(stats: Analytics) -> None:
    for number in range(23):
        await happen(stats, f"a.b{number}", 1 + number % 3, source=f"agent:s{number}")
    for name, label in (("names.top", "name"), ("sources.top", "source")):
        seen: list[tuple[str, int]] = []
        cursor, more = None, True
        while more:
            data = await ok(stats, name, limit=5, cursor=cursor, window="total")
            seen += [(item[label], item["events"]) for item in data["items"]]
            cursor, more = data["next"], data["has_more"]
        assert len(seen) == len(set(seen)) == 23
        assert [count for _, count in seen] == sorted((count for _, count in seen), reverse=True)
    assert [item["domain"] for item in (await ok(stats, "names.top", by="domain"))["items"]] == ["a"]


@pytest.mark.parametrize(
    ("name", "field", "payload"),
    [
        ("summary.get", "window", {"window": "2m"}),
        ("summary.get", "window", {"window": 60}),
        ("summary.get", "windows", {"windows": "1m"}),
        ("names.top", "by", {"by": "x"}),
        ("names.top", "limit", {"limit": 201}),
        ("names.top", "cursor", {"cursor": -1}),
        ("names.top", "x", {"x": 1}),
        ("sources.top", "limit", {"limit": True}),
        ("sources.top", "x", {"x": 1}),
        ("rate.get", "pattern", {"pattern": "Nope"}),
        ("rate.get", "pattern", {"pattern": 5}),
        ("rate.get", "pattern", {"pattern": "a." + "x" * 300}),
        ("rate.get", "source", {"pattern": "*", "source": "bob"}),
        ("rate.get", "x", {"x": 1}),
        ("series.get", "window", {"window": "total"}),
        ("series.get", "x", {"x": 1}),
        ("distinct.get", "of", {"of": "domains"}),
        ("distinct.get", "x", {"x": 1}),
        ("percentile.get", "metric", {"metric": "latency"}),
        ("percentile.get", "quantiles", {"quantiles": []}),
        ("percentile.get", "quantiles", {"quantiles": [1.1]}),
        ("percentile.get", "quantiles", {"quantiles": [float("nan")]}),
        ("percentile.get", "quantiles", {"quantiles": 0.5}),
        ("percentile.get", "x", {"x": 1}),
    ],
)
async def test_bad_input(stats: Analytics, name: str, field: str, payload: dict[str, Any]) -> None:
    answer = await stats.ask(f"analytics.{name}", payload)
    assert (answer.error, answer.data["field"]) == ("bad_input", field), answer


@pytest.mark.parametrize(
    "config",
    [{"windows": [90]}, {"windows": []}, {"windows": [30]}, {"max_keys": 1}, {"save_seconds": 0}, {"window": [60]}],
)
async def test_a_config_with_mistakes_keeps_analytics_from_starting(
    tmp_path: Path, clock: Any, config: dict[str, Any]
) -> None:
    made = harness(tmp_path, clock, **config)
    with pytest.raises(Refused, match=next(iter(config))):
        await made.__aenter__()
    await made.__aexit__()


async def everything(stats: Analytics) -> list[Any]:
    return [
        await ok(stats, name, **payload)
        for name, payload in [
            ("summary.get", {}), ("summary.get", {"window": "1h"}), ("summary.get", {"window": "total"}),
            ("series.get", {"window": "5m"}), ("percentile.get", {"window": "5m"}),
            ("percentile.get", {"metric": "gap_seconds"}),
        ]
    ]  # fmt: skip


async def busy(stats: Analytics, clock: Any, seconds: int) -> None:
    for number in range(seconds):
        clock.advance(1)
        await happen(stats, f"a.b{number % 7}", number % 4, source=f"agent:s{number % 5}", text="ü" * number)


async def test_windows_and_totals_survive_a_restart(tmp_path: Path, clock: Any) -> None:
    async with harness(tmp_path, clock) as stats:
        await busy(stats, clock, 200)
        stats.mod.save()
        await busy(stats, clock, 200)
        before = await everything(stats)
    async with harness(tmp_path, clock) as stats:
        assert await everything(stats) == before
        await busy(stats, clock, 10)
        after = await everything(stats)
    async with harness(tmp_path, clock) as stats:
        assert await everything(stats) == after
        assert after[2]["events"] > before[2]["events"]


async def test_a_reload_hands_over_what_was_counted_since_the_last_save(tmp_path: Path, clock: Any) -> None:
    async with harness(tmp_path / "old", clock) as old:
        await busy(old, clock, 100)
        state, before = await old.call("get_state"), await everything(old)
    new = harness(tmp_path / "new", clock)
    original = new.mod.activate

    async def set_state_then_activate() -> None:
        new.mod.set_state(state, "1.0.0")
        await original()

    new.mod.activate = set_state_then_activate  # type: ignore[method-assign]
    async with new:
        assert await everything(new) == before
        new.mod.save()
    async with harness(tmp_path / "new", clock) as again:
        assert await everything(again) == before


async def test_an_older_checkpoint_does_not_replace_newer_counts(tmp_path: Path, clock: Any) -> None:
    async with harness(tmp_path, clock) as stats:
        await busy(stats, clock, 20)
        checkpoint = await stats.call("get_state")
        await busy(stats, clock, 20)
        before = await everything(stats)
    later = harness(tmp_path, clock)
    later.mod.initialize_then = later.mod.initialize  # type: ignore[attr-defined]

    def initialize() -> None:
        later.mod.initialize_then()  # type: ignore[attr-defined]
        later.mod.set_state(checkpoint, "1.0.0")

    later.mod.initialize = initialize  # type: ignore[method-assign]
    async with later:
        assert await everything(later) == before


async def test_the_former_incarnation_does_not_write_over_the_next_ones_counts(tmp_path: Path, clock: Any) -> None:
    old, new = harness(tmp_path, clock), harness(tmp_path, clock)
    await old.__aenter__()
    await busy(old, clock, 5)
    await old.call("get_state")
    await new.__aenter__()
    await busy(new, clock, 5)
    new.mod.save()
    count = new.mod._stream.count
    await old.__aexit__()
    await new.__aexit__()
    async with harness(tmp_path, clock) as last:
        assert last.mod._stream.count == count


async def test_state_of_an_unknown_format_is_left_alone(stats: Analytics, caplog: pytest.LogCaptureFixture) -> None:
    await stats.call("set_state", {"format": 99}, "9.0.0")
    assert "state of version 9.0.0 has another format" in caplog.text


async def test_a_disk_that_cannot_be_written_is_logged_and_tried_again(
    stats: Analytics, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_stream: Any) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    await happen(stats, "a.b")
    with monkeypatch.context() as patch:
        patch.setattr(stats.mod._stream_store, "save", full)
        stats.mod.save()
    assert "counts could not be saved: database or disk is full" in caplog.text
    assert stats.mod._saved == 0
    stats.mod.save()
    assert stats.mod._saved == 1


async def test_another_set_of_windows_keeps_those_that_stayed(tmp_path: Path, clock: Any) -> None:
    async with harness(tmp_path, clock) as stats:
        await busy(stats, clock, 30)
        count = stats.mod._stream.count
        clock.advance(1)
        await happen(stats, "a.b")
    async with harness(tmp_path, clock, windows=[300, 86_400], max_keys=10) as stats:
        assert (await ok(stats, "summary.get"))["windows"] == ["5m", "1d"]
        assert (await ok(stats, "rate.get", window="5m"))["events"] == count + 1
        assert (await ok(stats, "rate.get", window="1d"))["events"] in (0, 1)  # what was not kept is not known
