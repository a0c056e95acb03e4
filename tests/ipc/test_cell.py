"""The cell of a worker as it travels, and the report of what enforces it."""

from __future__ import annotations

from typing import Any

import pytest

from modvisor.ipc.cell import DEFAULT, HIDDEN, LISTED, MAX_MEANS, STRICT, Cell, as_report, missing
from modvisor.ipc.errors import RemoteProtocolError
from modvisor.ipc.messages import pack, unpack

CELLS = [
    Cell(),
    Cell(DEFAULT, False, True, HIDDEN, (b"/state", b"/net\xff.yaml"), b"/state/mods/wiki"),
    Cell(STRICT, True, True, LISTED, (), b"/s", b"/s", (b"/usr",), (b"/data",), ("example.com",), False, True, 100_001),
    Cell(network=()),
]


@pytest.mark.parametrize("cell", CELLS)
def test_a_cell_is_read_as_it_is_written(cell: Cell) -> None:
    assert Cell.from_list(unpack(pack(cell.to_list()))) == cell


@pytest.mark.parametrize(
    "data",
    [None, [], ["default"], ["loose", *Cell().to_list()[1:]], [*Cell().to_list()[:-1], "root"],
     [*Cell().to_list()[:4], ["text"], *Cell().to_list()[5:]]],
)  # fmt: skip
def test_what_is_no_cell_is_refused(data: Any) -> None:
    with pytest.raises(RemoteProtocolError, match="cell"):
        Cell.from_list(data)


def test_a_report_keeps_pairs_of_text_alone() -> None:
    assert as_report({"user": "m" * 999, 1: "x", "exec": None}) == {"user": "m" * MAX_MEANS}
    assert as_report("nonsense") == {}


def test_the_parts_that_are_not_enforced_are_found_with_their_reasons() -> None:
    report = {"processes": "PID namespace", "files": "not: mount namespaces are not allowed here"}
    assert missing(report) == {"files": "mount namespaces are not allowed here"}
