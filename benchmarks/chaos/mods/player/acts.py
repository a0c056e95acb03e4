"""Every way to misbehave: what a player does when told to. `mischief.py` says how it must end.

Each act is called with the player, the payload of its event and a random source: in the handler,
soon after it, or in a thread, as the payload says. A dangerous act ends by itself.
"""

from __future__ import annotations

import asyncio
import ctypes
import mmap
import os
import random
import re
import signal
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import msgpack

from modvisor.mods import Event, EventResponse
from modvisor.worker.context import current_cause
from modvisor.worker.guardian import tree

LIFE = 20  # seconds, at most, that a process left behind lives
MOST_FORKS = 150
MOST_THREADS = 200
MOST_LEAKED = 450_000_000  # bytes

Player = Any
Act = Callable[[Player, dict[str, Any], random.Random], Any]
ACTS: dict[str, Act] = {}


def act(function: Act) -> Act:
    ACTS[function.__name__] = function
    return function


# -- ends


@act
def exit_with_code(player: Player, payload: dict[str, Any], chance: random.Random) -> None:
    os._exit(chance.randrange(1, 256))


@act
def exit_cleanly(player: Player, payload: dict[str, Any], chance: random.Random) -> None:
    os._exit(0)


@act
def exit_from_loop(player: Player, payload: dict[str, Any], chance: random.Random) -> None:
    player.loop.call_soon_threadsafe(sys.exit, chance.randrange(4))


@act
def exit_in_thread(player: Player, payload: dict[str, Any], chance: random.Random) -> None:
    threading.Thread(target=sys.exit, args=(3,), daemon=True).start()


@act
def segfault(player: Player, payload: dict[str, Any], chance: random.Random) -> None:
    ctypes.string_at(0)


@act
def abort(player: Player, payload: dict[str, Any], chance: random.Random) -> None:
    os.abort()


@act
def signal_self(player: Player, payload: dict[str, Any], chance: random.Random) -> None:
    deadly = [
        signal.SIGKILL,
        signal.SIGTERM,
        signal.SIGBUS,
        signal.SIGILL,
        signal.SIGFPE,
        signal.SIGHUP,
        signal.SIGALRM,
    ]
    os.kill(os.getpid(), chance.choice(deadly))
    threading.Event().wait()  # a signal to another thread takes a moment


@act
def kill_group(player: Player, payload: dict[str, Any], chance: random.Random) -> None:
    os.killpg(0, signal.SIGKILL)


@act
def interrupt(player: Player, payload: dict[str, Any], chance: random.Random) -> None:
    raise KeyboardInterrupt


@act
def cancel_everything(player: Player, payload: dict[str, Any], chance: random.Random) -> None:
    for task in asyncio.all_tasks(player.loop):
        player.loop.call_soon_threadsafe(task.cancel)


@act
def bad_starts(player: Player, payload: dict[str, Any], chance: random.Random) -> None:
    """Exit now, and fail the next few starts."""
    how = chance.choice(["raise", "raise", "exit", "abort", "hang"])
    number = 1 if how == "hang" else chance.randrange(1, 9)
    (player.context.storage_path / "bad_starts").write_text(f"{number} {how}")
    os._exit(8)


# -- blocks


@act
def block(player: Player, payload: dict[str, Any], chance: random.Random) -> None:
    threading.Event().wait()


@act
def spin(player: Player, payload: dict[str, Any], chance: random.Random) -> None:
    while True:
        pass


@act
def hold_the_gil(player: Player, payload: dict[str, Any], chance: random.Random) -> None:
    re.match(r"(a+)+$", "a" * 64 + "b")


@act
def stop_self(player: Player, payload: dict[str, Any], chance: random.Random) -> None:
    os.kill(os.getpid(), signal.SIGSTOP)


@act
def spin_in_thread(player: Player, payload: dict[str, Any], chance: random.Random) -> None:
    """Compete with the loop for the interpreter: it gets its turns late."""
    end = time.monotonic() + 1.0

    def spin() -> None:
        while time.monotonic() < end:
            pass

    threading.Thread(target=spin, daemon=True).start()


# -- uses too much


@act
async def leak(player: Player, payload: dict[str, Any], chance: random.Random) -> None:
    """Allocate slowly until nothing is left; free it a little later."""
    held: list[bytes] = []
    try:
        while len(held) * 4_000_000 < MOST_LEAKED:
            held.append(b"x" * 4_000_000)
            await asyncio.sleep(0.01)
    finally:
        player.loop.call_later(0.5, held.clear)


