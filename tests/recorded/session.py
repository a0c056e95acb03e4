"""What happens in the recorded session. Everything is awaited in turn, so that it happens the same each time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import modvisor.supervisor
from modvisor.supervisor import AgentNetwork, Event

from . import journal
from .masks import Masks
from .mods import MODS
from .wire import Tap

HOUSE = Path(modvisor.supervisor.__file__).parent.parent
LARGE = 300_000  # bytes that travel in shared memory
PASSWORD_HASH = "e2186dbdb1bb4193608605e84f33208765b5693b55edd4f730a719a100eeea6f"
QUIET = {"first_delay": 0, "max_delay": 0}
ENTRIES: dict[str, dict[str, Any]] = {
    "scribe": {"config": {"greeting": "hello", "numbers": [1, 2.5, None]}, "env": {"MODE": "recorded"}},
    "second": {},
    "watcher": {},
    "bomb": {"max_attempts": 1, "restart": {**QUIET, "max_restarts": 1}},
    "durable": {"durable": True, "limits": {"drain_timeout": 0, "shutdown_timeout": 0.5}},
}

Lines = list[dict[str, Any]]


async def until(condition: Callable[[], bool], timeout: float = 10.0) -> None:
    """Wait for what is seen on the wire only."""
    async with asyncio.timeout(timeout):
        while not condition():
            await asyncio.sleep(0.002)


def write_mods(base: Path) -> None:
    for name, source in MODS.items():
        (base / "mods" / name).mkdir(parents=True)
        (base / "mods" / name / "mod.py").write_text(source)


def network_of(base: Path, **network: Any) -> AgentNetwork:
    """A network whose answers do not depend on the host: no cgroups, nobody stays awake."""
    config = {
        "network": {"name": "recorded", "storage": "state", "polling": "off", "cgroups": False, **network},
        "agent_groups": {
            "beta": {},
            "admins": {"permissions": ["mods", "agents", "channels"], "password_hash": PASSWORD_HASH},
        },
        "agents": {"expire_after": None},
        "journal": {"stats_every": None},  # the figures differ from run to run
    }
    return AgentNetwork.from_config(config, base_dir=base)


def masks_of(base: Path) -> Masks:
    return Masks({str(base): "<base>", str(HOUSE): "<house>"})


class Session:
    """The session of wire and journal, in one network."""

    def __init__(self, base: Path, tap: Tap) -> None:
        self._base = base
        self._tap = tap
        self._masks = masks_of(base)
        self._network = network_of(base)
        self._secrets: dict[str, str] = {}
        self._copies = 0
        self.answers: Lines = []
        self.journal: Lines = []

    async def play(self) -> None:
        async with self._network:
            for step in (self._arrive, self._events, self._requests, self._reload, self._versions, self._crash):
                await step()
            await self._leave()
        self.journal.append({"journal": "after the end"})
        self.journal += journal.lines(self._base / "state" / "network.db", self._masks, schema=False)

    async def _arrive(self) -> None:
        for name, entry in ENTRIES.items():
            self._note(await self._network.load_mod(f"./{name}", **entry))
            await until(lambda name=name: self._tap.of(name).answered("snapshot") == 1)
        self._note(await self._network.load_mod("./broken"))
        for name, metadata in (("alice", {"name": "Alice"}), ("bob", {})):
            response = await self._network.register_agent(name, metadata=metadata)
            self._secrets[name] = response.data["secret"]
            self._note(response)
            await until(lambda: self._tap.of("watcher").answered("notify") == len(self._secrets))
        await self._send("system.add_channel_member", payload={"channel": "general", "agent_id": "alice"})

    async def _events(self) -> None:
        await self._watched("t.ask", "mod:scribe", {"text": "grüße", "list": [1, -1, 2**40, 1.5, True, None]})
        await self._watched("t.ask", payload={"b": b"bytes", "m": {"k": []}}, metadata={"trace": "x"})
        await self._watched("t.ask", event_id="e2")  # a retry: nothing is sent
        await self._watched("t.pass")
        await self._watched("t.change", payload={"changed": False})
        await self._watched("t.refuse", "mod:scribe")
        await self._watched("t.fail", "mod:scribe")
        await self._watched("t.fail")
        await self._watched("t.plain")
        await self._watched("t.note", "agent:bob", {"note": 1})
        await self._watched("t.note", "channel:general")
        await self._watched("t.note", "agent:nobody")
        await self._send("t.ask", "mod:nowhere")
        await self._send("t.ask", "mod:scribe", secret="wrong")
        await self._send("t.wait", "mod:scribe", timeout=0.05)
        await until(lambda: self._tap.of("scribe").answered("event") == self._tap.of("scribe").sent("event"))
        await self._send("t.ask", "mod:scribe", {"large": bytes(LARGE)})
        for name in ("alice", "bob"):
            events = await self._network.poll_events(name)
            self.answers.append({"inbox": name, "events": self._masks.value([event.to_dict() for event in events])})

    async def _requests(self) -> None:
        for name in ("t.emit", "t.look", "t.keep"):
            await self._send(name, "mod:scribe")
            await self._observed()

    async def _reload(self) -> None:
        self._note(await self._network.reload_mod("scribe"))
        await until(lambda: self._tap.of("scribe").answered("snapshot") == 1)
        await self._watched("t.ask", "mod:scribe")
        self._note(await self._network.restart_mod("second"))
        await until(lambda: self._tap.of("second").answered("activate") == 1)
        await self._watched("t.pass", "mod:second")
        self._note(await self._network.swap_mod("second", "./second", mod_id="third"))
        await until(lambda: self._tap.of("third").answered("snapshot") == 1)
        await self._watched("t.pass")
        self._note(await self._network.unload_mod("third"))

    async def _versions(self) -> None:
        self._note(await self._network.load_mod("./second", mod_id="second"))
        self._note(await self._network.load_mod("./second", mod_id="second@2", audience={"agents": ["alice"]}))
        self._note(await self._network.promote_mod("second@2"))
        for mod_id in ("second", "second@2"):
            await until(lambda mod_id=mod_id: self._tap.of(mod_id).answered("snapshot") == 1)
        await self._watched("t.pass")

    async def _crash(self) -> None:
        await self._send("b.live", "mod:bomb")
        for _ in range(2):
            await self._send("b.die", "mod:bomb")
        await until(lambda: self._network.get_loaded_mods()["bomb"]["state"] == "quarantined")
        await self._send("b.live", "mod:bomb")

    async def _leave(self) -> None:
        await self._send("d.done", "mod:durable")
        waiting = asyncio.create_task(self._network.process_external_event(self._event("d.wait", "mod:durable")))
        await until(lambda: self._tap.of("durable").sent("event") == 2)
        await self._network.backup(self._base / "copy.db")
        self.journal.append({"journal": "an event in flight"})
        self.journal += journal.lines(self._base / "copy.db", self._masks)
        waiting.cancel()  # nobody waits for it any more; the event stays with its mod until the end
        with suppress(asyncio.CancelledError):
            await waiting

    # -- sending

    async def _watched(self, name: str, destination: str | None = None, *args: Any, **more: Any) -> None:
        await self._send(name, destination, *args, **more)
        if more.get("event_id") is None:
            await self._observed()

    async def _observed(self) -> None:
        """Wait until every copy that was sent to the observer is handled: copies of the next event go in one of their own."""
        watcher = self._tap.of("watcher")
        self._copies += 1
        await until(lambda: watcher.sent("observe") >= self._copies)
        await until(lambda: watcher.answered("observe") == watcher.sent("observe"))
        self._copies = watcher.sent("observe")

    async def _send(self, name: str, destination: str | None = None, payload: Any = None, **more: Any) -> None:
        event = self._event(name, destination, payload or {}, **more)
        self._note(await self._network.process_external_event(event))

    def _event(self, name: str, destination: str | None = None, payload: Any = None, **more: Any) -> Event:
        self._sent = getattr(self, "_sent", 0) + 1
        fields = {"event_id": f"e{self._sent}", "secret": self._secrets["alice"], **more}
        return Event(name, "agent:alice", destination, payload or {}, **fields)

    def _note(self, response: Any) -> None:
        self.answers.append({"answer": self._masks.value(response.to_dict())})


async def wire_and_journal(base: Path) -> dict[str, Lines]:
    """Play the session in the folder `base`, which is empty. Return the lines of `wire` and of `journal`."""
    write_mods(base)
    with Tap() as tap:
        session = Session(base, tap)
        await session.play()
    return {"wire": [*session.answers, *tap.lines(masks_of(base))], "journal": session.journal}
