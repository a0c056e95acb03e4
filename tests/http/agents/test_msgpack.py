"""The agents' routes speak msgpack with who asks for it."""

from __future__ import annotations

import datetime
from typing import Any

import httpx
import msgpack
import pytest

from modvisor.supervisor.http.content.as_json import BadBody
from modvisor.supervisor.http.content.as_msgpack import MEDIA_TYPE, from_msgpack, wants_packed
from modvisor.supervisor.http.content.bodies import TooLarge
from tests.http.serving import Served

pytestmark = pytest.mark.anyio

PACKED = {"Content-Type": MEDIA_TYPE, "Accept": MEDIA_TYPE}
WHEN = datetime.datetime(2026, 1, 31, 12, tzinfo=datetime.UTC)


def unpacked(answer: httpx.Response) -> Any:
    assert answer.headers["content-type"] == MEDIA_TYPE, answer.text
    return msgpack.unpackb(answer.content, timestamp=3, strict_map_key=False)


# A `TE` header sends a request the long way.
@pytest.mark.parametrize("way", [{}, {"TE": "trailers"}], ids=["short", "long"])
async def test_an_agent_registers_sends_polls_and_leaves_in_msgpack(served: Served, way: dict[str, str]) -> None:
    async def post(path: str, body: dict[str, Any]) -> Any:
        content = msgpack.packb(body, datetime=True)
        return unpacked(await served.agents.post(path, content=content, headers=PACKED | way))

    secret = (await post("/api/register", {"agent_id": "alice", "metadata": {"name": "Alice"}}))["secret"]
    who = {"source_id": "alice", "secret": secret}
    answer = await post("/api/send_event", who | {"event_name": "test.ping", "payload": {"i": [b"\0", WHEN]}})
    assert answer["data"]["i"] == [b"\0", WHEN]
    sent = who | {"event_name": "chat.message", "target_agent_id": "bob", "payload": {"data": b"x" * 1000}}
    assert (await post("/api/send_event", sent))["error"] == "no_such_agent"
    bob = await served.register("bob")
    assert (await post("/api/send_event", sent))["success"]
    query = {"agent_id": "bob", "secret": bob}
    polled = unpacked(await served.agents.get("/api/poll", params=query, headers={"Accept": MEDIA_TYPE} | way))
    assert polled["messages"][0]["payload"] == {"data": b"x" * 1000}
    assert (polled["success"], polled["agent_id"]) == (True, "bob")
    refused = await served.agents.get(
        "/api/poll", params={**query, "secret": "x"}, headers={"Accept": MEDIA_TYPE} | way
    )
    assert (unpacked(refused)["success"], unpacked(refused)["messages"]) == (False, [])
    assert (await post("/api/unregister", {"agent_id": "alice", "secret": secret})) == {"success": True}


async def test_body_and_answer_may_have_different_forms(served: Served) -> None:
    body = msgpack.packb({"agent_id": "alice"})
    assert (await served.agents.post("/api/register", content=body, headers={"Content-Type": MEDIA_TYPE})).json()[
        "secret"
    ]
    answer = await served.agents.post("/api/register", json={"agent_id": "bob"}, headers={"Accept": MEDIA_TYPE})
    assert unpacked(answer)["secret"]


async def test_a_large_body_in_msgpack(served: Served) -> None:
    secret = await served.register("alice")
    body = {"source_id": "alice", "secret": secret, "event_name": "test.ping", "payload": {"i": b"x" * 2_000_000}}
    who = {"X-Agent-Id": "alice", "Authorization": f"Bearer {secret}"}
    answer = await served.agents.post("/api/send_event", content=msgpack.packb(body), headers=PACKED | who)
    assert unpacked(answer)["data"]["i"] == b"x" * 2_000_000


async def test_msgpack_carries_an_answer_that_json_cannot(served: Served) -> None:
    secret = await served.register("alice")
    body = {"source_id": "alice", "secret": secret, "event_name": "test.unwritable"}
    answer = await served.agents.post("/api/send_event", content=msgpack.packb(body), headers=PACKED)
    assert unpacked(answer)["data"] == {"inner": {b"key": 1}}  # JSON has no such key


@pytest.mark.parametrize(
    "body",
    [b"", b"\xc1", b"\x80\x80", b"\x90", b"\x81\x01\x01", b"\x81\xa1x\xc7\x01\x05x", b"\x81\xa1x" + b"\x91" * 200],
)
def test_what_is_no_map_of_texts_is_refused(body: bytes) -> None:
    with pytest.raises(BadBody):
        from_msgpack(body, 1000)


def test_values_are_counted_at_every_depth() -> None:
    body = msgpack.packb({"list": [[0] * 10] * 10})
    assert from_msgpack(body, 111)
    with pytest.raises(TooLarge, match="more than 110 values"):
        from_msgpack(body, 110)


@pytest.mark.parametrize(
    ("accept", "wants"),
    [
        ("", False),
        ("*/*", False),
        (MEDIA_TYPE, True),
        (f"text/html, {MEDIA_TYPE};q=0.9", True),
        ("application/msgpackx", False),
    ],
)
def test_an_answer_is_msgpack_only_for_who_names_it(accept: str, wants: bool) -> None:
    assert wants_packed({"accept": accept}) is wants
