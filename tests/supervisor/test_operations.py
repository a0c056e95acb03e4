"""What can be asked of a network, and what it says when it does not run. The parts are fakes."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from modvisor.ipc.errors import Code, ModvisorError
from modvisor.ipc.event import Event, EventResponse
from modvisor.supervisor import inspection
from modvisor.supervisor.config import parse_config
from modvisor.supervisor.operations import Operations

pytestmark = pytest.mark.anyio


class FakeGateway:
    def __init__(self) -> None:
        self.taps: list[Any] = []
        self.response = object()

    def from_inside(self, event: Event) -> Any:
        return self.response


class FakeLog:
    def __init__(self) -> None:
        self.listeners: list[Any] = []

    def add_listener(self, listener: Any) -> None:
        self.listeners.append(listener)

    def remove_listener(self, listener: Any) -> None:
        self.listeners.remove(listener)


class FakeMods(dict[str, Any]):
    def find(self, name: str) -> Any:
        return self.get(name)

    def named(self, name: str) -> Any:
        return self.find(name) or EventResponse.failure("no_such_mod", name)


@pytest.fixture
def network(tmp_path: Path) -> Operations:
    return Operations(parse_config({"network": {"name": "test"}}, base_dir=tmp_path))


@pytest.fixture
def running(network: Operations) -> Operations:
    workers = [SimpleNamespace(mod_id=f"wiki#{n}", log=FakeLog()) for n in range(2)]
    mods = FakeMods(wiki=SimpleNamespace(keepers=workers))
    parts: Any = SimpleNamespace(gateway=FakeGateway(), saves=[], mods=mods, port=7)
    network._parts = parts
    return network


async def test_requests_to_a_network_that_does_not_run_are_failures(network: Operations) -> None:
    event = Event("test.ask")
    answers = [
        await network.process_event(event),
        await network.process_external_event(event),
        await network.load_mod("./wiki"),
        await network.unload_mod("wiki"),
        await network.reload_mod("wiki"),
        await network.restart_mod("wiki"),
        await network.swap_mod("wiki", "./wiki"),
        await network.set_audience("wiki", percent=5),
        network.get_audience("wiki"),
        await network.promote_mod("wiki"),
        await network.rollback_mod("wiki"),
        await network.register_agent("alice"),
        await network.unregister_agent("alice"),
    ]
    assert {answer.error for answer in answers} == {Code.NOT_RUNNING}
    assert [answer.event_name for answer in answers[:2]] == ["test.ask", "test.ask"]


async def test_what_has_no_response_raises_when_the_network_does_not_run(network: Operations) -> None:
    config = network.config
    for ask in (
        network.poll_events("alice"),
        network.backup("copy"),
        network.sample_resources(),
        network.reconfigure(config),
    ):
        with pytest.raises(ModvisorError, match=r"call initialize\(\) first"):
            await ask
    for look in (network.tap, network.follow_saves, network.get_crashes, lambda: network.follow_log("wiki")):
        with pytest.raises(ModvisorError) as caught:
            look()
        assert caught.value.code == Code.NOT_RUNNING
    with pytest.raises(ModvisorError):
        _ = network.dead_letters


def test_a_network_that_does_not_run_has_nothing_to_see(network: Operations) -> None:
    assert (network.is_running, network.port, network.uptime) == (False, None, 0.0)
    assert (network.get_loaded_mods(), network.describe_mods(), network.agent_directory()) == ({}, [], {})
    assert network.watched_mods == []
    assert network.authenticate("alice", "secret") is False
    network.request_stop()


def test_an_event_gets_no_coroutine_on_its_way_to_the_gateway(running: Operations) -> None:
    assert running._parts is not None
    assert running.process_event(Event("test.ask")) is running._parts.gateway.response  # type: ignore[attr-defined]


async def test_a_network_that_closes_refuses_new_events(running: Operations) -> None:
    running._closing = True
    assert (await running.process_event(Event("test.ask"))).error == Code.NOT_RUNNING


async def test_an_entry_with_mistakes_is_a_failure_that_names_the_path(running: Operations) -> None:
    for response in (
        await running.load_mod("./wiki", limits={"memory": "much"}),
        await running.swap_mod("wiki", "./wiki", limits={"memory": "much"}),
    ):
        assert not response.success
        assert response.data["mod_path"] == "./wiki"
        assert str(response.message).startswith("./wiki: ")


def test_a_tap_gets_pairs_while_it_is_open(running: Operations) -> None:
    assert running._parts is not None
    taps = running._parts.gateway.taps
    pair = (Event("test.ask"), EventResponse(True))
    with running.tap() as one, running.tap() as other:
        for tap in taps:
            tap(pair)
        assert (one.get_nowait(), other.get_nowait()) == (pair, pair)
    assert taps == []


def test_a_reader_that_lags_loses_the_newest_items(running: Operations, monkeypatch: pytest.MonkeyPatch) -> None:
    assert running._parts is not None
    monkeypatch.setattr(inspection, "LISTENER_SIZE", 2)
    saved: list[Any] = ["first", "second", "third"]
    with running.follow_saves() as queue:
        for item in saved:
            running._parts.saves[0](item)
        assert [queue.get_nowait() for _ in range(queue.qsize())] == ["first", "second"]


def test_a_log_is_followed_in_every_worker_of_a_mod(running: Operations) -> None:
    assert running._parts is not None
    workers: Any = running._parts.mods.find("wiki").keepers  # type: ignore[union-attr]
    with running.follow_log("wiki") as queue:
        for worker in workers:
            worker.log.listeners[0](f"line of {worker.mod_id}")
        assert [queue.get_nowait() for _ in range(2)] == ["line of wiki#0", "line of wiki#1"]
    assert [worker.log.listeners for worker in workers] == [[], []]
    with running.follow_log("wiki#1"):
        assert [len(worker.log.listeners) for worker in workers] == [0, 1]
    with pytest.raises(ModvisorError, match="no mod 'shop' is loaded"):
        running.follow_log("shop")


async def test_a_request_that_was_not_allowed_is_counted_and_logged(
    network: Operations, caplog: pytest.LogCaptureFixture
) -> None:
    network.note_refused(Event("system.mod.load", "agent:alice"), "no permission")
    assert network.counters.refused == 1
    assert "refused system.mod.load from agent:alice: no permission" in caplog.text
