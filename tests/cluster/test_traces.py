"""One trace of an event that comes by several nodes, as a collector gets it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from modvisor.supervisor import AgentNetwork, Event
from tests.conftest import until
from tests.tracing.collector import collecting

from .networks import config_of_node, nodes
from .servers import Servers

__all__ = ["nodes"]

pytestmark = pytest.mark.anyio

FRONT = """
    from modvisor.mods import BaseMod, Event, EventResponse, mod_event_handler

    class Front(BaseMod):
        @mod_event_handler("shop.order.place")
        async def place(self, event):
            answer = await self.context.send_event(Event("stock.item.take", destination_id="mod:stock"))
            return EventResponse(answer.success, data={"stock": answer.data})
"""
STOCK = """
    from modvisor.mods import BaseMod, EventResponse, mod_event_handler

    class Stock(BaseMod):
        @mod_event_handler("stock.item.take")
        async def take(self, event):
            return EventResponse(True, data=event.metadata["traceparent"])

        @mod_event_handler("stock.item.break")
        async def fail(self, event):
            raise RuntimeError("no")
"""


async def test_one_trace_leads_over_the_nodes_that_an_event_comes_by(
    servers: Servers, network_id: str, tmp_path: Any, write_mod: Callable[..., str]
) -> None:
    mods = [
        {"path": write_mod("front", FRONT), "placement": {"on": ["b"]}, "config": {"public": True}},
        {"path": write_mod("stock", STOCK), "placement": {"on": ["a"]}, "config": {"public": True}},
    ]
    with collecting() as collector:
        made = [
            AgentNetwork.from_config(
                {
                    **config_of_node(servers, network_id, tmp_path, name, mods),
                    "tracing": {"otlp": collector.url, "sample": int(name == "a")},
                },
                base_dir=tmp_path,
            )
            for name in "ab"
        ]
        a, b = made
        try:
            await asyncio.gather(a.initialize(), b.initialize())
            await until(lambda: all(each["state"] == "ready" for each in a.get_loaded_mods().values()))
            answer = await a.process_event(Event("shop.order.place", "agent:ann", "mod:front"))
            assert answer.success, answer
            failed = await b.process_event(Event("stock.item.break", "agent:ann", "mod:stock"))
            assert failed.error == "handler_error", "which b did not choose to trace"
        finally:
            await b.shutdown()
            await a.shutdown()
    chain = [
        "send shop.order.place", "forward front", "ask front", "handle shop.order.place",
        "send stock.item.take", "forward stock", "ask stock", "handle stock.item.take",
    ]  # fmt: skip
    assert sorted(span.name for span in collector.spans) == sorted(chain), "each has ended, once"
    spans = [collector.named(name) for name in chain]
    assert len({span.trace_id for span in spans}) == 1
    assert [span.parent_id for span in spans[1:]] == [span.span_id for span in spans[:-1]]
    assert [spans[1].attributes["modvisor.node"], spans[5].attributes["modvisor.node"]] == ["b", "a"]
    assert not any(span.is_error for span in spans)
    assert answer.data["stock"].split("-")[2] == spans[-1].span_id
