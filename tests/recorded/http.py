"""A fixed list of requests, good and bad, to the agents' API and to the operator's, and their answers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx

from .session import Lines, masks_of, network_of, write_mods

AGENTS, ADMIN = "agents", "admin"
LOOSE = {"/admin/v1/stats", "/admin/v1/mods", "/admin/v1/crashes", "/admin/v1/mods/scribe/audience"}
"""Answers full of measured numbers: their numbers are hidden, all else is compared."""

Request = tuple[str, str, str, Any]


def _send(name: str, target: str = "", **more: Any) -> Request:
    return AGENTS, "POST", "/api/send_event", {
        "event_name": name, "source_id": "alice", "secret": "$alice", "target_agent_id": target, **more
    }  # fmt: skip


REQUESTS: list[Request] = [
    # -- the agents' API
    (AGENTS, "GET", "/api/health", None),
    (AGENTS, "POST", "/api/register", {"agent_id": "alice", "metadata": {"name": "Alice", "capabilities": ["talk"]}}),
    (AGENTS, "POST", "/api/register", {"agent_id": "bob", "agent_group": "beta"}),
    (AGENTS, "POST", "/api/register", {"agent_id": "alice"}),
    (AGENTS, "POST", "/api/register", {"agent_id": "alice", "secret": "wrong"}),
    (AGENTS, "POST", "/api/register", {}),
    (AGENTS, "POST", "/api/register", {"agent_id": 5}),
    (AGENTS, "POST", "/api/register", {"agent_id": "two words"}),
    (AGENTS, "POST", "/api/register", {"agent_id": "mod:wiki"}),
    (AGENTS, "POST", "/api/register", {"agent_id": "carol", "metadata": [1]}),
    (AGENTS, "POST", "/api/register", {"agent_id": "carol", "agent_group": "nobody"}),
    (AGENTS, "POST", "/api/register", {"agent_id": "carol", "agent_group": "admins"}),
    (AGENTS, "POST", "/api/register", "no json"),
    (AGENTS, "POST", "/api/register", [1]),
    (AGENTS, "GET", "/api/health?agent_id=alice&secret=$alice", None),
    _send("t.ask", "mod:scribe", payload={"n": 1, "half": 0.5}, event_id="h1"),
    _send("t.ask", "mod:scribe", payload={"n": 1, "half": 0.5}, event_id="h1"),
    _send("t.refuse", "mod:scribe", event_id="h2"),
    _send("t.fail", "mod:scribe", event_id="h3"),
    _send("t.note", "bob", payload={"text": "hi"}, metadata={"m": 1}, event_id="h4", thread_name="talk"),
    _send("t.note", "agent:broadcast", event_id="h5", visibility="network"),
    _send("t.note", "channel:general", event_id="h6"),
    _send("t.note", "nobody", event_id="h7"),
    _send("t.note", "mod:nowhere", event_id="h8"),
    _send("t.wait", "mod:scribe", event_id="h9", timeout=0.05),
    _send("t.ask", "mod:scribe", event_id="h10", secret="wrong"),
    _send("t.ask", "mod:scribe", event_id="h11", source_id="mod:scribe"),
    _send("t.ask", "mod:scribe", event_id="h12", payload=[1]),
    _send("Oops", event_id="h13"),
    _send("system.mod.load", event_id="h14", payload={"mod_path": "./second"}),
    _send("system.list_channels", event_id="h15"),
    _send("system.nothing", event_id="h16"),
    (AGENTS, "POST", "/api/send_event", {}),
    (AGENTS, "GET", "/api/poll?agent_id=bob&secret=$bob&limit=1", None),
    (AGENTS, "GET", "/api/poll?agent_id=bob&secret=$bob", None),
    (AGENTS, "GET", "/api/poll?agent_id=bob&secret=$bob", None),
    (AGENTS, "GET", "/api/poll?agent_id=bob&secret=wrong", None),
    (AGENTS, "GET", "/api/poll?agent_id=bob&secret=$bob&wait=soon", None),
    (AGENTS, "GET", "/api/poll?agent_id=bob&secret=$bob&limit=0", None),
    (AGENTS, "GET", "/api/poll", None),
    (AGENTS, "GET", "/api/nothing", None),
    (AGENTS, "GET", "/api/register", None),
    (AGENTS, "GET", "/admin/v1/status", None),
    # -- the operator's API
    (ADMIN, "GET", "/admin/v1/status", None),
    (ADMIN, "GET", "/admin/v1/mods", None),
    (ADMIN, "GET", "/admin/v1/nothing", None),
    (ADMIN, "DELETE", "/admin/v1/status", None),
    (ADMIN, "POST", "/admin/v1/mods", {"path": "./second", "limits": {"concurrency": 4}}),
    (ADMIN, "POST", "/admin/v1/mods", {"path": "./second"}),
    (ADMIN, "POST", "/admin/v1/mods", {"path": "./nowhere"}),
    (ADMIN, "POST", "/admin/v1/mods", {"path": "./broken"}),
    (ADMIN, "POST", "/admin/v1/mods", {"path": "./second", "id": "two", "limits": {"memory": "lots"}}),
    (ADMIN, "POST", "/admin/v1/mods", {"path": "./second", "id": "two", "restrat": {}}),
    (ADMIN, "POST", "/admin/v1/mods", {}),
    (ADMIN, "POST", "/admin/v1/mods/second/reload", None),
    (ADMIN, "POST", "/admin/v1/mods/second/reload", {"config": {"a": 1}}),
    (ADMIN, "POST", "/admin/v1/mods/nowhere/reload", None),
    (ADMIN, "POST", "/admin/v1/mods/second/restart", None),
    (ADMIN, "POST", "/admin/v1/mods/nowhere/restart", None),
    (ADMIN, "POST", "/admin/v1/mods/second/swap", {"path": "./second", "id": "third", "alias": True}),
    (ADMIN, "POST", "/admin/v1/mods/nowhere/swap", {"path": "./second"}),
    (ADMIN, "POST", "/admin/v1/mods/third/swap", {}),
    (ADMIN, "GET", "/admin/v1/mods/scribe/audience", None),
    (ADMIN, "GET", "/admin/v1/mods/nowhere/audience", None),
    (ADMIN, "POST", "/admin/v1/mods/third/audience", {"percent": 20, "agents": ["alice"]}),
    (ADMIN, "POST", "/admin/v1/mods/third/audience", {"percent": 200}),
    (ADMIN, "POST", "/admin/v1/mods/third/promote", None),
    (ADMIN, "POST", "/admin/v1/mods/third/rollback", None),
    (ADMIN, "POST", "/admin/v1/mods/nowhere/promote", None),
    (ADMIN, "DELETE", "/admin/v1/mods/.%2Fsecond?timeout=5", None),
    (ADMIN, "DELETE", "/admin/v1/mods/third", None),
    (ADMIN, "DELETE", "/admin/v1/mods/scribe?timeout=soon", None),
    (ADMIN, "GET", "/admin/v1/mods/scribe/log?lines=2", None),
    (ADMIN, "GET", "/admin/v1/mods/nowhere/log", None),
    (ADMIN, "POST", "/admin/v1/events", {"event_name": "t.ask", "event_id": "o1", "payload": {"n": 2}}),
    (ADMIN, "POST", "/admin/v1/events", {"event_name": "t.ask", "event_id": "o2", "source_id": "alice"}),
    (ADMIN, "POST", "/admin/v1/events", {"event_name": "Oops"}),
    (ADMIN, "POST", "/admin/v1/events", {}),
    (ADMIN, "POST", "/admin/v1/events/batch", {"events": [
        {"event_name": "t.ask", "event_id": "b1", "source_id": "alice"},
        {"event_name": "t.note", "event_id": "b2", "source_id": "alice", "destination_id": "carol"},
        {"event_name": "Oops"}, 7,
    ]}),
    (ADMIN, "POST", "/admin/v1/events/batch", {"events": [], "concurrency": 0}),
    (ADMIN, "POST", "/admin/v1/events/batch", {}),
    (ADMIN, "GET", "/admin/v1/events?pattern=Oops", None),
    (ADMIN, "POST", "/admin/v1/events", {"event_name": "b.die", "event_id": "o3", "destination_id": "mod:bomb"}),
    (ADMIN, "GET", "/admin/v1/crashes?mod=bomb", None),
    (ADMIN, "GET", "/admin/v1/crashes?mod=nowhere", None),
    (ADMIN, "GET", "/admin/v1/dead-letters", None),
    (ADMIN, "GET", "/admin/v1/dead-letters?mod=bomb&limit=1", None),
    (ADMIN, "GET", "/admin/v1/dead-letters?limit=0", None),
    (ADMIN, "GET", "/admin/v1/dead-letters/1", None),
    (ADMIN, "GET", "/admin/v1/dead-letters/99", None),
    (ADMIN, "GET", "/admin/v1/dead-letters/first", None),
    (ADMIN, "POST", "/admin/v1/dead-letters/1/replay", None),
    (ADMIN, "POST", "/admin/v1/dead-letters/1/replay", None),
    (ADMIN, "POST", "/admin/v1/events", {"event_name": "b.live", "event_id": "o4", "destination_id": "mod:bomb"}),
    (ADMIN, "DELETE", "/admin/v1/dead-letters", None),
    (ADMIN, "DELETE", "/admin/v1/dead-letters/2", None),
    (ADMIN, "DELETE", "/admin/v1/dead-letters?all=1", None),
    (ADMIN, "GET", "/admin/v1/stats", None),
    (ADMIN, "POST", "/admin/v1/backup", {"path": "$base/copy.db"}),
    (ADMIN, "POST", "/admin/v1/backup", {"path": "copy.db"}),
    (ADMIN, "POST", "/admin/v1/backup", {}),
    (ADMIN, "POST", "/admin/v1/reconfigure", None),
    (AGENTS, "POST", "/api/unregister", {"agent_id": "bob", "secret": "wrong"}),
    (AGENTS, "POST", "/api/unregister", {"agent_id": "bob", "secret": "$bob"}),
    (AGENTS, "POST", "/api/unregister", {"agent_id": "bob", "secret": "$bob"}),
    (ADMIN, "POST", "/admin/v1/shutdown", None),
]  # fmt: skip


class Asking:
    """Requests in turn; `$alice` stands for what `alice` was given as a secret, `$base` for the folder."""

    def __init__(self, clients: dict[str, httpx.AsyncClient], base: Path) -> None:
        self._clients = clients
        self._masks = masks_of(base)
        self._words = {"$base": str(base)}

    async def line(self, request: Request) -> dict[str, Any]:
        api, method, path, body = request
        content = None if body is None else self._filled(body if isinstance(body, str) else json.dumps(body))
        headers = {} if content is None else {"Content-Type": "application/json"}
        response = await self._clients[api].request(method, self._filled(path), content=content, headers=headers)
        answer = _answer(response)
        if path == "/api/register" and response.status_code == 200:
            self._words[f"${body['agent_id']}"] = answer["secret"]
        if path == "/admin/v1/status" and "version" in answer:
            answer["version"] = "<version>"
        shown = self._masks.value(answer, numbers=path.partition("?")[0] not in LOOSE)
        asked = {"request": f"{method} {path}", **({} if body is None else {"body": body})}
        allowed = {"allow": response.headers["allow"]} if "allow" in response.headers else {}
        return {**asked, "status": response.status_code, **allowed, "answer": shown}

    def _filled(self, text: str) -> str:
        for word, value in self._words.items():
            text = text.replace(word, value)
        return text


def _answer(response: httpx.Response) -> Any:
    """Return the answer as a value; a log, which is one line of JSON a line, as a list of them."""
    if response.headers.get("content-type", "").startswith("application/json"):
        return response.json()
    return [json.loads(line) for line in response.text.splitlines()]


async def answers(base: Path) -> dict[str, Lines]:
    """Ask a network in the folder `base`, which is empty. Return the lines of `http`."""
    write_mods(base)
    network = network_of(base, port=0)
    await network.initialize(admin=True)
    try:
        await network.load_mod("./scribe")
        await network.load_mod("./bomb", max_attempts=1, restart={"first_delay": 0, "max_delay": 0})
        socket = httpx.AsyncHTTPTransport(uds=str(base / "state" / "run" / "admin.sock"))
        async with (
            httpx.AsyncClient(base_url=f"http://127.0.0.1:{network.port}") as agents,
            httpx.AsyncClient(base_url="http://admin", transport=socket) as admin,
        ):
            asking = Asking({AGENTS: agents, ADMIN: admin}, base)
            return {"http": [await asking.line(request) for request in REQUESTS]}
    finally:
        await network.shutdown()