@act
async def leak_shared(player: Player, payload: dict[str, Any], chance: random.Random) -> None:
    """Allocate memory that RLIMIT_DATA does not count."""
    for _ in range(MOST_LEAKED // 10_000_000):
        piece = mmap.mmap(-1, 10_000_000)
        piece.write(b"x" * 10_000_000)
        player.kept.append(piece)
        await asyncio.sleep(0.01)
    await asyncio.sleep(LIFE)


@act
def ten_gigabytes(player: Player, payload: dict[str, Any], chance: random.Random) -> None:
    player.kept.append(bytearray(10_000_000_000))


@act
async def fork_bomb(player: Player, payload: dict[str, Any], chance: random.Random) -> None:
    hiding = chance.random() < 0.5
    for _ in range(MOST_FORKS):
        if os.fork() == 0:
            _live_on(hiding)
        await asyncio.sleep(0)  # otherwise it is a hang on a slow machine
    await asyncio.sleep(LIFE)


@act
async def thread_leak(player: Player, payload: dict[str, Any], chance: random.Random) -> None:
    threading.stack_size(256 * 1024)  # otherwise the memory limit would stop it first
    over = threading.Event()
    for _ in range(MOST_THREADS):
        threading.Thread(target=over.wait, args=(LIFE,), daemon=True).start()
    await asyncio.sleep(LIFE)


@act
async def descriptor_leak(player: Player, payload: dict[str, Any], chance: random.Random) -> None:
    held: list[int] = []
    try:
        while True:
            held.append(os.open(os.devnull, os.O_RDONLY))
    finally:
        player.loop.call_later(0.3, lambda: [os.close(fd) for fd in held])


@act
def log_flood(player: Player, payload: dict[str, Any], chance: random.Random) -> None:
    end, line = time.monotonic() + 1.5, b"x" * chance.choice([1, 80, 30_000]) + b"\n"
    while time.monotonic() < end:
        os.write(1, line * max(1, 4000 // len(line)))


@act
async def emit(player: Player, payload: dict[str, Any], chance: random.Random) -> None:
    """Send events in a tight loop, from several tasks."""
    end = player.loop.time() + 1.0

    async def flood() -> None:
        while player.loop.time() < end:
            await player.context.send_event(Event("nobody.listens", payload={"i": 1}))

    await asyncio.gather(*(flood() for _ in range(16)))


@act
async def ask_and_die(player: Player, payload: dict[str, Any], chance: random.Random) -> None:
    """Exit while other mods and this one handle events that this mod has sent."""
    names = [f"steady{n}.ping" for n in range(10)] + [f"{player.context.mod_id}.ping"]
    asking = [asyncio.ensure_future(player.context.send_event(Event(chance.choice(names)))) for _ in range(50)]
    await asyncio.wait(asking, return_when=asyncio.FIRST_COMPLETED)
    os._exit(7)


@act
def big_file(player: Player, payload: dict[str, Any], chance: random.Random) -> None:
    path = player.context.storage_path / "big"
    try:
        with open(path, "wb") as file:
            for _ in range(40):
                file.write(bytes(1_000_000))
    finally:
        path.unlink()


# -- breaks the protocol of the pipe


@act
def garbage(player: Player, payload: dict[str, Any], chance: random.Random) -> None:
    _write_raw(player, chance.randbytes(chance.randrange(8, 4000)))


@act
def wrong_message(player: Player, payload: dict[str, Any], chance: random.Random) -> None:
    _write_raw(player, _frame(chance.choice([[9, 1], [0, -1, "event", {}], {"a": 1}, [2, 7, None], "text", [1, 5]])))


@act
def oversized_frame(player: Player, payload: dict[str, Any], chance: random.Random) -> None:
    _write_raw(player, struct.pack(">I", chance.choice([0xFFFFFFFF, 65 * 1024 * 1024])) + b"x")


@act
def half_a_frame(player: Player, payload: dict[str, Any], chance: random.Random) -> None:
    """Send half a message. The supervisor takes what the worker sends later for the rest."""
    _write_raw(player, struct.pack(">I", chance.choice([300, 5000, 50_000_000])) + b"x" * 10)


@act
def half_a_frame_then_death(player: Player, payload: dict[str, Any], chance: random.Random) -> None:
    _write_raw(player, struct.pack(">I", 1000) + b"x" * 500)
    os._exit(5)


@act
async def answer_twice(player: Player, payload: dict[str, Any], chance: random.Random) -> EventResponse:
    _write_raw(player, _frame([1, current_cause.get(), None, {"response": {"success": True, "data": payload["n"]}}]))
    return EventResponse(True, data=payload["n"])


@act
def answer_unasked(player: Player, payload: dict[str, Any], chance: random.Random) -> None:
    _write_raw(player, _frame([1, 1_000_000_000, None, None]))


@act
def ask_without_end(player: Player, payload: dict[str, Any], chance: random.Random) -> None:
    """Open more requests than are allowed, of an unknown method."""
    frames = b"".join(_frame([0, 1_000_000 + number, "no_such_method", None]) for number in range(2000))
    player.context._pipe._write(frames)


@act
def close_pipe(player: Player, payload: dict[str, Any], chance: random.Random) -> None:
    os.close(_pipe(player))


@act
def shut_pipe(player: Player, payload: dict[str, Any], chance: random.Random) -> None:
    player.context._pipe._sock.shutdown(chance.choice([1, 2]))  # for writing, or completely


@act
def swap_pipe(player: Player, payload: dict[str, Any], chance: random.Random) -> None:
    os.dup2(os.open(os.devnull, os.O_RDWR), _pipe(player))


@act
def close_everything(player: Player, payload: dict[str, Any], chance: random.Random) -> None:
    os.closerange(chance.choice([0, 3]), 1024)


@act
def close_output(player: Player, payload: dict[str, Any], chance: random.Random) -> None:
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 1)
    os.dup2(null, 2)
    os.close(null)


@act
def read_no_more(player: Player, payload: dict[str, Any], chance: random.Random) -> None:
    player.loop.call_soon_threadsafe(player.loop.remove_reader, _pipe(player))


# -- answers badly


@act
def raise_error(player: Player, payload: dict[str, Any], chance: random.Random) -> None:
    raise ValueError("a mistake of the handler")


@act
def recurse(player: Player, payload: dict[str, Any], chance: random.Random) -> None:
    recurse(player, payload, chance)


@act
async def cancel_itself(player: Player, payload: dict[str, Any], chance: random.Random) -> None:
    raise asyncio.CancelledError


@act
def wrong_answer(player: Player, payload: dict[str, Any], chance: random.Random) -> Any:
    return chance.choice(
        [42, {"success": True}, EventResponse(True, data=object()), EventResponse(True, data={1: {2, 3}})]
    )


@act
def huge_answer(player: Player, payload: dict[str, Any], chance: random.Random) -> EventResponse:
    return EventResponse(True, data=bytes(66 * 1024 * 1024))


@act
async def late_answer(player: Player, payload: dict[str, Any], chance: random.Random) -> None:
    """Run past the deadline and ignore the cancellation."""
    end = player.loop.time() + payload["patience"] + chance.uniform(0.1, 1.0)
    while (left := end - player.loop.time()) > 0:
        try:
            await asyncio.sleep(left)
        except asyncio.CancelledError:
            continue


@act
async def late_thread(player: Player, payload: dict[str, Any], chance: random.Random) -> None:
    """Run past the deadline in a thread, which nothing can cancel."""
    await player.loop.run_in_executor(None, time.sleep, payload["patience"] + chance.uniform(0.1, 1.0))


# -- leaves processes behind, or attacks the processes above it


@act
def stubborn(player: Player, payload: dict[str, Any], chance: random.Random) -> None:
    """Ignore requests to shut down, and SIGTERM."""
    player.stubborn = True


@act
def leave_grandchild(player: Player, payload: dict[str, Any], chance: random.Random) -> None:
    bare = chance.random() < 0.5
    if (middle := os.fork()) == 0:
        os.setsid()
        if os.fork() == 0:
            os.setsid()
            player.note("left", os.getpid(), tree.start_time(os.getpid()))
            if bare:  # neither its name nor its environment shows where it comes from
                os.execve("/bin/sleep", ["sleep", str(LIFE)], {})
            _live_on(False)
        os._exit(0)
    os.waitpid(middle, 0)


@act
def leave_children(player: Player, payload: dict[str, Any], chance: random.Random) -> None:
    """Leave children that hold the pipe and the output, then exit."""
    for _ in range(3):
        if os.fork() == 0:
            _live_on(True)
    os._exit(6)


@act
def start_child(player: Player, payload: dict[str, Any], chance: random.Random) -> None:
    player.kept.append(subprocess.Popen(["sleep", str(LIFE)], start_new_session=True))


@act
def stop_its_warden(player: Player, payload: dict[str, Any], chance: random.Random) -> None:
    os.kill(os.getppid(), signal.SIGSTOP)


@act
def kill_its_warden(player: Player, payload: dict[str, Any], chance: random.Random) -> None:
    os.kill(os.getppid(), signal.SIGKILL)
    threading.Event().wait()


# -- helpers


def _live_on(hiding: bool) -> None:
    """Stay for a while, in a forked child; in a session of its own to hide."""
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(LIFE)
    if hiding:
        os.setsid()
    while True:
        time.sleep(LIFE)


def _pipe(player: Player) -> int:
    return player.context._pipe._sock.fileno()


def _frame(message: Any) -> bytes:
    body = msgpack.packb(message)
    return struct.pack(">I", len(body)) + body


def _write_raw(player: Player, data: bytes) -> None:
    """Write to the socket directly, as a mod in another language could."""
    os.write(_pipe(player), data)
