"""A mod that tries to get what is not its own, and says exactly what it got."""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from typing import Any

from modvisor.mods import BaseMod, Event, EventResponse, mod_event_handler

from . import files, kernel, processes, sockets
from .ways import ATTACKS, all_tried
from .wire import FORGERIES, forged

_FOLDERS = (files, kernel, processes, sockets)  # importing them fills ATTACKS


class Attacker(BaseMod):
    @mod_event_handler("attack.try")
    async def attack(self, event: Event) -> EventResponse:
        """Try the attacks in ``names``, with what ``known`` holds."""
        names: list[str] = event.payload["names"]
        known: dict[str, Any] = {
            **event.payload["known"],
            "storage": str(self.context.storage_path),
            "warden": os.getppid(),
        }
        results = all_tried(known, [name for name in names if name in ATTACKS])
        results |= await forged(self.context, known, [name for name in names if name in FORGERIES])
        return EventResponse(True, data=results)

    @mod_event_handler("attack.kill")
    async def kill(self, event: Event) -> EventResponse:
        """Kill every process that can be killed."""
        for pid in event.payload["pids"]:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        os.kill(-1, signal.SIGKILL)
        os.abort()
