"""Tricks on what looks after a worker: warden, guardian, supervisor. Each ends with the trickster alone."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import pytest

from modvisor.supervisor import AgentNetwork, Event, EventResponse
from tests.conftest import ECHO, open_files, until, worker_pids

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

HEAD = """
    import asyncio, ctypes, os, signal, socket, struct, sys, threading, time
    from modvisor.mods import BaseMod, EventResponse, mod_event_handler

    libc = ctypes.CDLL(None, use_errno=True)

    class Trickster(BaseMod):
"""


@pytest.fixture
async def played(make_network: Callable[..., AgentNetwork], write_mod: Callable[..., str]) -> Callable[..., Any]:
    """Load a mod whose handler plays a trick, and play it."""

    async def play(trick: str, **more: Any) -> tuple[AgentNetwork, EventResponse]:
        network = make_network()
        await network.initialize()
        assert (await network.load_mod(write_mod("echo", ECHO))).success
        path = write_mod("trickster", HEAD + trick)
        loaded = await network.load_mod(path, limits={"hang_timeout": "1s", "term_timeout": "0.2s"}, **more)
        assert loaded.success, loaded.message
        event = Event("trick.play", "agent:a", "mod:trickster", {"pid": os.getpid()}, timeout=5.0)
        return network, await network.process_event(event)

    return play


async def is_sound(network: AgentNetwork) -> bool:
    """Whether the other mod answers, and another one can be loaded."""
    answer = await network.process_event(Event("test.ping", "agent:a", "mod:echo", {"i": 1}))
    return answer.success and (await network.load_mod("./echo", mod_id="other")).success


async def test_a_worker_that_has_its_warden_trace_it_is_ended(played: Callable[..., Any]) -> None:
    """A traced process stops at each signal, and its stop looks like an end to whoever waits without care."""
    network, answer = await played("""
        @mod_event_handler("trick.play")
        async def play(self, event):
            libc.ptrace(0, 0, None, None)  # PTRACE_TRACEME
            os.kill(os.getpid(), signal.SIGURG)
            return EventResponse(True)
    """)
    assert not answer.success, "it was stopped for ever"
    assert await is_sound(network)


async def test_threads_and_siblings_that_the_warden_does_not_know_end_with_the_worker(
    played: Callable[..., Any],
) -> None:
    before = worker_pids()
    network, answer = await played("""
        @mod_event_handler("trick.play")
        async def play(self, event):
            pid = libc.syscall(56, 0x8000 | 17, 0, 0, 0, 0)  # clone(CLONE_PARENT): a child of the warden
            if pid == 0:
                while True:
                    time.sleep(100)
            thread = threading.Thread(target=lambda: (libc.ptrace(0, 0, None, None), signal.raise_signal(signal.SIGURG)))
            thread.start()
            await asyncio.sleep(0.05)
            return EventResponse(True, data=pid)
    """)
    assert answer.success, answer
    assert answer.data > 0
    assert len(worker_pids() - before) == 3, "the echo, the trickster and its sibling"
    assert (await network.unload_mod("trickster")).success
    await until(lambda: len(worker_pids() - before) == 1)
    assert await is_sound(network)


async def test_descriptors_that_come_over_the_pipe_are_not_kept(played: Callable[..., Any]) -> None:
    """A hundred descriptors with each message, whose reading would never end, in place of shared memory."""
    network, answer = await played("""
        @mod_event_handler("trick.play")
        async def play(self, event):
            reading, writing = os.pipe()
            for _ in range(50):
                socket.send_fds(self.context._pipe._sock, [bytes([0, 0, 0, 1])], [reading] * 100)
    """)
    assert not answer.success, "the pipe is broken"
    await network.restart_mod("trickster")
    before = _passages()
    await network.process_event(Event("trick.play", "agent:a", "mod:trickster", timeout=5.0))
    await network.restart_mod("trickster")
    await until(lambda: _passages() <= before)
    assert await is_sound(network)


def _passages() -> int:
    """How many pipes and sockets this process has open."""
    return len([each for each in open_files() if "pipe:" in each or "socket:" in each])
