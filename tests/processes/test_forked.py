"""Workers forked from the guardian, and those that are not: to a mod they are the same."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from modvisor.supervisor import AgentNetwork, Event

pytestmark = [
    pytest.mark.usefixtures("started_guardians"),
    pytest.mark.anyio,
    pytest.mark.skipif(sys.platform != "linux", reason="nothing is forked elsewhere"),
]

LOOKS = """
    import atexit, gc, os, signal, sys, threading
    from modvisor.mods import BaseMod, EventResponse, mod_event_handler

    class Looks(BaseMod):
        def initialize(self):
            atexit.register(lambda: (self.context.storage_path / "ended").write_text("in order"))

        @mod_event_handler("looks.at")
        async def at(self, event):
            signals = {name: str(signal.getsignal(getattr(signal, name))) for name in
                       ("SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT", "SIGCHLD", "SIGPIPE")}
            kinds = sorted(os.readlink(f"/proc/self/fd/{fd}").split(":")[0] for fd in os.listdir("/proc/self/fd")
                           if os.path.lexists(f"/proc/self/fd/{fd}"))
            return EventResponse(True, data={
                "signals": {name: text.split(" at ")[0] for name, text in signals.items()},
                "mask": [int(signum) for signum in signal.pthread_sigmask(signal.SIG_BLOCK, ())],
                "fds": [kind for kind in kinds if not kind.startswith("/proc/") and not kind.endswith(".mark")],
                "leader": [os.getsid(0) == os.getpid(), os.getpgrp() == os.getpid()],
                "gc": gc.isenabled(), "threads": threading.active_count(), "umask": os.umask(0o22),
                "env": sorted(os.environ), "cwd": os.getcwd(), "main": threading.current_thread().name,
                "stdio": [sys.stdin.read(), sys.stdout.encoding, sys.stderr.encoding, sys.stdout.line_buffering],
            })
"""


async def test_a_forked_worker_looks_like_one_that_was_not(
    network: AgentNetwork, write_mod: Callable[..., str]
) -> None:
    path = write_mod("looks", LOOKS)
    seen: dict[str, dict[str, Any]] = {}
    for launch in ("exec", "fork"):
        loaded = await network.load_mod(path, mod_id=launch, launch=launch)
        assert loaded.success, loaded
        seen[launch] = (await network.process_event(Event("looks.at", destination_id=f"mod:{launch}"))).data
        assert Path(seen[launch].pop("cwd")) == network.state_dir.storage_of(launch)
        process = psutil.Process(loaded.data["pid"])
        assert "modvisor.worker" in process.cmdline()
        assert (await network.unload_mod(launch)).success
        assert (network.state_dir.storage_of(launch) / "ended").read_text() == "in order"
    assert seen["fork"] == seen["exec"]


async def test_what_is_asked_for_is_checked(network: AgentNetwork, write_mod: Callable[..., str]) -> None:
    refused = await network.load_mod(write_mod("echo"), launch="spawn")
    assert refused.error == "bad_config"
    assert "expected one of fork, exec" in str(refused.message)


THREADS = """
    import os, threading
    from modvisor.mods import BaseMod, EventResponse, mod_event_handler

    class Threads(BaseMod):
        def initialize(self):
            self.together = threading.Barrier(6)

        @mod_event_handler("threads.meet")
        def meet(self, event):
            held = bytearray(2000)
            self.together.wait(20)
            begins = [int(line.partition("-")[0], 16) for line in open("/proc/self/maps") if " rw-p " in line]
            arenas = sum(begin % (64 << 20) == 0 for begin in begins)  # where the C library puts all but the first
            return EventResponse(True, data={"arenas": arenas, "seen": os.environ.get("MALLOC_ARENA_MAX")})
"""


@pytest.mark.forked
@pytest.mark.skipif(not os.confstr("CS_GNU_LIBC_VERSION"), reason="another C library has no arenas")
async def test_threads_of_a_forked_worker_share_two_arenas(
    network: AgentNetwork, write_mod: Callable[..., str]
) -> None:
    assert (await network.load_mod(write_mod("threads", THREADS))).success
    answers = await asyncio.gather(*(network.process_event(Event("threads.meet", f"agent:a{n}")) for n in range(6)))
    assert [answer.data for answer in answers] == [{"arenas": 1, "seen": None}] * 6
