"""Writes down each event that it handles, in the order in which it does, with what proves that it may."""

import json
import os
import time

from modvisor.mods import BaseMod, Event, EventResponse, mod_event_handler


class Scribe(BaseMod):
    version = "1.0"

    def initialize(self):
        self.log_file = os.open(self.config["diary"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        self.handled = 0

    def get_state(self):
        return {"handled": self.handled}

    def set_state(self, state, version):
        self.handled = state["handled"]

    @mod_event_handler("*")
    async def write(self, event: Event):
        context = self.context
        if event.event_name != f"{context.mod_id}.write":  # every copy is told what happens in the network
            return None
        line = {
            "at": time.clock_gettime(time.CLOCK_BOOTTIME),
            "mod": context.mod_id,
            "part": context.replica,
            "token": context.fencing_token,
            "pid": os.stat("/proc/self/ns/pid").st_ino,
            "event": event.event_id,
            "source": event.source_id,
            "key": event.payload.get("key"),
            "number": event.payload.get("number"),
            "attempt": event.attempt,
        }
        os.write(self.log_file, json.dumps(line).encode() + b"\n")
        self.handled += 1
        return EventResponse(True, data={"handled": self.handled})
