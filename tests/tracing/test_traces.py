"""One trace from an agent through the network to a mod, and on to what the mod asks, as a collector gets it."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from modvisor.ipc.errors import ModvisorError
from modvisor.supervisor import AgentNetwork, Event
from modvisor.supervisor.config import parse_config
from modvisor.supervisor.config.sections.tracing import TracingConfig
from modvisor.supervisor.tracing import Tracer
from modvisor_client import AgentClient
from tests.http.serving import serving
from tests.tracing.collector import collecting

pytestmark = pytest.mark.anyio

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
SENT = {"traceparent": f"00-{TRACE}-{SPAN}-01"}

FRONT = """
    from modvisor.mods import BaseMod, Event, EventResponse, mod_event_handler

    class Front(BaseMod):
        version = "1.0"

        @mod_event_handler("shop.order.place")
        async def place(self, event):
            answer = await self.context.send_event(
                Event("stock.item.take", destination_id="mod:stock", payload={"secret": "hush"})
            )
            return EventResponse(True, data={"seen": event.metadata.get("traceparent"), "stock": answer.data})

        @mod_event_handler("shop.order.pass")
        async def step_aside(self, event):
            return None
"""
STOCK = """
    import os

    from modvisor.mods import BaseMod, EventResponse, mod_event_handler

    class Stock(BaseMod):
        version = "1.0"
        tries = 0

        @mod_event_handler("stock.item.take")
        async def take(self, event):
            return EventResponse(True, data={"seen": event.metadata.get("traceparent")})

        @mod_event_handler("stock.item.break")
        async def fail(self, event):
            raise RuntimeError("hush")

        @mod_event_handler("stock.item.die")
        async def die(self, event):
            if event.attempt == 1:
                os._exit(3)
            return EventResponse(True)

        @mod_event_handler("shop.order.pass")
        async def answer(self, event):
            return EventResponse(True, data=event.metadata)
