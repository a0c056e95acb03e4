"""Reading event files, and counting results."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest

from modvisor.supervisor.cli.client import replay
from modvisor.supervisor.cli.client.replay import Replay, Summary, parse_line

EVENT = {"event_name": "a.b", "source_id": "agent:ann", "event_id": "e1", "later_field": 1}


class Recorder:
    """Instead of a client: keeps the batches, answers every event."""

    def __init__(self) -> None:
        self.batches: list[dict[str, Any]] = []

    def post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        assert path == "/events/batch"
        self.batches.append(body)
        return {"results": [{"success": True, "delivered": None}] * len(body["events"])}


def replayed(text: bytes) -> tuple[Recorder, Replay, list[str], list[int]]:
    recorder, complaints, moved = Recorder(), [], []
    run = Replay(recorder, {"concurrency": 2}, new_ids=False, on_malformed=complaints.append)  # pyright: ignore[reportArgumentType]
    run.send(io.BytesIO(text), moved.append)
    return recorder, run, complaints, moved


def test_a_line_is_an_event_or_a_record_of_one() -> None:
    line = json.dumps(EVENT).encode()
    assert parse_line(line) == EVENT
    assert parse_line(json.dumps({"event": EVENT, "response": {}}).encode()) == EVENT
    assert "event_id" not in parse_line(line, new_id=True)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"{", "not JSON"),
        (b"\xff", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b"[]", "expected a mapping"),
        (b"{}", "'event_name' is missing"),
        (b'{"event_name": "a.b", "payload": 3}', "payload: expected a dict"),
        (b'{"event_name": "a.b", "source_id": 3}', "source_id"),
        (b'{"event_name": "a.b", "hops": "x"}', "hops"),
        (b'{"event": "a.b"}', "'event_name' is missing"),
    ],
)
def test_what_is_no_event_says_why(line: bytes, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        parse_line(line)


def test_batches_are_bounded_and_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replay, "BATCH_EVENTS", 3)
    lines = [json.dumps({**EVENT, "event_id": f"e{i}"}).encode() for i in range(7)]
    text = b"\n".join(lines)
    recorder, run, _, moved = replayed(text)
    assert [len(batch["events"]) for batch in recorder.batches] == [3, 3, 1]
    assert [event["event_id"] for batch in recorder.batches for event in batch["events"]] == [f"e{i}" for i in range(7)]
    assert {batch["concurrency"] for batch in recorder.batches} == {2}
    assert run.summary.answered == 7
    assert sum(moved) == len(text)
    monkeypatch.setattr(replay, "BATCH_BYTES", len(lines[0]))
    assert len(replayed(text)[0].batches) == 7


def test_malformed_lines_are_numbered_and_counted() -> None:
    recorder, run, complaints, _ = replayed(b"\n{\n" + json.dumps(EVENT).encode() + b"\n3\n")
    assert len(recorder.batches[0]["events"]) == 1
    assert [each["line"] for each in run.summary.malformed] == [2, 4]
    assert [text.partition(":")[0] for text in complaints] == ["line 2", "line 4"]
    assert run.summary.troubled


def test_a_line_without_end_is_not_kept_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replay, "MAX_LINE", 50)
    good = b'{"event_name": "a.b"}'
    recorder, _, complaints, _ = replayed(b"x" * 1000 + b"\n" + good + b"\n")
    assert complaints == ["line 1: longer than 50 bytes; is it one event per line?"]
    assert len(recorder.batches[0]["events"]) == 1


def test_an_empty_file_asks_nothing() -> None:
    recorder, run, _, _ = replayed(b"")
    assert recorder.batches == []
    assert run.summary.to_dict()["success"]


def test_results_are_counted_by_what_became_of_them() -> None:
    summary = Summary()
    for result in (
        {"success": True, "delivered": None},
        {"success": True, "delivered": 3},
        {"success": True, "delivered": 0},
        {"success": False, "error": "timeout", "delivered": None},
        {"success": False, "error": None},
    ):
        summary.add(result)
    counted = summary.to_dict()
    assert (counted["events"], counted["answered"], counted["delivered"], counted["deliveries"]) == (5, 1, 2, 3)
    assert counted["failed"] == {"timeout": 1, "failed": 1}
    assert not counted["success"]
