"""The mods of the session."""

SCRIBE = """
import asyncio

from modvisor.mods import BaseMod, Event, EventResponse, mod_event_handler

class Scribe(BaseMod):
    version = "1.0"
    description = "answers, passes on, changes, fails, asks"
    optional = ["second"]

    def initialize(self):
        self.seen = []

    def get_state(self):
        return {"seen": self.seen}

    def set_state(self, state, from_version):
        self.seen = state["seen"]

    @mod_event_handler("t.ask")
    async def ask(self, event):
        self.seen.append(event.event_id)
        return EventResponse(True, "an answer", {"payload": event.payload, "seen": list(self.seen)})

    @mod_event_handler("t.pass")
    async def pass_on(self, event):
        return None

    @mod_event_handler("t.change")
    async def change(self, event):
        return Event("t.changed", event.source_id, event.destination_id, {"changed": True}, event_id=event.event_id)

    @mod_event_handler("t.refuse")
    async def refuse(self, event):
        return EventResponse(False, "refused", {"error": "not_today"})

    @mod_event_handler("t.fail")
    async def fail(self, event):
        raise ValueError("the handler failed")

    @mod_event_handler("t.plain")
    def plain(self, event):
        return EventResponse(True)

    @mod_event_handler("t.wait")
    async def wait(self, event):
        await asyncio.Event().wait()

    @mod_event_handler("t.emit")
    async def emit(self, event):
        sent = Event("q.ask", destination_id="mod:second", payload={"from": "scribe"}, event_id="emitted-1")
        told = await self.context.send_event(sent)
        note = await self.context.send_event(Event("q.note", destination_id="agent:bob", event_id="emitted-2"))
        asked = await self.context.request("mod:second", "q.ask", {"asked": 1})
        gone = await self.context.send_event(Event("q.note", destination_id="mod:nowhere", event_id="emitted-3"))
        forged = await self.context.send_event(Event("q.note", "agent:alice", "agent:bob", event_id="emitted-4"))
        system = await self.context.send_event(Event("system.mod.list", event_id="emitted-5"))
        answers = [told, note, asked, gone, forged, system]
        return EventResponse(True, data=[[each.success, (each.data or {}).get("error")] for each in answers])

    @mod_event_handler("t.look")
    async def look(self, event):
        look = self.context
        agents, channels, groups = await look.agents(), await look.channels(), await look.groups()
        members = await look.channel_members("general")
        return EventResponse(True, data={"agents": agents, "channels": channels, "groups": groups, "members": members})

    @mod_event_handler("t.keep")
    async def keep(self, event):
        await self.context.checkpoint({"seen": self.seen})
        return EventResponse(True)
"""

SECOND = """
from modvisor.mods import BaseMod, EventResponse, mod_event_handler

class Second(BaseMod):
    version = "2.1"

    @mod_event_handler("t.pass")
    @mod_event_handler("t.changed")
    @mod_event_handler("q.ask")
    async def answer(self, event):
        return EventResponse(True, data={"name": event.event_name, "payload": event.payload, "via": event.via})
"""

WATCHER = """
from modvisor.mods import BaseMod, mod_event_handler

class Watcher(BaseMod):
    version = "1.0"

    @mod_event_handler("t.*", observe=True)
    async def see(self, event):
        if event.event_name == "t.fail":
            raise RuntimeError("the observer failed")

    @mod_event_handler("system.notification.*")
    async def told(self, event):
        return None
"""

BOMB = """
import os

from modvisor.mods import BaseMod, EventResponse, mod_event_handler

class Bomb(BaseMod):
    version = "1.0"

    @mod_event_handler("b.die")
    async def die(self, event):
        os._exit(3)

    @mod_event_handler("b.live")
    async def live(self, event):
        return EventResponse(True)
"""

DURABLE = """
import asyncio

from modvisor.mods import BaseMod, EventResponse, mod_event_handler

class Durable(BaseMod):
    version = "1.0"

    @mod_event_handler("d.wait")
    async def wait(self, event):
        await asyncio.Event().wait()

    @mod_event_handler("d.done")
    async def done(self, event):
        return EventResponse(True)
"""

BROKEN = """
from modvisor.mods import BaseMod

class Broken(BaseMod):
    def initialize(self):
        raise RuntimeError("it does not start")
"""

MODS = {"scribe": SCRIBE, "second": SECOND, "watcher": WATCHER, "bomb": BOMB, "durable": DURABLE, "broken": BROKEN}