"""

MakeNetwork = Callable[..., AgentNetwork]


@pytest.fixture
def make_traced(make_network: MakeNetwork, write_mod: Callable[..., str]) -> MakeNetwork:
    write_mod("front", FRONT)
    write_mod("stock", STOCK)

    def make(url: str, tracing: dict[str, Any] | None = None, **network: Any) -> AgentNetwork:
        mods = [{"path": "./front"}, {"path": "./stock", "restart": {"first_delay": "1ms"}}]
        return make_network(network, mods=mods, tracing={"otlp": url, **(tracing or {})})

    return make


async def test_one_trace_leads_from_the_agent_to_what_the_mod_asks(make_traced: MakeNetwork) -> None:
    with collecting() as collector:
        network = make_traced(collector.url, {"sample": 0}, port=0)
        async with serving(network) as served:
            secret = await served.register("ann")
            answer = await served.send("ann", secret, "shop.order.place", metadata=SENT, payload={"password": "hush"})
            assert answer["success"], answer
        await network.shutdown()  # which sends the rest
    assert set(collector.paths) == {"/v1/traces"}
    assert (collector.resource["service.name"], collector.resource["service.instance.id"]) == ("modvisor", "test")
    assert {span.trace_id for span in collector.spans} == {TRACE}
    chain = [
        "send shop.order.place", "ask front", "handle shop.order.place",
        "send stock.item.take", "ask stock", "handle stock.item.take",
    ]  # fmt: skip
    spans = [collector.named(name) for name in chain]
    assert len(collector.spans) == len(chain)
    assert [span.parent_id for span in spans] == [SPAN, *(span.span_id for span in spans[:-1])]
    assert all(outer.began <= inner.began for outer, inner in pairwise(spans))
    assert not any(span.is_error for span in spans)
    assert spans[0].attributes["modvisor.source"] == "agent:ann"
    assert spans[4].attributes["modvisor.mod"] == "stock"
    seen = answer["data"]
    assert seen["seen"] == f"00-{TRACE}-{spans[2].span_id}-01"
    assert seen["stock"]["seen"] == f"00-{TRACE}-{spans[5].span_id}-01"
    assert "hush" not in repr(collector.spans)


async def test_the_trace_of_a_request_goes_on_in_its_event(make_traced: MakeNetwork) -> None:
    with collecting() as collector:
        network = make_traced(collector.url, {"sample": 0}, port=0)
        async with serving(network) as served:
            secret = await served.register("ann")
            sent = {"event_name": "stock.item.take", "source_id": "ann", "secret": secret}
            for headers, metadata in ((SENT, {}), ({"traceparent": "nonsense"}, {}), (SENT, {"traceparent": "own"})):
                body = {**sent, "metadata": metadata}
                answer = (await served.agents.post("/api/send_event", json=body, headers=headers)).json()
                assert answer["success"], answer
            asked = {"event_name": "stock.item.take", "source_id": "operator"}
            assert (await served.admin.post("/admin/v1/events", json=asked, headers=SENT)).json()["success"]
        await network.shutdown()
    begun = [span for span in collector.spans if span.name == "send stock.item.take"]
    assert [(span.trace_id, span.parent_id) for span in begun] == [(TRACE, SPAN)] * 2, (
        "metadata count more than headers"
    )


async def test_the_trace_begins_at_the_agent_if_its_program_traces(make_traced: MakeNetwork) -> None:
    tracer = TracerProvider(shutdown_on_exit=False).get_tracer("of the agent")
    with collecting() as collector:
        network = make_traced(collector.url, {"sample": 0}, port=0)
        async with network, AgentClient(f"http://127.0.0.1:{network.port}", "ann") as agent:
            assert "traceparent" not in str((await agent.send("shop.order.pass", to="mod:stock")).check().data)
            with tracer.start_as_current_span("shopping") as span:
                own = span.get_span_context()
                answer = (await agent.send("stock.item.take", to="mod:stock")).check()
                said = await agent.send("shop.order.pass", to="mod:stock", metadata={"traceparent": "mine"})
    sent = collector.named("send stock.item.take")
    assert (int(sent.trace_id, 16), int(sent.parent_id, 16)) == (own.trace_id, own.span_id)
    assert answer.data["seen"].split("-")[1] == sent.trace_id
    assert said.check().data == {"traceparent": "mine"}, "what the program says counts"


async def test_failures_and_second_attempts_are_told(make_traced: MakeNetwork) -> None:
    with collecting() as collector:
        network = make_traced(collector.url, {"sample": 1})
        await network.initialize()
        failed = await network.process_event(Event("stock.item.break", "agent:ann", "mod:stock"))
        assert failed.error == "handler_error"
        died = await network.process_event(Event("stock.item.die", "agent:ann", "mod:stock"))
        assert died.success, died
        await network.shutdown()
    for name in ("send stock.item.break", "handle stock.item.break"):
        assert collector.named(name).is_error
        assert collector.named(name).attributes["modvisor.outcome"] == "handler_error"
    first, second = [span for span in collector.spans if span.name == "handle stock.item.die"]
    assert (first.attributes["modvisor.attempt"], second.attributes["modvisor.attempt"]) == (1, 2)
    assert first.is_error
    assert not second.is_error
    assert first.parent_id == second.parent_id
    assert "hush" not in repr(collector.spans)


async def test_each_mod_that_is_asked_has_a_span_and_receivers_get_that_of_the_event(make_traced: MakeNetwork) -> None:
    with collecting() as collector:
        network = make_traced(collector.url, {"sample": 1})
        await network.initialize()
        await network.register_agent("bob")
        answered = await network.process_event(Event("shop.order.pass", "agent:ann"))
        await network.process_event(Event("chat.line.said", "agent:ann", "agent:bob"))
        [got] = await network.poll_events("bob")
        await network.shutdown()
    sent, front, stock = (collector.named(name) for name in ("send shop.order.pass", "ask front", "ask stock"))
    assert front.parent_id == stock.parent_id == sent.span_id
    assert (front.attributes["modvisor.outcome"], stock.attributes["modvisor.outcome"]) == ("passed", "answered")
    handled = {span.span_id: span for span in collector.spans if span.name == "handle shop.order.pass"}
    assert {span.parent_id for span in handled.values()} == {front.span_id, stock.span_id}
    assert answered.data["traceparent"].split("-")[2] in handled
    delivered = collector.named("send chat.line.said")
    assert got.metadata["traceparent"] == f"00-{delivered.trace_id}-{delivered.span_id}-01"


async def test_an_event_that_is_not_chosen_is_left_as_it_is(make_traced: MakeNetwork) -> None:
    with collecting() as collector:
        network = make_traced(collector.url, {"sample": 0})
        await network.initialize()
        not_sampled = {"traceparent": f"00-{TRACE}-{SPAN}-00", "own": 1}
        answered = await network.process_event(Event("shop.order.pass", "agent:ann", metadata=not_sampled))
        assert answered.data == not_sampled
        assert (await network.process_event(Event("shop.order.pass", "agent:ann"))).data == {}
        await network.shutdown()
    assert collector.spans == []


async def test_what_the_caller_holds_is_not_changed(make_traced: MakeNetwork) -> None:
    with collecting() as collector:
        network = make_traced(collector.url, {"sample": 1})
        await network.initialize()
        event = Event("shop.order.pass", "agent:ann", metadata={"own": 1})
        await network.process_event(event)
        assert event.metadata == {"own": 1}
        await network.shutdown()


async def test_a_collector_that_is_away_holds_up_nothing_and_its_losses_are_counted(make_traced: MakeNetwork) -> None:
    class Broken(SpanExporter):
        def export(self, spans: Any) -> SpanExportResult:
            return SpanExportResult.FAILURE

    tracer = Tracer(TracingConfig(otlp="http://x/v1/traces", sample=1), "test", Broken())
    span = tracer.begin(Event("a.b"), None, "internal")
    assert span is not None
    span.end("done")
    tracer.close()
    assert tracer.outcomes == {"exported": 0, "lost": 1}
    network = make_traced("http://127.0.0.1:9", {"sample": 1})
    await network.initialize()
    async with asyncio.timeout(20):
        assert (await network.process_event(Event("shop.order.pass", "agent:ann"))).success
        await network.shutdown()


def test_a_span_is_ended_once() -> None:
    exporter = InMemorySpanExporter()
    tracer = Tracer(TracingConfig(otlp="http://x/v1/traces", sample=1), "test", exporter)
    span = tracer.begin(Event("a.b", "agent:ann"), None, "server")
    assert span is not None
    span.end("timeout", failed=True)
    span.end("done")
    tracer._provider.force_flush()
    [seen] = exporter.get_finished_spans()
    assert seen.attributes is not None
    assert seen.attributes["modvisor.outcome"] == "timeout"
    assert tracer.outcomes["exported"] == 1
    tracer.close()


def test_a_network_without_opentelemetry_says_what_to_install() -> None:
    script = """
