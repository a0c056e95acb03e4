"""What a worker asks about files is checked before anything is done."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from modvisor.ipc.errors import InvalidEvent
from modvisor.supervisor.events.file_requests import FileRequests

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(
    ("params", "why"),
    [
        (None, "the name of a file must be text that can be printed, got None"),
        (
            {"do": "put", "name": "a", "data": "text"},
            r"expected do: put \(with data: bytes\), get, list or drop, got 'put'",
        ),
        ({"do": "rename", "name": "a"}, "got 'rename'"),
        ({"do": "get", "name": "a\nb"}, r"must be text that can be printed, got 'a\\nb'"),
        ({"do": "drop", "name": 5}, "must be text that can be printed, got 5"),
        ({"do": "put", "name": "\ud800", "data": b""}, "must be text"),
        ({"do": "put", "name": "ä" * 101, "data": b""}, "takes 202 bytes, more than the 200 that it may"),
    ],
)
async def test_a_request_that_makes_no_sense_is_refused(params: Any, why: str) -> None:
    requests, incarnation = FileRequests(cast(Any, None)), SimpleNamespace(config=SimpleNamespace(mod_id="wiki"))
    with pytest.raises(InvalidEvent, match=why):
        await requests.answer(cast(Any, None), cast(Any, incarnation), params)
