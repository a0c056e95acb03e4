"""The live view, the ways of events and their payloads, over a real network: what is sent, to whom, and until when."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest

from modvisor.supervisor import AgentNetwork, Event
from modvisor.supervisor.journal.records import DeadLetter
from tests.http.serving import JSON, TALKER, Served, serving, shared_network

pytestmark = pytest.mark.anyio

Make = Callable[..., AgentNetwork]
V1 = "/admin/v1"

PASSER = """
    from modvisor.mods import BaseMod, Event, mod_event_handler

    class Passer(BaseMod):
        @mod_event_handler("test.ping")
        async def pass_on(self, event):
            await self.context.send_event(Event("test.say", payload={"text": "x"}))
            return None
"""


@pytest.fixture(scope="module")
async def shared(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Served]:
    mods = {"passer": PASSER, "talker": TALKER}
    async with shared_network(
        tmp_path_factory.mktemp("live"), mods, http={"trusted_addresses": ["127.0.0.1"]}
    ) as served:
        yield served


@asynccontextmanager
async def lines(client: httpx.AsyncClient, path: str, **query: Any) -> AsyncIterator[Callable[[], Any]]:
    """Read a stream; what is yielded returns the next line."""
    async with client.stream("GET", f"{V1}{path}", params=query) as answer:
        assert answer.status_code == 200, await answer.aread()
        found = answer.aiter_lines()

        async def following() -> dict[str, Any]:
            return json.loads(await anext(found))

        yield following


@asynccontextmanager
async def as_operator(served: Served, name: str, **token: Any) -> AsyncIterator[httpx.AsyncClient]:
    """A client over TCP with a token that is revoked at the end."""
    made = await served.admin.post(f"{V1}/tokens", json={"name": name, "scope": "read", **token})
    headers = {**JSON, "Authorization": f"Bearer {made.json()['data']['token']}"}
    url = f"http://127.0.0.1:{served.network.port}"
    async with httpx.AsyncClient(base_url=url, trust_env=False, timeout=30, headers=headers) as client:
        try:
            yield client
        finally:
            if any(each["name"] == name for each in served.network.list_tokens()):
                await served.network.revoke_token(name)


async def until_the_end(line: Callable[[], Any]) -> None:
    while True:
        await line()


async def test_the_first_line_has_everything_and_later_ones_what_has_changed(served: Served) -> None:
    async with lines(served.admin, "/live") as line:
        first = await line()
        assert (first["type"], first["interval"]) == ("all", 1.0)
        assert first["network"]["name"] == "test"
        assert first["network"]["supervisor"]["pid"]
        assert [row["id"] for row in first["mods"]] == ["passer", "talker"]
        row = first["mods"][1]
        assert (row["state"], row["audience"], row["problem"], row["family"]) == ("ready", "all", None, "talker")
        assert row["cpu_history"] == row["rss_history"] == [] or len(row["rss_history"]) <= 60
        secret = await served.register("alice")
        assert (await served.send("alice", secret, "test.ping"))["success"]
        pairs = {("agents", "mod:passer"), ("mod:passer", "mod:talker"), ("agents", "mod:talker")}
        rates: dict[str, float] = {}
        while pairs or len(rates) < 2:
            change = await line()
            assert change["type"] == "change"
            pairs -= {(source, to) for source, to, rate, failed in change["edges"] if rate > 0 and not failed}
            rates |= {row["id"]: row["p50"] for row in change["mods"] if row["rate"] > 0}
            assert not any("cpu_history" in row for row in change["mods"])
        assert rates["talker"] > 0
    async with lines(served.admin, "/live", since=change["seq"]) as line:
        again = await line()
        assert (again["type"], again["removed"]) == ("change", [])
    async with lines(served.admin, "/live", since=5) as line:
        assert (await line())["type"] == "all"


async def test_a_mod_that_is_unloaded_is_named_once_and_the_order_with_it(served: Served) -> None:
    assert (await served.network.load_mod("./talker", mod_id="second")).success
    async with lines(served.admin, "/live") as line:
        seen = await line()  # of a look that may be a moment older than the load
        while "second" not in seen.get("order", [row["id"] for row in seen["mods"]]):
            seen = await line()
        assert seen.get("order", [row["id"] for row in seen["mods"]]) == ["passer", "talker", "second"]
        assert (await served.network.unload_mod("second")).success
        gone = await line()
        while not gone["removed"]:
            gone = await line()
        assert (gone["removed"], gone["order"]) == (["second"], ["passer", "talker"])
        after = await line()
        assert after["removed"] == []
        assert "order" not in after


async def test_a_stream_ends_with_the_token_that_opened_it(served: Served) -> None:
    async with as_operator(served, "short") as client, lines(client, "/live") as line:
        await line()
        await served.network.revoke_token("short")
        with pytest.raises(StopAsyncIteration):
            await until_the_end(line)


async def test_more_streams_than_the_file_allows_are_refused(make_network: Make) -> None:
    network = make_network({"port": 0}, dashboard={"live_streams": 1})
    async with serving(network) as served, lines(served.admin, "/live") as line:
        await line()
        refused = await served.admin.get(f"{V1}/live")
        assert (refused.status_code, "dashboard.live_streams" in refused.text) == (429, True)


async def test_the_way_of_an_event_names_the_mods_and_what_it_caused(served: Served) -> None:
    secret = await served.register("bob")
    async with lines(served.admin, "/events", brief=1, pattern="test.ping") as line:
        assert await line() == {"listening": True}
        sent = await served.send("bob", secret, "test.ping", payload={"i": 1})
        brief = await line()
    assert (brief["id"], brief["name"], brief["source"]) == (sent["event_id"], "test.ping", "bob")
    assert (brief["success"], brief["error"], brief["by"]) == (True, None, "talker")
    assert "payload" not in brief
    way = (await served.admin.get(f"{V1}/events/{sent['event_id']}/way")).json()
    assert [(step["mod"], step["outcome"]) for step in way["steps"]] == [("passer", "passed"), ("talker", "answered")]
    [caused] = way["caused"]
    child = (await served.admin.get(f"{V1}/events/{caused}/way")).json()
    assert (child["cause"], child["event"]["via"]) == (sent["event_id"], "mod:passer")
    missing = await served.admin.get(f"{V1}/events/nothing/way")
    assert (missing.status_code, "dashboard.ways" in missing.text) == (404, True)


async def test_payloads_are_for_those_who_may_read_them_and_the_audit_names_these(served: Served) -> None:
    secret = await served.register("carol")
    async with (
        as_operator(served, "blind") as blind,
        as_operator(served, "seeing", payloads=True) as seeing,
        lines(blind, "/events", pattern="test.ping") as hidden,
        lines(seeing, "/events", pattern="test.ping") as shown,
    ):
        await hidden()
        await shown()
        await served.send("carol", secret, "test.ping", payload={"i": 41}, metadata={"m": 1})
        line, full = await hidden(), await shown()
        async with lines(seeing, "/events") as again:
            await again()
    assert (line["payloads"], line["event"]["event_name"], line["event"]["source_id"]) == (False, "test.ping", "carol")
    assert line["event"]["size"] > 0
    assert not {"payload", "metadata", "text_representation"} & line["event"].keys()
    assert not {"data", "message"} & line["response"].keys()
    assert line["response"]["success"]
    assert "41" not in json.dumps({**line["event"], "timestamp": 0, "event_id": ""})
    assert (full["event"]["payload"], full["response"]["data"]["i"]) == ({"i": 41}, 41)
    records = await served.network.audit_records(100, what="payloads.read")
    by = [each["who"] for each in records]
    assert by.count("operator:seeing") == 1
    assert "operator:blind" not in by


async def test_a_dead_letter_shows_what_it_carries_to_those_who_may_read_it(served: Served) -> None:
    event = Event("gone.by.now", "agent:ann", payload={"x": "secret of ann"}, metadata={"m": 1}).to_dict()
    assert served.network._parts is not None
    letter = DeadLetter(None, "gone", event, 2, "dead_lettered", "it ended", None, time.time())
    number = await served.network._parts.journal.bury(letter)
    path = f"{V1}/dead-letters/{number}"
    async with as_operator(served, "blind") as blind, as_operator(served, "seeing", payloads=True) as seeing:
        hidden, shown = (await blind.get(path)).json(), (await seeing.get(path)).json()
    assert (hidden["payloads"], hidden["event"]["event_name"]) == (False, "gone.by.now")
    assert not {"payload", "metadata"} & hidden["event"].keys()
    assert shown["event"]["payload"] == {"x": "secret of ann"}
    [record] = await served.network.audit_records(1, what="payloads.read")
    assert (record["who"], record["on"]) == ("operator:seeing", str(number))
