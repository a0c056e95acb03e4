"""A mod's log: lines, files, memory, listeners."""

from __future__ import annotations

import errno
import logging
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modvisor.supervisor.process import log as modlog
from modvisor.supervisor.process.lines import MAX_LINE, LineSplitter
from modvisor.supervisor.process.log import MAX_KEPT, ModLog, read_tail

NOON = 1769860800.123
STAMP = "2026-01-31T12:00:00.123Z "


def make_log(path: Path, **options: Any) -> ModLog:
    return ModLog(path, **{"max_bytes": 1_000_000, "backups": 2, "clock": lambda: NOON, **options})


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "logs" / "wiki.log"


@pytest.fixture
def log(path: Path) -> Iterator[ModLog]:
    log = make_log(path)
    yield log
    log.close()


def texts(lines: list[str]) -> list[str]:
    """The lines without their stamps."""
    assert all(line.startswith(STAMP) for line in lines)
    return [line.removeprefix(STAMP) for line in lines]


def files_of(path: Path) -> list[str]:
    return sorted(file.name for file in path.parent.iterdir())


# -- lines


def test_a_line_is_stamped_alike_everywhere(log: ModLog, path: Path) -> None:
    heard: list[str] = []
    log.add_listener(heard.append)
    log.feed(b"hello\n")
    assert log.tail(10) == heard == read_tail(path, 10) == ["2026-01-31T12:00:00.123Z hello"]
    assert path.read_bytes() == b"2026-01-31T12:00:00.123Z hello\n"


def test_a_partial_line_waits_for_its_end(log: ModLog, path: Path) -> None:
    log.feed(b"one\ntw")
    assert texts(log.tail(10)) == ["one"]
    log.feed(b"o\n")
    assert texts(log.tail(10)) == texts(read_tail(path, 10)) == ["one", "two"]


def test_close_takes_an_unfinished_line_and_the_next_incarnation_goes_on(log: ModLog, path: Path) -> None:
    log.feed(b"last words")
    log.close()
    log.close()
    assert texts(read_tail(path, 10)) == ["last words"]
    log.feed(b"again\n")
    assert texts(read_tail(path, 10)) == ["last words", "again"]


@pytest.mark.parametrize(
    ("data", "lines"),
    [
        (b"", []),
        (b"\n\n", ["", ""]),
        (b"windows\r\nunix\n", ["windows", "unix"]),
        (b"10%\r20%\r\n", ["20%"]),
        (b"\rwhole\rpart\n\r\r\r\n\ra\n", ["part", "", "a"]),
        (b"form\x0cfeed\x85\n", ["form\x0cfeed\ufffd"]),
        ("grüße\u2028bye\n".encode(), ["grüße\u2028bye"]),
        (b"bad \xff\xfe end\n", ["bad \ufffd\ufffd end"]),
        (b"a\0b\n", ["a\0b"]),
    ],
)
def test_what_a_line_is(log: ModLog, path: Path, data: bytes, lines: list[str]) -> None:
    log.feed(data)
    assert texts(log.tail(10)) == texts(read_tail(path, 10)) == lines


