"""Why the system refused a path: what stands in the way is named, not only the kernel's words."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from modvisor.supervisor.causes import cause
from modvisor.supervisor.nearest import MAX_KNOWN, did_you_mean, nearest


def refusal(path: Path, flags: int = os.O_RDONLY) -> str:
    with pytest.raises(OSError) as raised:
        os.close(os.open(path, flags, 0o600))
    return cause(raised.value, path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "network.yaml").touch()
    (tmp_path / "dangling").symlink_to("nowhere")
    return tmp_path


def test_a_missing_file_and_a_missing_folder_are_told_apart(folder: Path) -> None:
    assert refusal(folder / "zzz") == "No such file or directory"
    assert refusal(folder / "netwrok.yaml") == "No such file or directory; did you mean 'network.yaml'?"
    assert refusal(folder / "a" / "b" / "c") == f"No such file or directory: the folder {folder / 'a'} does not exist"
    assert refusal(folder / "dangling").endswith("is a link to nowhere, which does not exist")


def test_what_is_there_already_is_named(folder: Path) -> None:
    new = os.O_CREAT | os.O_EXCL | os.O_WRONLY
    assert refusal(folder / "network.yaml", new) == f"File exists: {folder / 'network.yaml'} is a file"
    assert refusal(folder / "network.yaml" / "x" / "y") == f"Not a directory: {folder / 'network.yaml'} is a file"
    assert refusal(folder, os.O_WRONLY) == "Is a directory"


def test_other_reasons_keep_the_words_of_the_kernel(folder: Path) -> None:
    assert cause(OSError(28, "No space left on device"), folder) == "No space left on device"
    assert cause(ValueError("embedded null byte"), "a\0b") == "embedded null byte"
    told = cause(PermissionError(13, "Permission denied"), folder / "x")
    assert told == f"Permission denied: {folder} belongs to user {folder.stat().st_uid}, this is user {os.geteuid()}"


def test_an_unknown_word_costs_a_bounded_time() -> None:
    assert nearest("wkii", ["wiki", "shop"]) == "wiki"
    assert did_you_mean("wkii", ["shop"]) == ""
    assert did_you_mean("wiki", ["wiki"]) == "", "the word itself was not meant"
    assert nearest("wiki", ["x"] * MAX_KNOWN + ["wiki"]) is None
