"""Rights over HTTP: who may send what, and how fast; invites of the operator; what health shows."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from argon2 import PasswordHasher

from tests.agents.registries import password
from tests.http.serving import TALKER, Served, shared_network

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(60)]

INVITES = "/admin/v1/invites"
GROUPS = {
    "sensors": {
        "send": ["test.ping", "sensor.*"],
        "receive": ["sensor.*"],
        "directory": "none",
        "quota": {"events_per_second": 3},
        "password_hash": PasswordHasher(time_cost=1, memory_cost=64, parallelism=1).hash(password("sesame")),
    }
}


@pytest.fixture(scope="module")
async def network(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Served]:
    keys: dict[str, Any] = {"agent_groups": GROUPS, "agents": {"reserved": ["admin"]}}
    async with shared_network(tmp_path_factory.mktemp("rights"), {"talker": TALKER}, **keys) as served:
        yield served


@pytest.fixture
async def served(network: Served) -> AsyncIterator[Served]:
    yield network
    await network.forget_agents()
    for invite in network.network.list_invites():
        assert (await network.network.revoke_invite(invite["invite_id"])).success


async def test_the_door_takes_what_a_group_may_send_and_no_faster(served: Served) -> None:
    secret = await served.register("roof", password_hash=password("sesame"))
    answers = [await served.send("roof", secret, "test.ping") for _ in range(4)]
    assert [answer["success"] for answer in answers] == [True, True, True, False]
    assert answers[3]["data"] == {"error": "too_many", "retry_after": 1}
    other = await served.register("wall", password_hash=password("sesame"))
    refused = await served.send("wall", other, "test.say", payload={"text": "x"})
    assert refused["data"]["error"] == "forbidden"
    assert refused["message"] == (
        "agent 'wall' may not send test.say: agent_group 'sensors' may send test.ping, sensor.*"
    )
    assert (await served.poll("wall", other))["success"], "taking its events is no sending"


async def test_what_an_agent_may_not_receive_does_not_come(served: Served) -> None:
    secret, sender = await served.register("roof", password_hash=password("sesame")), await served.register("ann")
    for name, delivered in (("sensor.read", 1), ("chat.said", 0)):
        assert (await served.send("ann", sender, name, "agent:roof"))["data"]["delivered"] == delivered
    assert [each["event_name"] for each in (await served.poll("roof", secret))["messages"]] == ["sensor.read"]


async def test_health_shows_an_agent_whom_it_may_know_of(served: Served) -> None:
    ann, roof = await served.register("ann"), await served.register("roof", password_hash=password("sesame"))
    seen = {}
    for agent_id, secret in (("ann", ann), ("roof", roof), ("eve", "x")):
        answer = await served.agents.get("/api/health", params={"agent_id": agent_id, "secret": secret})
        seen[agent_id] = list(answer.json()["data"]["agents"])
    assert seen == {"ann": ["ann", "roof"], "roof": ["roof"], "eve": []}


async def test_the_operator_invites_lists_and_revokes(served: Served) -> None:
    body = {"group": "sensors", "agent": "admin", "expires": 60, "uses": 1}
    made = (await served.admin.post(INVITES, json=body)).json()["data"]
    (listed,) = (await served.admin.get(INVITES)).json()["invites"]
    assert listed == {key: value for key, value in made.items() if key != "invite"}
    assert (listed["created_by"], listed["agent_group"], listed["agent"]) == ("operator", "sensors", "admin")
    refused = await served.agents.post("/api/register", json={"agent_id": "admin"})
    assert (refused.status_code, refused.json()["error"]) == (403, "forbidden")
    answer = await served.agents.post("/api/register", json={"agent_id": "admin", "invite": made["invite"]})
    assert (answer.status_code, answer.json()["assigned_group"]) == (200, "sensors")
    again = await served.agents.post("/api/register", json={"agent_id": "other", "invite": made["invite"]})
    assert (again.status_code, again.json()["error"]) == (401, "unauthenticated")
    other = (await served.admin.post(INVITES)).json()["data"]["invite_id"]
    assert (await served.admin.delete(f"{INVITES}/{other}")).json()["data"] == {"invite_id": other}
    gone = await served.admin.delete(f"{INVITES}/{other}")
    assert (gone.status_code, gone.json()["error"]) == (404, "not_found")


@pytest.mark.parametrize(
    ("body", "status", "text"),
    [
        ({"grup": "sensors"}, 400, "unknown keys 'grup'; known are agent"),
        ({"group": "nobody"}, 404, "agent_group 'nobody' is not configured"),
        ({"agent": "a b"}, 400, "agent: expected the id of an agent"),
        ({"expires": 0}, 400, "expires: expected a number from 0.001"),
        ({"uses": 1.5}, 400, "uses: expected a whole number from 1"),
    ],
)
async def test_an_invite_with_a_mistake_is_refused_by_name(
    served: Served, body: dict[str, Any], status: int, text: str
) -> None:
    answer = await served.admin.post(INVITES, json=body)
    assert (answer.status_code, answer.json()["message"].startswith(text)) == (status, True), answer.text


async def test_codes_stay_out_of_the_stream_of_events(served: Served) -> None:
    with served.network.tap() as events:
        code = (await served.admin.post(INVITES)).json()["data"]["invite"]
        await served.agents.post("/api/register", json={"agent_id": "ann", "invite": code})
        event, response = await events.get()
    assert (event.event_name, event.payload["invite"]) == ("system.register_agent", code)
    assert code not in str(served.network.redaction.data([event.to_dict(), response.to_dict()]))
