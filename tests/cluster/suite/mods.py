"""The mods of the pair, by id: the source, and what their entries say besides."""

from __future__ import annotations

from typing import Any

HEAD = """
    import asyncio
    from modvisor.mods import BaseMod, Event, EventResponse, Refused, mod_event_handler
"""

ANSWERING = """
    class Answering(BaseMod):
        def initialize(self):
            self.log, self.gate = [], asyncio.Event()

        @mod_event_handler("suite.answer.*")
        async def answer(self, event):
            match event.event_name.rpartition(".")[2]:
                case "none":
                    return None
                case "raise":
                    raise ValueError("a mistake")
                case "refuse":
                    raise Refused("not like this", field="x")
                case "seen":
                    return EventResponse(True, "seen", {
                        "source": event.source_id, "group": event.source_agent_group, "via": event.via,
                        "hops": event.hops, "cause": event.cause, "attempt": event.attempt, "payload": event.payload})

        @mod_event_handler("suite.wait.begin")
        async def wait(self, event):
            self.log.append(["begun", event.payload["n"]])
            try:
                await self.gate.wait()
            except asyncio.CancelledError:
                self.log.append(["cancelled", event.payload["n"]])
                raise

        @mod_event_handler("suite.wait.log")
        async def tell(self, event):
            return EventResponse(True, data=self.log)

        @mod_event_handler("suite.large.echo")
        async def echo(self, event):
            return EventResponse(True, data={"got": len(event.payload["data"]), "back": event.payload["data"]})

        @mod_event_handler("suite.count.up")
        async def count(self, event):
            self.log.append(["counted", event.payload["n"]])
            await asyncio.sleep(0.01)
            return EventResponse(True, data=len(self.log))
"""

PASSING = """
    class Passing(BaseMod):
        @mod_event_handler("suite.said.*")
        async def pass_on(self, event):
            if event.event_name == "suite.said.raise":
                raise ValueError("a mistake")
            return Event(event.event_name, destination_id=event.destination_id, payload={**event.payload, "seen": True})

        @mod_event_handler("suite.send.it")
        async def send(self, event):
            told = Event("suite.told", destination_id=event.payload["whom"], payload={"by": "mod"})
            response = await self.context.send_event(told)
            return EventResponse(response.success, response.message, response.data)
"""

# Each asks the other one. `there` and `neighbour` are on two nodes, or on one.
CHAIN = """
    class Chain(BaseMod):
        @mod_event_handler("chain.*")
        async def go(self, event):
            if event.event_name == "chain.end" or event.payload.get("left") == 0:
                return EventResponse(True, data={
                    "via": event.via, "hops": event.hops, "cause": event.cause is not None, "source": event.source_id})
            payload = {"left": event.payload["left"] - 1} if "left" in event.payload else {}
            following = Event(event.event_name, destination_id="mod:OTHER", payload=payload)
            response = await self.context.send_event(following)
            return EventResponse(response.success, response.message, response.data)
"""

WATCHING = """
    class Watching(BaseMod):
        def initialize(self):
            self.seen, self.told = [], []

        @mod_event_handler("suite.*", observe=True)
        async def watch(self, event):
            self.seen.append(event.event_id)

        @mod_event_handler("system.notification.*")
        async def notified(self, event):
            self.told.append([event.event_name.rpartition(".")[2], event.payload.get("agent_id")])

        @mod_event_handler("watching.tell")
        async def tell(self, event):
            return EventResponse(True, data={"seen": self.seen, "told": self.told})
"""

KEYED = """
    class Keyed(BaseMod):
        def initialize(self):
            self.log = []

        @mod_event_handler("keyed.work")
        async def work(self, event):
            self.log.append(event.payload["n"])
            await asyncio.sleep(0)
            return EventResponse(True, data=[str(self.context.storage_path), list(self.log)])
"""

DURABLE = """
    import os

    class Durable(BaseMod):
        @mod_event_handler("durable.do")
        async def do(self, event):
            if (kills := event.payload.get("kills")) is not None:
                file = self.context.storage_path / str(event.payload["n"])
                if (killed := file.stat().st_size if file.exists() else 0) < kills:
                    file.write_bytes(b"x" * (killed + 1))
                    os._exit(3)
            return EventResponse(True, data=[event.payload["n"], event.attempt])
"""

VERSION = """
    class Version(BaseMod):
        @mod_event_handler("version.tell")
        async def tell(self, event):
            return EventResponse(True, data=self.context.mod_id)
"""

NEIGHBOUR = "neighbour"
"""The one mod that is always at node b."""

_PUBLIC = {"config": {"public": True}}
_QUICK = {"restart": {"first_delay": 0, "max_delay": 0, "max_restarts": 100}}

MODS: dict[str, tuple[str, dict[str, Any]]] = {
    "answering": (HEAD + ANSWERING, _PUBLIC),
    "passing": (HEAD + PASSING, _PUBLIC),
    "there": (HEAD + CHAIN.replace("OTHER", NEIGHBOUR), {**_PUBLIC, "limits": {"concurrency": 1}}),
    NEIGHBOUR: (HEAD + CHAIN.replace("OTHER", "there"), {**_PUBLIC, "limits": {"concurrency": 1}}),
    "watching": (HEAD + WATCHING, _PUBLIC),
    "keyed": (HEAD + KEYED, {**_PUBLIC, "workers": 2, "partition_by": "payload.key"}),
    "durable": (HEAD + DURABLE, {**_PUBLIC, **_QUICK, "durable": True, "max_attempts": 2}),
    "again": (HEAD + DURABLE.replace("durable.do", "again.do"), {**_PUBLIC, **_QUICK, "delivery": "at_least_once"}),
    "once": (HEAD + DURABLE.replace("durable.do", "once.do"), {**_PUBLIC, **_QUICK, "delivery": "at_most_once"}),
    "version@1": (HEAD + VERSION, _PUBLIC),
    "version@2": (HEAD + VERSION, {**_PUBLIC, "audience": {"percent": 30}}),
}
