"""An unknown word comes back with the one that was probably meant: mods, events, paths, files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from .conftest import Command, Served


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (("unload", "ehco"), "no mod 'ehco' is loaded; did you mean 'echo'? (no_such_mod)"),
        (("reload", "./ecko"), "no mod './ecko' is loaded; did you mean './echo'?"),
        (("stats", "ehco"), "no mod 'ehco' is loaded; did you mean 'echo'?"),
        (("logs", "ehco"), "mod 'ehco' is not loaded and has left no log (no_such_mod); did you mean 'echo'?"),
        (("crashes", "ehco"), "no mod 'ehco' is loaded (no_such_mod); did you mean 'echo'?"),
        (("send", "test.pnig"), "(unknown_event); did you mean 'test.ping'?"),
        (("send", "test.ping", "--to", "mod:ehco"), "(no_such_mod); did you mean 'echo'?"),
        (("load", "./ecko"), "is a folder; did you mean './echo'?"),
        (("load", "modvisor.mods.workspace.wikki", "--id", "w"), "did you mean 'modvisor.mods.workspace.wiki'?"),
        (("-f", "netwrok.yaml", "ps"), "did you mean 'network.yaml'?"),
        (("run", "netwrok.yaml"), "there is no network file netwrok.yaml; did you mean 'network.yaml'?"),
        (("validate", "netwrok.yaml"), "cannot read the file: No such file or directory; did you mean 'network.yaml'?"),
        (("load", "./echo", "--version", "1.0.1", "--id", "w"), "no version 1.0.1 of ./echo; did you mean '1.0'?"),
        (("unlaod", "echo"), "Did you mean 'unload'"),
    ],
)
def test_the_word_that_was_meant_is_named(asked: Served, cli: Command, words: tuple[str, ...], hint: str) -> None:
    result = cli(*words)
    assert result.exit_code != 0
    assert hint in result.stderr


def test_a_word_that_is_like_none_lists_what_there_is(asked: Served, cli: Command) -> None:
    assert "no mod 'zzz' is loaded (loaded: echo)" in cli("unload", "zzz").stderr
    assert "did you mean" not in cli("send", "other.thing.entirely").stderr
    assert "did you mean" not in cli("load", "no.such.module", "--id", "w").stderr


def test_the_document_is_that_of_the_network(asked: Served, cli: Command) -> None:
    found = json.loads(cli("send", "test.pnig", "--json").stdout)
    assert found["data"]["error"] == "unknown_event"


@pytest.mark.parametrize("words", [("run",), ("start",), ("ps",), ("status",)])
def test_in_an_empty_folder_it_says_how_to_begin(cli: Command, tmp_path: Path, words: tuple[str, ...]) -> None:
    result = cli(*words)
    assert result.exit_code == (4 if words[0] in ("run", "start") else 3)
    assert "modvisor init" in result.stderr
    assert list(tmp_path.iterdir()) == []
