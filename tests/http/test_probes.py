"""What watches a network: whether it lives, whether it is ready, and its figures."""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import threading
from collections.abc import AsyncIterator, Callable
from typing import Any

import anyio
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from modvisor.supervisor import AgentNetwork, Event
from modvisor.supervisor.http import probes
from tests.conftest import until
from tests.http.serving import TALKER, Served, serving, shared_network

pytestmark = pytest.mark.anyio

OPENMETRICS = {"Accept": "application/openmetrics-text; version=1.0.0,text/plain;q=0.5"}
SAMPLED = ("cpu_percent", "rss_bytes", "uss_bytes", "threads", "open_files", "children", "read_bytes", "write_bytes")
REQUIRED = {"path": "./needed", "id": "needed", "required": True, "restart": {"first_delay": 30}}


@pytest.fixture(scope="module")
async def shared(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Served]:
    metrics = {"public": True, "cache": 0}
    async with shared_network(tmp_path_factory.mktemp("probes"), {"talker": TALKER}, metrics=metrics) as served:
        yield served


async def scraped(served: Served) -> dict[tuple[str, ...], float]:
    answer = await served.agents.get("/metrics", headers=OPENMETRICS)
    assert answer.status_code == 200, answer.text
    samples = [sample for metric in text_string_to_metric_families(answer.text) for sample in metric.samples]
    return {(each.name, *_by_mod(each.labels)): each.value for each in samples}


def _by_mod(labels: dict[str, str]) -> list[str]:
    return [labels[name] for name in sorted(labels, key=lambda name: (name != "mod", name))]


async def steady(served: Served) -> set[tuple[str, ...]]:
    """Return the series, without those that come with the first samples of a process."""
    sampled = {f"modvisor_{whose}_{name}" for whose in ("mod", "supervisor") for name in SAMPLED}
    return {key for key in await scraped(served) if key[0].removesuffix("_total") not in sampled}


async def test_both_probes_are_answered_on_both_listeners(served: Served) -> None:
    for client in (served.agents, served.admin):
        assert (await client.get("/healthz")).json() == {"success": True, "status": "alive"}
        assert (await client.get("/readyz")).json() == {"success": True, "status": "ready", "mods": []}
        assert (await client.get("/healthz", headers={"Connection": "close"})).status_code == 200  # goes the long way


async def test_a_network_is_not_ready_while_a_required_mod_is_away(
    make_network: Callable[..., AgentNetwork], write_mod: Callable[..., str]
) -> None:
    write_mod("needed")
    network = make_network({"port": 0}, mods=[REQUIRED])
    async with serving(network) as served:
        assert (await served.agents.get("/readyz")).status_code == 200
        pid = network.get_loaded_mods()["needed"]["pid"]
        os.kill(pid, signal.SIGKILL)
        await until(lambda: network.get_loaded_mods()["needed"]["state"] == "backoff")
        for client in (served.agents, served.admin):
            answer = await client.get("/readyz")
            assert answer.status_code == 503
            assert answer.json() == {
                "success": False, "status": "not ready", "mods": [{"mod_id": "needed", "state": "backoff"}],
            }  # fmt: skip
        assert (await served.agents.get("/healthz")).status_code == 200


async def test_figures_are_scraped_with_what_happened(served: Served) -> None:
    before = await scraped(served)
    for name in ("test.ping", "test.ping", "test.raise"):
        await served.network.process_event(Event(name, "agent:x", "mod:talker"))
    await served.network.sample_resources()
    after = await scraped(served)
    answered, failed = (("modvisor_mod_events_total", "talker", outcome, "0") for outcome in ("answered", "failed"))
    assert (after[answered] - before[answered], after[failed] - before[failed]) == (2, 1)
    assert after["modvisor_mod_latency_seconds_count", "talker", "0"] >= 2
    assert after["modvisor_mod_rss_bytes", "talker", "0"] > 1_000_000
    assert after["modvisor_mod_pid", "talker", "0"] == served.network.get_loaded_mods()["talker"]["pid"]
    assert sum(value for key, value in after.items() if key[0] == "modvisor_http_connections") >= 1


