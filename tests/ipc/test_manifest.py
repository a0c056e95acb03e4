"""A manifest is checked when it comes from a worker."""

from __future__ import annotations

from typing import Any

import pytest

from modvisor.ipc.errors import RemoteProtocolError
from modvisor.ipc.manifest import MAX_ENFORCED, MAX_PATTERNS, Manifest

MANIFEST = Manifest(
    mod_class="wiki.mod:Wiki",
    version="1.2",
    description="Pages.",
    patterns=("wiki.*", "page.get"),
    observes=("*",),
    file="/srv/mods/wiki/mod.py",
    resumable=True,
    side_by_side=True,
    host="openagents",
    enforced={"memory": "RLIMIT_DATA"},
)


def test_a_manifest_is_read_as_it_is_written() -> None:
    assert Manifest.from_dict(MANIFEST.to_dict()) == MANIFEST


def test_what_an_older_worker_leaves_out_has_a_default() -> None:
    newer = ("resumable", "side_by_side", "host", "enforced")
    data = {key: value for key, value in MANIFEST.to_dict().items() if key not in newer}
    found = Manifest.from_dict(data)
    assert (found.resumable, found.side_by_side, found.host, found.enforced) == (False, False, None, {})


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"version": 1}, "expected {mod_class"),
        ({"patterns": "wiki.*"}, "expected {mod_class"),
        ({"patterns": ["Wiki"]}, "pattern 'Wiki'"),
        ({"observes": [None]}, "pattern None"),
        ({"patterns": ["a.b"] * (MAX_PATTERNS + 1)}, f"the cap is {MAX_PATTERNS}"),
    ],
)
def test_what_is_no_manifest(change: dict[str, Any], said: str) -> None:
    with pytest.raises(RemoteProtocolError, match="manifest: ") as caught:
        Manifest.from_dict({**MANIFEST.to_dict(), **change})
    assert said in str(caught.value)


@pytest.mark.parametrize("enforced", [None, 7, ["memory"], {1: "x", "memory": 2}])
def test_means_that_are_no_text_are_left_out(enforced: Any) -> None:
    assert Manifest.from_dict({**MANIFEST.to_dict(), "enforced": enforced}).enforced == {}


@pytest.mark.parametrize("host", ["", 7, ["openagents"]])
def test_a_host_that_is_no_name_is_none(host: Any) -> None:
    assert Manifest.from_dict({**MANIFEST.to_dict(), "host": host}).host is None


def test_the_text_of_a_stranger_is_cut() -> None:
    many = {str(number): "x" * 100 for number in range(100)}
    found = Manifest.from_dict({**MANIFEST.to_dict(), "enforced": many, "version": "9" * 1000})
    assert (len(found.enforced), len(found.enforced["0"]), len(found.version)) == (MAX_ENFORCED, 64, 64)
