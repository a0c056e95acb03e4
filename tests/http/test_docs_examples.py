"""The answers that docs/http.md shows have the keys, and the kinds of values, that a network answers with."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from modvisor.supervisor import AgentNetwork

from .serving import serving

pytestmark = pytest.mark.anyio

PAGE = (Path(__file__).parent.parent.parent / "docs" / "http.md").read_text()

HELLO = """
    from modvisor.mods import BaseMod, EventResponse, mod_event_handler

    class Hello(BaseMod):
        version = "1.0"

        @mod_event_handler("hello.there")
        async def there(self, event):
            return EventResponse(True, f"hello {event.source_id}")
"""


def shape(value: Any) -> Any:
    """Return a value with its keys, and with every other value replaced by its kind. A list is its first item."""
    if isinstance(value, dict):
        return {key: shape(item) for key, item in value.items()}
    if isinstance(value, list):
        return [shape(item) for item in value[:1]]
    return "number" if isinstance(value, float) else type(value).__name__.replace("int", "number")


def shown(request: str) -> Any:
    """Return the answer that the page shows below this request. A list that ends in … is cut there."""
    [line] = re.findall(rf"^\$ [^\n]*{re.escape(request)}[^\n]*\n([^\n]*)$", PAGE, re.MULTILINE)[:1]
    return json.loads(line.replace(", …]", "]"))


@pytest.fixture
async def demo(tmp_path: Path, write_mod: Callable[..., str]) -> AsyncIterator[AgentNetwork]:
    """The network of the page, with a mod `./hello`."""
    write_mod("hello", HELLO)
    file = tmp_path / "network.yaml"
    file.write_text("network: {name: demo, port: 0}\nmods: [modvisor.mods.workspace.wiki, ./hello]\n")
    network = AgentNetwork.load(file)
    yield network
    await network.shutdown()


async def test_the_page_shows_what_a_network_answers(demo: AgentNetwork) -> None:
    async with serving(demo) as served:

        async def is_shown(client: httpx.AsyncClient, request: str, path: str, body: Any = None) -> Any:
            answer = await (client.get(path) if body is None else client.post(path, json=body))
            found, expected = answer.json(), shown(request)
            assert shape(found) == shape(expected), f"what docs/http.md shows of {request} is out of date"
            return found

        agents, admin, v1 = served.agents, served.admin, "/admin/v1"
        await is_shown(agents, "/api/health", "/api/health")
        alice = (await is_shown(agents, "/api/register --json", "/api/register", {"agent_id": "alice"}))["secret"]
        bob = await served.register("bob")
        page = {"path": "home", "title": "Home", "content": "Hello"}
        sent = {"source_id": "alice", "secret": alice}
        create = {**sent, "event_name": "wiki.page.create", "event_id": "e1", "payload": page}
        await is_shown(agents, r"\"event_id\": \"e1\"", "/api/send_event", create)
        note = {**sent, "event_name": "agent.message", "target_agent_id": "bob", "payload": {"text": "hi"}}
        await is_shown(agents, r"\"event_id\": \"e2\"", "/api/send_event", {**note, "event_id": "e2"})
        await is_shown(agents, r"\"event_id\": \"e3\"", "/api/send_event", {**note, "secret": bob, "event_id": "e3"})
        await is_shown(agents, "/api/poll?wait=30", f"/api/poll?agent_id=bob&secret={bob}")
        await is_shown(agents, "/api/unregister", "/api/unregister", {"agent_id": "bob", "secret": bob})
        await is_shown(admin, "http://admin/admin/v1/status", f"{v1}/status")
        await is_shown(admin, f"http://admin{v1}/mods/available", f"{v1}/mods/available")
        await is_shown(admin, f"http://admin{v1}/mods/hello/reload", f"{v1}/mods/hello/reload", {})
        await is_shown(admin, f"http://admin{v1}/events --json", f"{v1}/events", {"event_name": "hello.there"})
        batch = [{"event_name": "hello.there", "source_id": "alice", "event_id": "b1"}, {"event_name": "Oops"}]
        await is_shown(admin, f"http://admin{v1}/events/batch", f"{v1}/events/batch", {"events": batch})
        await is_shown(admin, f"http://admin{v1}/shutdown", f"{v1}/shutdown", {})
