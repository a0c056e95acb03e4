"""Two of OpenAgents' own clients against a network; runs in OpenAgents' environment, see test_openagents_client.py.

    python openagents_client.py HOST PORT

Prints one line of JSON: what each step gave. Everything OpenAgents prints goes to standard error.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

import aiohttp
from openagents.models.event import Event
from openagents.sdk.client import AgentClient


async def main(host: str, port: int) -> dict[str, Any]:
    alice, bob = AgentClient("alice"), AgentClient("bob")
    seen: dict[str, Any] = {
        "connected": [
            await alice.connect_to_server(host, port, metadata={"name": "Alice"}),
            await bob.connect_to_server(host, port),
        ],
        "transport": type(alice.connector).__name__,
    }
    seen["mods"] = await alice.list_mods()
    seen["agents"] = await alice.list_agents()
    seen["answer"] = _plain(
        await alice.send_event(Event(event_name="peer.page.echo", source_id="alice", payload={"i": 1}))
    )
    seen["to_mod"] = _plain(
        await alice.send_event(
            Event(event_name="peer.page.echo", source_id="agent:alice", destination_id="mod:echo", payload={"i": 2})
        )
    )
    seen["direct"] = await _direct(alice, bob)
    seen["from_mod"] = await _from_mod(alice, bob)
    seen["subscription"] = _plain(await bob.subscribe_events(["peer.page.*"]))
    seen["unanswered"] = _plain(await alice.send_event(Event(event_name="peer.nobody.asks", source_id="alice")))
    seen["wiki"] = [
        _plain(await alice.send_event(Event(event_name=name, source_id="alice", payload=payload)))
        for name, payload in (
            ("wiki.page.create", {"path": "peers/hello", "title": "Hello", "content": "from OpenAgents"}),
            ("wiki.page.get", {"path": "peers/hello"}),
        )
    ]
    seen["second_client"] = await AgentClient("alice").connect_to_server(host, port)
    seen["refused"] = await _refused(alice, f"http://{host}:{port}/api")
    seen["disconnected"] = [await alice.disconnect(), await bob.disconnect()]
    seen["agents_left"] = await _health(f"http://{host}:{port}/api")
    return seen


async def _direct(alice: AgentClient, bob: AgentClient) -> dict[str, Any]:
    """What bob polls after alice has written to him, as his own handler sees it."""
    arrived: asyncio.Future[Event] = asyncio.get_running_loop().create_future()

    async def on_message(event: Event) -> None:
        if not arrived.done():
            arrived.set_result(event)

    bob.register_event_handler(on_message, ["agent.message"])
    sent = await alice.send_agent_message("bob", {"text": "grüße"})
    event = await asyncio.wait_for(arrived, 30)
    return {"sent": _plain(sent), "event": event.model_dump(mode="json")}


async def _from_mod(alice: AgentClient, bob: AgentClient) -> dict[str, Any]:
    """An event that a mod sends to bob because alice has asked it to."""
    waiting = asyncio.ensure_future(
        bob.wait_event(condition=lambda event: event.event_name == "peer.page.forwarded", timeout=30)
    )
    await asyncio.sleep(0)
    await alice.send_event(Event(event_name="peer.page.forward", source_id="alice", payload={"to": "bob", "i": 3}))
    event = await waiting
    return event.model_dump(mode="json") if event is not None else {}


async def _refused(alice: AgentClient, base: str) -> dict[str, Any]:
    """What must not work, with the client where it can be said with it, else over plain HTTP."""
    load = {"mod_path": "os", "path": "os"}
    found: dict[str, Any] = {
        "load_as_alice": _plain(
            await alice.send_event(Event(event_name="system.mod.load", source_id="alice", payload=load))
        ),
        "forged_as_bob": _plain(await alice.send_event(Event(event_name="peer.page.echo", source_id="bob"))),
        "forged_as_mod": _plain(await alice.send_event(Event(event_name="peer.page.echo", source_id="mod:echo"))),
        "forged_as_system": _plain(
            await alice.send_event(Event(event_name="system.mod.load", source_id="system:system", payload=load))
        ),
    }
    async with aiohttp.ClientSession() as session:
        stranger = {"event_name": "system.mod.load", "source_id": "mallory", "target_agent_id": "", "payload": load}
        found["load_as_stranger"] = await _post(session, f"{base}/send_event", stranger)
        system = {**stranger, "source_id": "system:system"}
        found["load_as_system"] = await _post(session, f"{base}/send_event", system)
        found["second_registration"] = await _post(session, f"{base}/register", {"agent_id": "alice", "metadata": {}})
        async with session.get(f"{base}/poll", params={"agent_id": "alice", "secret": "guessed"}) as response:
            found["foreign_poll"] = {"status": response.status, **await response.json()}
    return found


async def _post(session: aiohttp.ClientSession, url: str, body: dict[str, Any]) -> dict[str, Any]:
    async with session.post(url, json=body) as response:
        return {"status": response.status, **await response.json()}


async def _health(base: str) -> int:
    async with aiohttp.ClientSession() as session, session.get(f"{base}/health") as response:
        return (await response.json())["data"]["agent_count"]


def _plain(response: Any) -> dict[str, Any] | None:
    return response.model_dump(mode="json") if response is not None else None


if __name__ == "__main__":
    result, sys.stdout = sys.stdout, sys.stderr
    print(json.dumps(asyncio.run(main(sys.argv[1], int(sys.argv[2])))), file=result)
