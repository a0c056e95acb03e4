"""The files of the page: which are served, what their headers forbid, and how they are asked for again."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from modvisor.supervisor.http.board.files import KINDS, STATIC, Files


@pytest.fixture
def files(tmp_path: Path) -> Files:
    (tmp_path / "views").mkdir()
    (tmp_path / "index.html").write_text("<!doctype html>" + " " * 500)
    (tmp_path / "views" / "mods.js").write_text("export {}")
    (tmp_path / "secret.key").write_text("no")
    (tmp_path / ".hidden.js").write_text("no")
    (tmp_path.parent / "outside.js").write_text("no")
    return Files(tmp_path)


@pytest.mark.parametrize(
    "name",
    ["", "nothing.js", "secret.key", ".hidden.js", "../outside.js", "views/../index.html", "views", "/index.html"],
)
def test_nothing_else_is_served(files: Files, name: str) -> None:
    assert files.get(name) is None


def test_a_file_forbids_what_a_page_does_not_need(files: Files) -> None:
    file = files.get("views/mods.js")
    assert file is not None
    answer = file.answer({})
    assert (answer.status_code, answer.body) == (200, b"export {}")
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'; script-src 'self'; style-src 'self'" in policy
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy
    assert answer.headers["content-type"] == "text/javascript; charset=utf-8"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert answer.headers["cross-origin-opener-policy"] == "same-origin"
    assert answer.headers["cache-control"] == "no-cache"


@pytest.mark.parametrize(
    ("accepts", "compressed"), [("gzip, deflate, br", True), ("br", False), ("", False), ("gzip;q=0", False)]
)
def test_text_is_compressed_if_the_browser_takes_it(files: Files, accepts: str, compressed: bool) -> None:
    file = files.get("index.html")
    assert file is not None
    answer = file.answer({"accept-encoding": accepts})
    assert (answer.headers.get("content-encoding") == "gzip") == compressed
    body = bytes(answer.body)
    assert (gzip.decompress(body) if compressed else body) == file.content
    assert answer.headers["vary"] == "accept-encoding"


def test_a_file_is_sent_again_only_if_it_has_changed(files: Files, tmp_path: Path) -> None:
    file = files.get("index.html")
    assert file is not None
    same = file.answer({"if-none-match": f'"other", W/{file.tag}'})
    assert (same.status_code, same.body) == (304, b"")
    assert files.get("index.html") is file
    (tmp_path / "index.html").write_text("<!doctype html>new")
    changed = files.get("index.html")
    assert changed is not None
    assert changed.answer({"if-none-match": file.tag}).body == b"<!doctype html>new"


def test_each_file_of_the_page_is_of_a_kind_that_is_served() -> None:
    unknown = [path.name for path in STATIC.rglob("*") if path.is_file() and path.suffix not in KINDS]
    assert not unknown
