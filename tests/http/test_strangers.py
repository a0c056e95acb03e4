"""Strangers and honest agents at the agents' API, each with an address of its own behind one proxy."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from modvisor.supervisor import AgentNetwork
from tests.agents.registries import password
from tests.http.serving import TALKER, Served, serving, shared_network

pytestmark = pytest.mark.anyio

SESAME = {"agent_group": "friends", "password_hash": password("sesame")}


@pytest.fixture(scope="module")
async def shared(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Served]:
    folder: Path = tmp_path_factory.mktemp("strangers")
    async with shared_network(
        folder,
        {"talker": TALKER},
        http={"trusted_proxies": ["127.0.0.1"], "trusted_addresses": ["203.0.113.0/24"]},
        agents={"guests_per_address": 3, "max_agents": 12, "inbox_size": 20},
        agent_groups={"friends": {"password_hash": password("sesame")}},
    ) as served:
        yield served


async def register(served: Served, agent_id: str, address: str, **more: Any) -> httpx.Response:
    return await served.agents.post(
        "/api/register", json={"agent_id": agent_id, **more}, headers={"x-forwarded-for": address}
    )


async def test_one_address_has_a_few_guests_and_agents_with_a_password_are_not_counted(served: Served) -> None:
    answers = [await register(served, f"guest{n}", "192.0.2.1") for n in range(5)]
    assert [answer.status_code for answer in answers] == [200, 200, 200, 429, 429]
    assert answers[4].json()["error"] == "too_many"
    assert "3 agents without a password are registered from 192.0.2.1" in answers[4].json()["error_message"]
    assert (await register(served, "other", "192.0.2.2")).status_code == 200
    friends = [await register(served, f"friend{n}", "192.0.2.1", **SESAME) for n in range(5)]
    assert [answer.status_code for answer in friends] == [200] * 5


async def test_a_registration_is_no_sign_that_a_guest_came_back(served: Served) -> None:
    assert served.network._parts is not None
    agents = served.network._parts.agents
    secret = (await register(served, "guest", "192.0.2.1")).json()["secret"]
    guest = agents.get("guest")
    assert guest is not None
    assert (guest.is_guest, guest.address, guest.has_returned) == (True, "192.0.2.1", False)
    await served.poll("guest", secret)
    assert guest.has_returned


async def test_many_addresses_leave_room_for_agents_with_a_password(served: Served) -> None:
    guests = [await register(served, f"guest{n}", f"198.51.100.{n}") for n in range(8)]
    assert Counter(answer.status_code for answer in guests) == {200: 6, 503: 2}
    friends = [await register(served, f"friend{n}", "192.0.2.1", **SESAME) for n in range(6)]
    assert [answer.status_code for answer in friends] == [200] * 6


async def test_an_ipv6_network_is_one_address_and_a_trusted_address_has_no_count(served: Served) -> None:
    six = [await register(served, f"six{n}", f"2001:db8::{n}") for n in range(4)]
    assert [answer.status_code for answer in six] == [200, 200, 200, 429]
    await served.forget_agents()
    trusted = [await register(served, f"trusted{n}", "203.0.113.7") for n in range(5)]
    assert [answer.status_code for answer in trusted] == [200] * 5


async def test_guesses_of_a_password_wait_and_others_are_not_locked_out(
    served: Served, caplog: pytest.LogCaptureFixture
) -> None:
    guesses = [
        await register(served, "eve", "192.0.2.66", agent_group="friends", password_hash=password(str(n)))
        for n in range(60)
    ]
    codes = Counter(answer.json()["error"] for answer in guesses)
    assert codes["unauthenticated"] <= 8
    assert codes["unauthenticated"] + codes["too_many"] == 60
    assert 1 <= guesses[-1].json()["data"]["retry_after"] <= 4
    assert (await register(served, "bob", "192.0.2.67", **SESAME)).status_code == 200
    lines = [record.getMessage() for record in caplog.records if record.name == "modvisor.refused"]
    assert [line.split(":")[0] for line in lines] == ["refused system.register_agent from eve at 192.0.2.66"] * 2


async def test_a_new_owner_of_an_id_gets_no_answer_of_the_former_one(served: Served) -> None:
    secret = await served.register("alice", **SESAME)
    first = await served.send("alice", secret, "test.ping", payload={"i": 1}, event_id="e1")
    assert first["data"]["i"] == 1
    again = await served.send("alice", secret, "test.ping", payload={"i": 2}, event_id="e1")
    assert again["data"]["i"] == 1, "a retry"
    retaken = await served.register("alice", secret=secret)
    again = await served.send("alice", retaken, "test.ping", payload={"i": 2}, event_id="e1")
    assert again["data"]["i"] == 1, "the same owner"
    await served.forget_agents()
    fresh = await served.register("alice")
    new = await served.send("alice", fresh, "test.ping", payload={"i": 3}, event_id="e1")
    assert new["data"]["i"] == 3


async def test_what_an_inbox_dropped_stands_in_the_answer_of_the_poll(served: Served) -> None:
    bob = await served.register("bob")
    flooder, honest = await served.register("flooder", **SESAME), await served.register("honest", **SESAME)
    await served.send("honest", honest, "note.made", "agent:bob", payload={"n": 1})
    for _ in range(30):
        await served.send("flooder", flooder, "note.made", "agent:bob")
    answer = await served.poll("bob", bob, limit=5)
    assert answer["dropped"] == {"events": 11, "sources": {"agent:flooder": 11}}
    assert [message["source_id"] for message in answer["messages"]] == ["honest", *["flooder"] * 4]
    rest = await served.poll("bob", bob)
    assert (len(rest["messages"]), "dropped" in rest) == (15, False)
    for _ in range(21):
        await served.send("flooder", flooder, "note.made", "agent:bob")
    polled = await served.send("bob", bob, "system.poll_messages")
    assert (polled["data"]["dropped"]["events"], len(polled["data"]["messages"])) == (1, 20)


async def test_guests_are_counted_and_known_after_a_restart(make_network: Callable[..., AgentNetwork]) -> None:
    keys: dict[str, Any] = {"http": {"trusted_proxies": ["127.0.0.1"]}, "agents": {"guests_per_address": 2}}
    first = make_network({"port": 0}, **keys)
    async with serving(first) as served:
        secret = (await register(served, "back", "192.0.2.1")).json()["secret"]
        assert (await register(served, "gone", "192.0.2.1")).status_code == 200
        await served.poll("back", secret)
    await first.shutdown()
    async with serving(make_network({"port": 0}, **keys)) as served:
        assert (await register(served, "third", "192.0.2.1")).status_code == 429
        assert (await register(served, "third", "192.0.2.2")).status_code == 200
        assert served.network._parts is not None
        agents = {agent.agent_id: agent for agent in served.network._parts.agents}
        assert {agent_id: agent.has_returned for agent_id, agent in agents.items()} == {
            "back": True,
            "gone": False,
            "third": False,
        }
        assert (await served.poll("back", secret))["success"]


@pytest.mark.slow
async def test_a_thousand_agents_with_a_password_behind_one_proxy_are_served_while_strangers_attack(
    tmp_path: Path,
) -> None:
    async with shared_network(
        tmp_path,
        {},
        http={"trusted_proxies": ["127.0.0.1"]},
        agent_groups={"friends": {"password_hash": password("sesame")}},
    ) as served:
        refused: Counter[str] = Counter()

        async def attack() -> None:
            for number in range(10_000):
                guess = {"agent_group": "friends", "password_hash": password(str(number))} if number % 2 else {}
                answer = await register(served, f"x{number}", "198.51.100.1", metadata={"x": "x" * 900_000}, **guess)
                refused[str(answer.json()["error"])] += 1

        attacking = asyncio.create_task(attack())
        answers = [await register(served, f"a{number}", "192.0.2.1", **SESAME) for number in range(1000)]
        attacking.cancel()
        assert Counter(answer.status_code for answer in answers) == {200: 1000}
        assert refused.keys() <= {"too_large", "too_many", "unauthenticated"}
