"""Ends when it is told to. With `cured` in its folder it does not."""

import os
from pathlib import Path

from modvisor.mods import BaseMod, EventResponse, mod_event_handler


class Moody(BaseMod):
    version = "0.1.0"
    description = "Ends when it is told to"

    @mod_event_handler("moody.die")
    def die(self, event):
        if (Path(__file__).parent / "cured").exists():
            return EventResponse(True, "not any more")
        print("moody: segmentation fault in libmood.so.3")
        os._exit(3)

    @mod_event_handler("moody.ask")
    def ask(self, event):
        return EventResponse(True, data={"pid": os.getpid()})