async def test_inboxes_are_told_as_a_sum_and_the_fullest(served: Served) -> None:
    for agent, events in (("ann", 3), ("bob", 1)):
        await served.register(agent)
        for _ in range(events):
            await served.network.process_event(Event("chat.line.said", "system:system", f"agent:{agent}"))
    found = await scraped(served)
    assert found[("modvisor_agents",)] == 2
    assert (found[("modvisor_inbox_events",)], found[("modvisor_inbox_events_max",)]) == (4, 3)


async def test_many_agents_names_and_mods_add_no_series_once_they_are_gone(
    served: Served, write_mod: Callable[..., str]
) -> None:
    before = await steady(served)
    for number in range(50):
        await served.register(f"agent-{number}")
        await served.network.process_event(
            Event(f"test.name_{number}", f"agent:agent-{number}", f"agent:agent-{number}")
        )
    for number in range(3):
        assert (await served.network.load_mod("modvisor.mods.workspace.wiki", mod_id=f"wiki-{number}")).success
    during = await steady(served)
    assert {key[1] for key in during - before} == {"wiki-0", "wiki-1", "wiki-2"}
    for number in range(3):
        assert (await served.network.unload_mod(f"wiki-{number}")).success
    assert await steady(served) == before


@pytest.mark.slow
async def test_a_hundred_thousand_events_of_any_name_add_no_series(served: Served) -> None:
    await served.network.process_event(Event("test.ping", "agent:x", "mod:talker"))
    before = await steady(served)

    async def send(first: int) -> None:
        for number in range(first, first + 2_000):
            name = "test.ping" if number % 2 else f"test.unknown.name_{number}"
            await served.network.process_event(Event(name, f"agent:a{number}", "mod:talker" if number % 2 else None))

    async with anyio.create_task_group() as tasks:
        for first in range(0, 100_000, 2_000):
            tasks.start_soon(send, first)
    assert await steady(served) == before
    found = await scraped(served)
    assert found[("modvisor_events_processed_total",)] >= 100_000


async def test_a_scrape_from_the_port_needs_a_token_unless_figures_are_public(
    make_network: Callable[..., AgentNetwork],
) -> None:
    async with serving(make_network({"port": 0})) as served:
        answer = await served.agents.get("/metrics")
        assert answer.status_code == 403
        assert "metrics.public" in answer.json()["message"]
        assert (await served.admin.get("/metrics")).status_code == 200
        token = (await served.admin.post("/admin/v1/tokens", json={"name": "prom", "scope": "read"})).json()["data"][
            "token"
        ]
        assert (await served.agents.get("/metrics")).status_code == 401
        bearer = {"Authorization": f"Bearer {token}"}
        answer = await served.agents.get("/metrics", headers=bearer)
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
        assert (await served.agents.get("/metrics", headers={"Authorization": "Bearer mvt_wrong"})).status_code == 401


async def test_an_answer_is_given_again_within_the_time_that_the_file_says(
    make_network: Callable[..., AgentNetwork],
) -> None:
    async with serving(make_network({"port": 0}, metrics={"cache": "1h"})) as served:
        first = (await served.admin.get("/metrics")).text
        await served.network.register_agent("ann")
        assert (await served.admin.get("/metrics")).text == first
        other_form = (await served.admin.get("/metrics", headers=OPENMETRICS)).text
        assert "modvisor_agents 1.0" in other_form


async def test_without_the_library_the_answer_says_what_to_install(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probes, "find_spec", lambda name: None)
    answer = await served.admin.get("/metrics")
    assert answer.status_code == 404
    assert "modvisor[metrics]" in answer.json()["message"]
    assert importlib.util.find_spec("prometheus_client") is not None


@pytest.mark.slow
async def test_promtool_finds_nothing_wrong_with_a_scrape(served: Served) -> None:
    text = (await served.agents.get("/metrics")).content
    done = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, timeout=30, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


async def test_text_is_made_outside_of_the_loop(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    threads: list[int] = []
    written = probes.Probes._render

    def noting(*figures: Any) -> Any:
        threads.append(threading.get_ident())
        return written(*figures)

    monkeypatch.setattr(probes.Probes, "_render", staticmethod(noting))
    await scraped(served)
    assert threads
    assert threading.get_ident() not in threads
