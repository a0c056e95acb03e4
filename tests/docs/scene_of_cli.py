"""What docs/cli.md takes for granted: one network, `demo`, to which happens what each section is about."""

from __future__ import annotations

from .walking import Scene

_CRASHES = """
import os
from modvisor.mods import BaseMod, mod_event_handler

class Crashes(BaseMod):
    @mod_event_handler("ends.process.end")
    async def end(self, event):
        os._exit(3)
"""
_AT_ONCE = "max_attempts: 1\nrestart: {first_delay: 0, max_delay: 0}\n"
_SHOP = """
from modvisor.mods import BaseMod, EventResponse, mod_event_handler

class Shop(BaseMod):
    version = "{version}"
    description = "Sells pages."
    requires = ["wiki>=1"]

    def initialize(self):
        print("order 7 is paid")

    @mod_event_handler("shop.page.sell")
    async def sell(self, event):
        return await self.context.request("mod:wiki", "wiki.page.list", {{}})
"""
_HELLO = """
import os, time
from modvisor.mods import BaseMod, Event, EventResponse, Refused, mod_event_handler

class Hello(BaseMod):
    version = "0.1.0"

    def initialize(self):
        self.count = 0

    @mod_event_handler("hello.greeting.get")
    async def on_get(self, event):
        name = event.payload.get("name")
        if name is None:
            raise Refused("name: expected the name of the person to greet", field="name")
        if name in ("", "boom"):
            os._exit(3)
        if name == "Endymion":
            time.sleep(60)
        self.count += 1
        print("greeted", name)
        await self.context.send_event(Event("hello.greeting.given", destination_id="agent:broadcast"))
        return EventResponse(True, f"Hello, {name}!", {"count": self.count})
"""
_PLAIN = """
from modvisor.mods import BaseMod

class Plain(BaseMod):
    version = "1.0"
"""
_WIKI = "modvisor.mods.workspace.wiki"
_SERVES = "network: {name: demo, port: 8700}\n"
_GROUPS = "agent_groups: {sensors: {}, beta: {}}\n"


def _stopped_with(file: str) -> list[str]:
    """Have another network file, and nothing of the networks before."""
    return ["modvisor stop || true", "rm -rf .modvisor", f"cp ../parts/{file} network.yaml"]


_SAMPLED = """until admin http://admin/admin/v1/mods/hello | grep -q '"sampled_at":[0-9]'; do sleep 0.05; done"""
_AUDIT_IS_SYNCED = "while modvisor audit verify 2>&1 | grep -q 'knows of no record'; do sleep 0.05; done"
_TRAFFIC = (  # it ends with the network
    "while admin http://admin/admin/v1/events"
    """ --json '{"event_name": "shop.page.sell", "source_id": "agent:ann"}'; do sleep 0.02; done"""
)


def _quarantined(mod: str) -> str:
    """End the process of a mod until it is started no more."""
    event = f'{{"event_name": "ends.process.end", "destination_id": "mod:{mod}"}}'
    return (
        f'until admin http://admin/admin/v1/mods/{mod} | grep -q \'"state":"quarantined"\'; '
        f"do admin http://admin/admin/v1/events --json '{event}'; done"
    )