@pytest.mark.parametrize(
    ("data", "line"),
    [
        (b"x" * MAX_LINE, "x" * MAX_LINE),
        (b"x" * MAX_LINE + b"\r", "x" * MAX_LINE),
        (b"x" * (MAX_LINE + 1), "x" * MAX_LINE + " [... 1 bytes cut]"),
        (b"x" * (MAX_LINE + 1000), "x" * MAX_LINE + " [... 1000 bytes cut]"),
        # The cut goes through a character of two bytes: no half of it is left.
        (b"x" + "ü".encode() * MAX_LINE, "x" + "ü" * (MAX_LINE // 2 - 1) + f" [... {MAX_LINE + 1} bytes cut]"),
    ],
    ids=["fits", "fits without its line end", "one too many", "long", "in a character"],
)
def test_a_long_line_is_cut_and_says_so(log: ModLog, data: bytes, line: str) -> None:
    log.feed(data + b"\nnext\n")
    assert texts(log.tail(2)) == [line, "next"]


def test_a_line_without_end_is_held_only_up_to_the_cap(log: ModLog) -> None:
    for _ in range(100):
        log.feed(b"x" * MAX_LINE)
    assert len(log._splitter._held) == MAX_LINE
    log.close()
    assert texts(log.tail(1)) == ["x" * MAX_LINE + f" [... {99 * MAX_LINE} bytes cut]"]


pieces = st.lists(
    st.one_of(st.binary(max_size=20), st.sampled_from([b"\n", b"\r\n", b"\r", b"x" * (MAX_LINE - 1), b"x" * MAX_LINE])),
    max_size=12,
)


def shown(line: bytes) -> bytes:
    """What a terminal shows of a line, if each text is longer than the one that it overwrites."""
    return line.rstrip(b"\r").rpartition(b"\r")[2]


@given(pieces)
def test_lines_do_not_depend_on_how_the_bytes_arrive(pieces: list[bytes]) -> None:
    def lines_of(chunks: list[bytes]) -> list[str]:
        splitter = LineSplitter()
        return [line for chunk in chunks for line in splitter.feed(chunk)] + splitter.end()

    data = b"".join(pieces)
    in_pieces = lines_of(pieces)
    assert in_pieces == lines_of([data])
    expected = [shown(line) for line in data.removesuffix(b"\n").split(b"\n")] if data else []
    assert len(in_pieces) == len(expected)
    for line, whole in zip(in_pieces, expected, strict=True):
        if len(whole) <= MAX_LINE:
            assert line == whole.decode(errors="replace")
        else:
            assert line.endswith("bytes cut]")


def test_what_many_short_lines_are(log: ModLog, path: Path) -> None:
    lines = [b"", b"\r", b"a\r\r", b"\xff", b"\xe2\x82", b"gr\xc3\xbc\xc3\x9fe\r", b"\xf0\x9f\x98"] * 20
    log.feed(b"\n".join([*lines, b""]))
    expected = [shown(line).decode(errors="replace") for line in lines]
    assert texts(log.tail(1000)) == texts(read_tail(path, 1000)) == expected


def test_lines_that_memory_would_not_keep_are_not_stamped_one_by_one(path: Path) -> None:
    """A flood of short lines costs the supervisor little: counted in objects, not in time."""
    log = make_log(path, keep_lines=3)
    stamped: list[int] = []
    extend = log._kept.extend
    log._kept.extend = lambda lines: (stamped.append(len(lines)), extend(lines))[1]
    log.feed(b"y\n" * 2000)
    assert stamped == [3]
    assert len(read_tail(path, 5000)) == 2000
    log.close()


# -- memory and listeners


def test_memory_keeps_the_last_lines_only(path: Path) -> None:
    log = make_log(path, keep_lines=3)
    log.feed(b"".join(b"%d\n" % i for i in range(10)))
    assert texts(log.tail(100)) == ["7", "8", "9"]
    assert texts(log.tail(2)) == ["8", "9"]
    assert log.tail(0) == log.tail(-1) == []
    log.close()


def test_memory_is_bounded_when_lines_are_long(log: ModLog) -> None:
    for _ in range(100):
        log.feed(b"x" * 10_000 + b"\n")
    kept = log.tail(100)
    assert 40 < len(kept) < 100
    assert sum(map(len, kept)) <= MAX_KEPT


def test_a_removed_listener_hears_nothing(log: ModLog) -> None:
    heard: list[str] = []
    listener = heard.append
    log.add_listener(listener)
    log.remove_listener(listener)
    log.remove_listener(listener)
    log.feed(b"hello\n")
    assert heard == []


def test_a_listener_may_remove_itself(log: ModLog) -> None:
    heard: list[str] = []

    def once(line: str) -> None:
        heard.append(line)
        log.remove_listener(once)

    log.add_listener(once)
    log.feed(b"one\ntwo\n")
    assert texts(heard) == ["one"]


def test_a_listener_that_raises_is_removed_and_the_others_hear_on(
    log: ModLog, caplog: pytest.LogCaptureFixture
) -> None:
    heard: list[str] = []

    def broken(line: str) -> None:
        raise RuntimeError("no")

    log.add_listener(broken)
    log.add_listener(heard.append)
    with caplog.at_level(logging.ERROR, logger=modlog.__name__):
        log.feed(b"one\n")
        log.feed(b"two\n")
    assert texts(heard) == ["one", "two"]
    assert len(caplog.records) == 1
    assert "wiki.log" in caplog.text


# -- files


def test_nothing_is_made_before_the_first_line(log: ModLog, path: Path) -> None:
    log.feed(b"partial")
    assert not path.parent.exists()


def test_the_file_is_private_even_if_it_was_not(log: ModLog, path: Path) -> None:
    path.parent.mkdir()
    path.touch(mode=0o644)
    log.feed(b"hello\n")
    assert path.stat().st_mode & 0o777 == 0o600


def test_one_write_for_all_the_lines_of_a_feed(log: ModLog, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    write = os.write
    with monkeypatch.context() as patch:
        patch.setattr(modlog.os, "write", lambda fd, data: sizes.append(len(data)) or write(fd, data))
        log.feed(b"one\ntwo\nthree\n")
    assert sizes == [3 * (len(STAMP) + 1) + 11]


def test_full_files_are_rotated_and_the_oldest_goes(path: Path) -> None:
    log = make_log(path, max_bytes=2 * (len(STAMP) + 2), backups=2)
    for i in range(9):
        log.feed(b"%d\n" % i)
    assert files_of(path) == ["wiki.log", "wiki.log.1", "wiki.log.2"]
    assert texts(read_tail(path, 100)) == ["4", "5", "6", "7", "8"]
    assert texts(read_tail(path.with_name("wiki.log.2"), 100)) == ["4", "5"]
    log.close()


def test_a_large_feed_is_spread_over_files(path: Path) -> None:
    log = make_log(path, max_bytes=2 * (len(STAMP) + 2), backups=2)
    log.feed(b"".join(b"%d\n" % i for i in range(9)))
    assert texts(read_tail(path, 100)) == ["4", "5", "6", "7", "8"]
    log.close()


def test_without_backups_the_file_starts_over(path: Path) -> None:
    log = make_log(path, max_bytes=2 * (len(STAMP) + 2), backups=0)
    log.feed(b"1\n2\n3\n")
    assert files_of(path) == ["wiki.log"]
    assert texts(read_tail(path, 100)) == ["3"]
    log.close()


def test_backups_of_a_larger_number_are_removed(path: Path) -> None:
    path.parent.mkdir()
    for index in (2, 3, 4):
        path.with_name(f"wiki.log.{index}").write_text("old\n")
    log = make_log(path, max_bytes=1, backups=2)
    log.feed(b"1\n2\n")
    assert files_of(path) == ["wiki.log", "wiki.log.1", "wiki.log.2"]
    log.close()


@settings(max_examples=50)
@given(
    feeds=st.lists(st.lists(st.integers(0, 80), max_size=8), max_size=12),
    max_bytes=st.integers(1, 300),
    backups=st.integers(0, 3),
    n=st.integers(0, 40),
)
def test_disk_is_bounded_and_holds_the_last_lines(feeds: list[list[int]], max_bytes: int, backups: int, n: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.log"
        log = make_log(path, max_bytes=max_bytes, backups=backups)
        lines: list[str] = []
        for lengths in feeds:
            new = [f"{len(lines) + i}:{'x' * length}" for i, length in enumerate(lengths)]
            log.feed("".join(f"{line}\n" for line in new).encode())
            lines += new
        log.close()
        assert log.write_errors == 0
        sizes = [file.stat().st_size for file in Path(folder).iterdir()]
        longest = max((len(STAMP) + len(line) + 1 for line in lines), default=0)
        assert len(sizes) <= backups + 1
        assert all(size <= max(max_bytes, longest) for size in sizes)
        on_disk = texts(read_tail(path, 1000))
        assert on_disk == lines[len(lines) - len(on_disk) :]
        assert bool(on_disk) == bool(lines)
        assert texts(read_tail(path, n)) == (on_disk[-n:] if n else [])


# -- when the file system fails


def test_a_removed_folder_is_made_again(log: ModLog, path: Path) -> None:
    log.feed(b"one\n")
    shutil.rmtree(path.parent)
    log.feed(b"two\n")
    assert texts(read_tail(path, 10)) == ["two"]
    assert texts(log.tail(10)) == ["one", "two"]
    assert log.write_errors == 0


def test_a_file_renamed_by_somebody_is_left_alone(log: ModLog, path: Path) -> None:
    log.feed(b"one\n")
    path.rename(path.with_name("kept"))
    log.feed(b"two\n")
    assert texts(read_tail(path, 10)) == ["two"]


def test_a_folder_that_cannot_be_made_is_counted(log: ModLog, path: Path) -> None:
    path.parent.write_text("in the way")
    log.feed(b"one\n")
    log.feed(b"two\n")
    assert log.write_errors == 2
    assert texts(log.tail(10)) == ["one", "two"]
    path.parent.unlink()
    log.feed(b"three\n")
    assert texts(read_tail(path, 10)) == ["three"]


def test_a_full_disk_leaves_no_half_line(log: ModLog, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log.feed(b"one\n")
    write = os.write
    calls: list[int] = []

    def write_some_then_fail(fd: int, data: bytes) -> int:
        calls.append(fd)
        if len(calls) > 1:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(fd, data[:10])

    with monkeypatch.context() as patch:
        patch.setattr(modlog.os, "write", write_some_then_fail)
        log.feed(b"two\n")
    log.feed(b"three\n")
    assert log.write_errors == 1
    assert texts(read_tail(path, 10)) == ["one", "three"]
    assert texts(log.tail(10)) == ["one", "two", "three"]


def test_a_rotation_that_fails_does_not_let_the_file_grow(path: Path) -> None:
    log = make_log(path, max_bytes=1, backups=1)
    path.with_name("wiki.log.1").mkdir(parents=True)  # nothing can take its place
    log.feed(b"one\n")
    log.feed(b"two\n")
    assert log.write_errors == 1
    assert path.read_text() == f"{STAMP}one\n"
    assert texts(log.tail(10)) == ["one", "two"]
    log.close()


# -- reading what is on disk


def test_no_log_no_lines(path: Path) -> None:
    assert read_tail(path, 10) == []


def test_read_tail_of_a_large_file_reads_its_end_only(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path.parent.mkdir()
    path.write_text("".join(f"line {i}\n" for i in range(200_000)))
    assert read_tail(path, 2) == ["line 199998", "line 199999"]
    assert len(modlog._read_end(path, 2)) <= 64 * 1024
    everything = read_tail(path, 150_000)  # many blocks
    assert (len(everything), everything[0], everything[-1]) == (150_000, "line 50000", "line 199999")


@settings(max_examples=50)
@given(st.lists(st.text(alphabet="ab\r ", max_size=9)), st.booleans(), st.integers(0, 12), st.integers(1, 9))
def test_read_tail_with_any_block_size(lines: list[str], ends: bool, n: int, block: int) -> None:
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(modlog, "_BLOCK", block)
        path = Path(folder) / "a.log"
        data = "\n".join(lines) + ("\n" if ends and lines else "")
        path.write_bytes(data.encode())
        expected = data.removesuffix("\n").split("\n") if data else []
        assert read_tail(path, n) == (expected[-n:] if n else [])


def test_read_tail_when_the_current_file_is_missing(path: Path) -> None:
    path.parent.mkdir()
    path.with_name("wiki.log.1").write_text("one\ntwo\n")
    assert read_tail(path, 1) == ["two"]
