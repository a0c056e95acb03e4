"""What docs/http.md takes for granted: the network `demo` of its first block, and what happens to it."""

from __future__ import annotations

from .walking import Scene

_HELLO = """
import os
from modvisor.mods import BaseMod, EventResponse, mod_event_handler

class Hello(BaseMod):
    version = "1.0"

    @mod_event_handler("hello.*")
    async def there(self, event):
        if event.payload.get("die"):
            os._exit(3)
        print("greeting", event.source_id)
        return EventResponse(True, f"hello {event.source_id}")
"""
_AGENTS = "curl -s http://127.0.0.1:8700/api"
_EVENTS = "admin http://admin/admin/v1/events --json"

SCENE = Scene(
    files={
        "mods/hello/mod.py": _HELLO,
        "mods/hello/mod.yaml": "restart: {first_delay: 0}\n",
        "../parts/wrong.yaml": "network: {name: demo, prot: 8700}\nmods: [./nowhere]\n",
        "../parts/changed.yaml": "network: {name: demo, port: 8701}\n"
        "mods: [modvisor.mods.workspace.wiki, ./hello]\nadmin: {token: open-sesame}\nagent_groups: {sensors: {}}\n",
    },
    before={
        "## GET /api/health": ["modvisor run"],
        "## POST /api/send_event": [
            f"""BOB=$({_AGENTS}/register --json '{{"agent_id": "bob"}}' | python3 -c """
            """'import json, sys; print(json.load(sys.stdin)["secret"])')""",
        ],
        "curl -sN http://127.0.0.1:8700/api/events": ["echo '@bob hi' | modvisor agent carol"],
        '> {"type":"register"': [
            f"""{_AGENTS}/unregister --json "{{\\"agent_id\\": \\"alice\\", \\"secret\\": \\"$ALICE\\"}}\"""",
        ],
        '< {"type":"events"': [
            f"""{_AGENTS}/send_event --json "{{\\"event_name\\": \\"agent.message\\", \\"source_id\\": \\"bob\\", """
            """\\"secret\\": \\"$BOB\\", \\"target_agent_id\\": \\"alice\\"}\"""",
        ],
        "admin 'http://admin/admin/v1/mods/hello/log": [
            f"""{_EVENTS} '{{"event_name": "hello.there"}}'""",
            f"""{_EVENTS} '{{"event_name": "hello.there", "source_id": "alice"}}'""",
        ],
        "## One mod": ["modvisor load ./hello"],
        "## Versions": ["modvisor load modvisor.mods.workspace.wiki --id wiki@2 --agent alice"],
        '{"event":{"event_name":"hello.there"': [
            f"""{_EVENTS} '{{"event_name": "hello.there", "event_id": "b3", "source_id": "alice"}}'""",
        ],
        "## Dead letters": [
            f"""{_EVENTS} '{{"event_name": "hello.there", "source_id": "agent:ann", "payload": {{"die": true}}}}'""",
        ],
        '{"success":false,"error":"bad_config", … ,"data"': [
            "cp ../parts/wrong.yaml network.yaml",
            "modvisor unload hello",
        ],
        '{"success":true,"message":"1 mod changed': [
            "modvisor reload wiki --config '{}'",
            "cp ../parts/changed.yaml network.yaml",
        ],
    },
    instead={"/var/backups": "/srv/demo"},
)
