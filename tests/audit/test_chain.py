"""The chain of the audit: what somebody without the key did to its lines is found."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from modvisor.supervisor.audit.chain import Head, chained, checked, seal
from modvisor.supervisor.audit.verifying import Place, Verdict, verify_lines

KEY = b"k" * 32
RECORDS = st.lists(
    st.fixed_dictionaries({"who": st.text(max_size=5), "detail": st.dictionaries(st.text(max_size=3), st.floats())}),
    min_size=2,
    max_size=12,
)


def written(records: list[dict[str, object]], key: bytes = KEY) -> tuple[list[bytes], Head]:
    lines, head = [], Head()
    for record in records:
        line, head = chained(key, record, head)
        lines.append(line)
    return lines, head


def verified(lines: list[bytes], head: Head | None) -> Verdict:
    placed = [(Place("audit.jsonl", number), line) for number, line in enumerate(lines, 1)]
    return verify_lines(KEY, placed, None if head is None else (head.number, seal(KEY, head)))


@settings(max_examples=15)
@given(RECORDS)
def test_what_was_written_is_read_and_sound(records: list[dict[str, object]]) -> None:
    lines, head = written(records)
    assert [repr(checked(KEY, line).record) for line in lines] == list(map(repr, records))  # type: ignore[union-attr]
    verdict = verified(lines, head)
    assert (verdict.is_sound, verdict.findings, verdict.first, verdict.last) == (True, [], 1, len(records))


@settings(max_examples=15)
@given(RECORDS, st.data())
def test_a_changed_line_is_found_and_named(records: list[dict[str, object]], data: st.DataObject) -> None:
    lines, head = written(records)
    at = data.draw(st.integers(0, len(lines) - 1))
    place = data.draw(st.integers(0, len(lines[at]) - 2))
    byte = data.draw(st.integers(0, 255).filter(lambda byte: byte not in (lines[at][place], 10)))
    lines[at] = lines[at][:place] + bytes([byte]) + lines[at][place + 1 :]
    verdict = verified(lines, head)
    assert verdict.findings == [f"audit.jsonl, line {at + 1}: changed, or not written by the network"]


@settings(max_examples=15)
@given(RECORDS, st.data(), st.booleans())
def test_removed_lines_are_found_and_named(
    records: list[dict[str, object]], data: st.DataObject, is_known: bool
) -> None:
    lines, head = written(records)
    gone = data.draw(st.sets(st.integers(0, len(lines) - (1 if is_known else 2)), min_size=1))
    left = [line for number, line in enumerate(lines) if number not in gone]
    verdict = verified(left, head if is_known else None)
    named = {n for text in verdict.findings for n in range(len(lines)) if _names(text, n + 1)}
    assert named == gone
    assert not verdict.is_sound


def _names(text: str, number: int) -> bool:
    words = text.replace("records ", "record ").split()
    first = int(words[1])
    last = int(words[3]) if words[2] == "to" else first
    return first <= number <= last


@settings(max_examples=15)
@given(RECORDS, st.data())
def test_reordered_and_repeated_lines_are_found(records: list[dict[str, object]], data: st.DataObject) -> None:
    lines, head = written(records)
    places = st.integers(0, len(lines) - 1)
    if data.draw(st.booleans()):
        order = data.draw(st.permutations(range(len(lines))).filter(lambda order: list(order) != sorted(order)))
        lines = [lines[number] for number in order]
    else:
        lines.insert(data.draw(places) + 1, lines[data.draw(places)])
    assert not verified(lines, head).is_sound


@settings(max_examples=15)
@given(RECORDS, st.data())
def test_a_cut_end_is_found_by_what_the_journal_knows(records: list[dict[str, object]], data: st.DataObject) -> None:
    lines, head = written(records)
    whole = b"".join(lines)
    cut = whole[: data.draw(st.integers(0, len(whole) - 2))]
    assert not verified(cut.splitlines(keepends=True), head).is_sound


@settings(max_examples=15)
@given(RECORDS, st.data())
def test_one_torn_last_line_is_forgiven(records: list[dict[str, object]], data: st.DataObject) -> None:
    """The journal hears of a line when it is on the disk, so a torn one is behind what it knows."""
    lines, head = written(records[:-1])
    torn = chained(KEY, records[-1], head)[0]
    verdict = verified([*lines, torn[: data.draw(st.integers(1, len(torn) - 1))]], head)
    assert verdict.is_sound, verdict.findings


@settings(max_examples=15)
@given(RECORDS, st.data())
def test_a_torn_line_within_is_not_forgiven(records: list[dict[str, object]], data: st.DataObject) -> None:
    lines, head = written(records)
    at = data.draw(st.integers(0, len(lines) - 2))
    lines[at] = lines[at][: data.draw(st.integers(1, len(lines[at]) - 2))]
    assert not verified(lines, head).is_sound


@settings(max_examples=15)
@given(RECORDS, RECORDS, st.data())
def test_lines_of_an_older_copy_do_not_fit(
    records: list[dict[str, object]], others: list[dict[str, object]], data: st.DataObject
) -> None:
    """Both were written with the key: the state folder was restored, and went on another way."""
    lines, head = written(records)
    other, _ = written([{"who": "restored"}, *others])
    count = data.draw(st.integers(1, min(len(lines) - 1, len(other))))
    assert not verified([*other[:count], *lines[count:]], head).is_sound
    assert not verified(other[: len(lines)], head).is_sound


@settings(max_examples=15)
@given(RECORDS)
def test_another_key_makes_no_line_of_this_audit(records: list[dict[str, object]]) -> None:
    lines, head = written(records, b"x" * 32)
    assert verified(lines, None).count >= len(lines)
    assert seal(KEY, head) != seal(b"x" * 32, head)
    assert all(checked(KEY, line) is None for line in lines)


def test_each_line_names_the_one_before() -> None:
    lines, _ = written([{"who": "a"}, {"who": "b"}, {"who": "c"}])
    found = [checked(KEY, line) for line in lines]
    assert all(after.prev == before.mac[:32] for before, after in pairwise(found) if before and after)