import asyncio, sys, tempfile
from modvisor.supervisor import AgentNetwork

sys.modules["opentelemetry"] = None
tracing = {"otlp": "http://127.0.0.1:4318"}
network = AgentNetwork.from_config({"network": {"name": "n"}, "tracing": tracing}, base_dir=tempfile.mkdtemp())
asyncio.run(network.initialize())
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 1
    assert "tracing.otlp: OpenTelemetry cannot be imported" in done.stderr
    assert "install modvisor[otel], or remove the key" in done.stderr


def test_a_network_without_traces_imports_nothing_of_it_and_has_the_usual_parts() -> None:
    script = """
import asyncio, sys, tempfile
from modvisor.supervisor import AgentNetwork

async def main():
    network = AgentNetwork.from_config({"network": {"name": "n", "port": 0}}, base_dir=tempfile.mkdtemp())
    async with network:
        print(type(network._parts.gateway).__name__, network._parts.mods._shared.caller.__name__)
    print(sorted(name for name in sys.modules if name.split(".")[0] in ("opentelemetry", "prometheus_client", "structlog")))

asyncio.run(main())
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=30, check=True)
    assert done.stdout.splitlines() == ["Gateway Caller", "[]"]


@pytest.mark.parametrize(
    ("given", "read"),
    [
        ("http://127.0.0.1:4318", "http://127.0.0.1:4318/v1/traces"),
        ("http://127.0.0.1:4318/", "http://127.0.0.1:4318/v1/traces"),
        ("https://otel.example.com/own/path", "https://otel.example.com/own/path"),
    ],
)
def test_a_collector_without_a_path_has_the_usual_one(given: str, read: str) -> None:
    config = parse_config({"network": {"name": "n"}, "tracing": {"otlp": given}}, base_dir="/")
    assert config.tracing.otlp == read


@pytest.mark.parametrize(
    "url", ["127.0.0.1:4318", "grpc://x", "http://", "http://x:0", "http://x:port", "http://x/?q=1"]
)
def test_what_is_no_url_of_a_collector_is_refused(url: str) -> None:
    with pytest.raises(ModvisorError, match=r"tracing\.otlp: expected a URL such as http://127\.0\.0\.1:4318"):
        parse_config({"network": {"name": "n"}, "tracing": {"otlp": url}}, base_dir="/")


def test_a_password_in_the_url_is_refused() -> None:
    with pytest.raises(ModvisorError, match="OTEL_EXPORTER_OTLP_HEADERS"):
        parse_config({"network": {"name": "n"}, "tracing": {"otlp": "http://me:hush@x"}}, base_dir="/")
