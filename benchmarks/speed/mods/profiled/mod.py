"""Answer as `echo` does, and say which functions of the worker were called meanwhile."""

import cProfile
import time

from modvisor.mods import BaseMod, EventResponse, mod_event_handler


class Profiled(BaseMod):
    profile = None

    @mod_event_handler("bench.ping")
    async def ping(self, event):
        return EventResponse(True, data={"pong": event.payload["i"]})

    @mod_event_handler("bench.profile.start")
    async def start(self, event):
        self.profile = cProfile.Profile(time.thread_time)
        self.profile.enable()
        return EventResponse(True)

    @mod_event_handler("bench.profile.stop")
    async def stop(self, event):
        self.profile.create_stats()
        return EventResponse(True, data=[[*place, *found[1:3]] for place, found in self.profile.stats.items()])
