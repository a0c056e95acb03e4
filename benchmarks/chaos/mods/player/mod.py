"""One of the twenty mods: it counts events, writes a diary, and misbehaves when it is told to."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import threading
import time
from typing import Any

from modvisor.mods import BaseMod, Event, EventResponse, mod_event_handler

from .acts import ACTS

ME = os.environ["CHAOS_MOD"]
WATCHED = os.environ.get("CHAOS_WATCHED", "nobody.watched")

SOON = 0.02  # seconds after the answer to its event


class Player(BaseMod):
    """Config: `checkpoint_each`: checkpoint with every so many events; 0: never."""

    version = "1.0"
    description = "a mod of the chaos run"

    def __init__(self) -> None:
        self.count = 0
        self.observed = 0
        self.stubborn = False
        self.kept: list[Any] = []  # what it leaks

    def initialize(self) -> None:
        self.loop = asyncio.get_running_loop()
        folder = self.context.storage_path / "diaries"
        folder.mkdir(exist_ok=True)
        self.diary = folder / f"{os.getpid()}-{time.monotonic_ns()}"
        self.note("started", os.getpid())
        self._fail_to_start()

    def _fail_to_start(self) -> None:
        """Fail to start, as often and in the way that an earlier incarnation has decided."""
        order = self.context.storage_path / "bad_starts"
        if not order.exists():
            return
        left, how = order.read_text().split()
        if int(left) > 1:
            order.write_text(f"{int(left) - 1} {how}")
        else:
            order.unlink()
        self.note("bad_start", how)
        BAD_STARTS[how]()

    def activate(self) -> None:
        self.note("active")

    def shutdown(self) -> None:
        if self.stubborn:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            threading.Event().wait()

    def get_state(self) -> dict[str, int]:
        return {"count": self.count}

    def set_state(self, state: dict[str, int], from_version: str) -> None:
        self.count = state["count"]
        self.note("restored", self.count)

    def note(self, *words: object) -> None:
        """Write one whole line to the kernel before anything else happens.

        The file is opened for each line, so a mod that closes its descriptors writes nowhere else.
        """
        line = f"{time.monotonic_ns()} {' '.join(map(str, words))}\n"
        fd = os.open(self.diary, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.write(fd, line.encode())
        finally:
            os.close(fd)

    @mod_event_handler(f"{ME}.work")
    async def work(self, event: Event) -> EventResponse:
        number = event.payload["n"]
        self.note("begin", number, event.attempt)
        self.count += 1
        each = self.config["checkpoint_each"]
        if each and self.count % each == 0:
            count = self.count
            await self.context.checkpoint(self.get_state())
            self.note("acked", count)
        if event.payload["takes"]:
            await asyncio.sleep(event.payload["takes"])
        return EventResponse(True, data=number)

    @mod_event_handler(f"{ME}.act")
    async def act(self, event: Event) -> EventResponse:
        """Misbehave.

        `payload`: act, number (of the act), how (now, soon, thread), once, seed, arguments.
        """
        self.note("begin", event.payload["n"], event.attempt)
        if event.attempt == 1 or not event.payload["once"]:
            self.note("act", event.payload["number"], event.payload["act"])
            if (answer := await self._perform(event)) is not None:
                return answer
        return EventResponse(True, data=event.payload["n"])

    async def _perform(self, event: Event) -> Any:
        payload = event.payload
        perform, chance = ACTS[payload["act"]], random.Random(payload["seed"])
        if payload["how"] == "soon":
            self.loop.call_later(SOON, self._begin, perform, payload, chance)
        elif payload["how"] == "thread":
            threading.Thread(target=perform, args=(self, payload, chance), daemon=True).start()
            await asyncio.sleep(SOON)
        else:
            result = perform(self, payload, chance)
            return await result if asyncio.iscoroutine(result) else result
        return None

    def _begin(self, perform: Any, payload: dict[str, Any], chance: random.Random) -> None:
        result = perform(self, payload, chance)
        if asyncio.iscoroutine(result):
            self.kept.append(self.loop.create_task(result))

    @mod_event_handler(f"{ME}.ping")
    async def ping(self, event: Event) -> EventResponse:
        return EventResponse(True, data={"pid": os.getpid(), "acts": sorted(ACTS), "observed": self.observed})

    @mod_event_handler(WATCHED, observe=True)
    async def watch(self, event: Event) -> None:
        self.observed += 1


def _raise() -> None:
    raise RuntimeError("this start was to fail")


BAD_STARTS = {
    "raise": _raise,
    "exit": lambda: os._exit(9),
    "abort": os.abort,
    "hang": lambda: threading.Event().wait(),
}