SCENE = Scene(
    files={
        "../parts/shop/mod.py": _CRASHES,
        "../parts/shop/mod.yaml": _AT_ONCE,
        "../parts/broken/mod.py": "import numpy_typo\n",
        "../parts/hello/mod.py": _HELLO,
        "../parts/hello/mod.yaml": "restart: {first_delay: 0, max_delay: 0}\n",
        "../parts/mended.py": _HELLO.replace('("", "boom")', '("boom",)').replace("{name}", "{name or 'stranger'}"),
        "../parts/sells/mod.py": _SHOP.format(version="2.0"),
        "../parts/sells/versions/1.4/mod.py": _SHOP.format(version="1.4"),
        "../parts/plain/mod.py": _PLAIN,
        "../parts/run.yaml": f"{_SERVES}mods: [{_WIKI}, ./broken]\n",
        "../parts/watch.yaml": f"{_SERVES}{_GROUPS}mods: [{_WIKI}, ./hello]\n",
        "../parts/bad.yaml": "network: {name: demo, prot: 8700}\nmods: 7\n",
        "../parts/cluster.yaml": f"{_SERVES}mods: [{_WIKI}, {{path: ./hello, id: chat}}, "
        "{path: ./hello, id: search, placement: {on: [gpu]}}]\n",
        "../parts/three.yaml": f"{_SERVES}mods: [{_WIKI}, ./broken, ./hello]\n",
        "../parts/mods.yaml": f"{_SERVES}mods: [{_WIKI}, ./shop]\n",
        "../parts/rest.yaml": f"{_SERVES}{_GROUPS}"
        f"mods: [{_WIKI}, {{path: ./hello, limits: {{memory: 200MB, cpu: 0.5}}}}]\n",
        "../parts/changed.yaml": "network: {name: demo, port: 8701}\nagents: {max_agents: 50}\n"
        f"{_GROUPS}mods: [{_WIKI}, ./hello, {{path: ./hello, id: second}}]\n",
    },
    before={
        "## modvisor init": ["rm -rf network.yaml network.schema.json mods .modvisor"],
        "## modvisor status": [
            f"modvisor load {_WIKI}",
            "cp -r ../parts/shop mods",
            "modvisor load ./shop",
            _quarantined("shop"),
        ],
        "## modvisor run": [*_stopped_with("run.yaml"), "cp -r ../parts/broken mods"],
        "modvisor run --watch": ["cp ../parts/watch.yaml network.yaml", "rm -rf .modvisor"],
        "mods/hello/mod.py saved: mod hello was": ["echo 'def oops(' >> mods/hello/mod.py"],
        "mods/hello/mod.py saved: mod hello reloaded": ["sed -i '$s/.*/# mended/' mods/hello/mod.py"],
        "modvisor validate bad.yaml": ["cp ../parts/bad.yaml ."],
        "## modvisor audit verify": [_AUDIT_IS_SYNCED],
        "modvisor audit verify --state": [
            "mkdir -p ../mnt && cp -r .modvisor ../mnt/copy",
            "sed -i '2s/who/why/; 5d' ../mnt/copy/audit/audit.jsonl",
        ],
        "## modvisor cluster up": [*_stopped_with("cluster.yaml"), "rm -rf mods/hello", "cp -r ../parts/hello mods"],
        "## modvisor cluster status": [
            "echo 'cluster: {nodes: {b: {labels: [gpu]}}}' >> network.yaml",
            "modvisor run --node a --port 8701",
            "modvisor run --node b --port 8702",
        ],
        "## modvisor hash-password": ["modvisor stop --node b", "modvisor stop --node a", "modvisor cluster down"],
        "## modvisor reconfigure": [
            "rm -rf .modvisor",
            "cp ../parts/watch.yaml network.yaml",
            "modvisor run",
            "cp ../parts/changed.yaml network.yaml",
        ],
        "modvisor backup": ["mkdir backups"],
        "## modvisor mods": [
            *_stopped_with("mods.yaml"),
            "rm -rf mods/shop mods/hello",
            "cp -r ../parts/sells mods/shop",
            "echo '!' > mods/broken/mod.py",
            "modvisor run",
        ],
        "## modvisor ps": [
            *_stopped_with("three.yaml"),
            "cp ../parts/broken/mod.py mods/broken/mod.py",
            "cp -r ../parts/hello mods",
            "modvisor run",
        ],
        "hello is quarantined": [
            "modvisor unload hello",
            "cp ../parts/shop/mod.py mods/hello",
            "modvisor load ./hello",
            _quarantined("hello"),
            "cp ../parts/hello/mod.py mods/hello",
        ],
        "## modvisor top": [
            "modvisor unload hello",
            "modvisor unload broken",
            "modvisor load ./hello --id search",
            "cp -r ../parts/shop mods/feed",
            "modvisor load ./feed",
            _quarantined("feed"),
        ],
        "## modvisor graph": [
            "modvisor unload feed",
            "modvisor unload search",
            "modvisor load ./shop",
            f"({_TRAFFIC}) > traffic.log 2>&1 &",
        ],
        "## modvisor stats": [
            *_stopped_with("rest.yaml"),
            "modvisor run",
            """modvisor send hello.greeting.get '{"name": ""}' --as agent:ann || true""",
        ],
        "## modvisor load": ["modvisor unload hello"],
        "## modvisor unload": ["modvisor load ./shop"],
        "## modvisor swap": [
            "cp -r ../parts/plain mods/messaging_v1",
            "cp -r ../parts/plain mods/messaging_v2",
            "modvisor load ./messaging_v1",
        ],
        "## modvisor audience": [f"modvisor load {_WIKI}"],
        "## modvisor crashes": [
            "modvisor unload hello",
            "modvisor load ./hello --limit hang_timeout=1s",
            _SAMPLED,
            """modvisor send hello.greeting.get '{"name": "Endymion"}' --as agent:ada || true""",
        ],
        "## modvisor logs": ["modvisor load ./shop"],
        "hello | ": ["""modvisor send hello.greeting.get '{"name": "Ada"}'"""],
        "02:58:21 hello.greeting.given": ["""modvisor send hello.greeting.get '{"name": "Ada"}' --as agent:ann"""],
        "02:58:22 hello.greeting.get agent:ann  bad": ["modvisor send hello.greeting.get --as agent:ann || true"],
        "## modvisor replay": [
            """for n in $(seq 300); do echo '{"event_name": "hello.greeting.get", "payload": {"name": "Ada"}, """
            """"source_id": "agent:a'$n'"}'; done > events.jsonl; echo '{"event_name": 3}' >> events.jsonl""",
        ],
        "bob: hi alice": ["echo '@alice hi alice' | modvisor agent bob --secret-file bob.secret"],
        "modvisor agent forget": [
            "printf '/join general\n/join dev\n' | modvisor agent alice --secret-file alice.secret",
            "echo '@alice hi alice' | modvisor agent bob --secret-file bob.secret",
            """modvisor send hello.greeting.get '{"name": ""}' --as agent:alice || true""",
        ],
        "## modvisor dlq ls": [
            *_stopped_with("rest.yaml"),
            "modvisor run",
            """modvisor send hello.greeting.get '{"name": ""}' --as agent:ann || true""",
            """modvisor send hello.greeting.get '{"name": "boom"}' --as agent:bob || true""",
        ],
        "## modvisor dlq replay": [
            "cp ../parts/mended.py mods/hello/mod.py",
            "modvisor reload hello",
        ],
        "## modvisor new": ["rm -rf mods"],
        "modvisor completion fish": ["mkdir -p ~/.config/fish/completions"],
    },
    instead={"https://agents.example.com": "http://127.0.0.1:8700", "/mnt/copy": "../mnt/copy"},
)
