"""What supervisor, guardian and wardens say to one another."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from modvisor.ipc.cell import DEFAULT, HIDDEN, Cell
from modvisor.ipc.errors import RemoteProtocolError
from modvisor.ipc.launching import (
    Ended,
    Hide,
    Imported,
    Importing,
    Kill,
    Message,
    NotStarted,
    Order,
    Signal,
    Started,
    decode,
    encode,
)
from modvisor.ipc.messages import pack

MESSAGES = [
    Order([b"/usr/bin/python3", b"-m"], {b"PATH": b"/bin"}, b"/srv", b"/sys/fs/cgroup/x"),
    Order([], {}, b"/"),
    Order([b"/srv/worker"], {}, b"/", cell=Cell(DEFAULT, True, True, HIDDEN, (b"/state",), b"/state/mods/wiki")),
    Started(7, 6, 4711, True),
    Started(7, 6, 4711, cell={"processes": "PID namespace", "network": "not: refused"}),
    NotStarted(13, "Permission denied"),
    Importing("numpy"),
    Imported({"numpy": "ModuleNotFoundError: No module named 'numpy'"}, {"grpc": "2 of native code"}),
    Signal(12, True),
    Kill(b""),
    Hide([b"/srv/token", b"/run/docker"]),
    Ended(9, 1.5, 4096),
]


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: type(message).__name__)
def test_a_message_is_read_as_it_is_written(message: Message) -> None:
    assert decode(encode(message)) == message


@pytest.mark.parametrize(
    "value",
    [
        None,
        [],
        ["Order"],
        ["Order", [], {}, "/", b""],
        ["Signal", "9", True],
        ["Ended", 0, 1, 2],
        ["Hide", ["/srv"]],
        ["Boo", 1],
    ],
)
def test_anything_else_is_refused(value: Any) -> None:
    with pytest.raises(RemoteProtocolError, match="not a message between"):
        decode(pack(value))


def test_an_order_holds_text_as_the_system_encodes_it() -> None:
    order = Order.of(["python", "caf\udce9"], {"NAME": "žluťoučký"}, Path("/srv"))
    assert order == Order([b"python", b"caf\xe9"], {b"NAME": "žluťoučký".encode()}, b"/srv", b"")
