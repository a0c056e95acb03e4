"""The whole life of a network, on fake workers, a virtual clock and a real journal: whatever is done, the laws hold.

``MODVISOR_LIFE_EXAMPLES`` says how many histories are tried, ``MODVISOR_LIFE_STEPS`` how long the
longest is; `make long` tries them for an hour.
"""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import tempfile
import time
from collections.abc import Callable, Coroutine
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from modvisor.supervisor.lifecycle.states import State
from modvisor.supervisor.process.process import Exit
from tests.supervisor.fake_workers import DEADLY, HARMLESS, STARTS
from tests.supervisor.virtual_time import VirtualTimeLoop
from tests.supervisor.whole_laws import WholeLaws, turns
from tests.supervisor.whole_world import BROKEN, LoopWriter, WholeWorld, in_loop, scratch

EXAMPLES = int(os.environ.get("MODVISOR_LIFE_EXAMPLES") or 8)
STEPS = int(os.environ.get("MODVISOR_LIFE_STEPS") or 20)
SECONDS = float(os.environ.get("MODVISOR_LIFE_SECONDS") or 0)

LIMITS = {
    "start_timeout": "3s", "hang_timeout": "2s", "drain_timeout": "1s", "shutdown_timeout": "0.5s", "term_timeout": "0.5s",
    "unload_timeout": "4s",
}  # fmt: skip

IDS = ("a", "b", "c", "d", "a@2")
MOD_IDS = st.sampled_from(IDS)
PAUSES = st.one_of(st.sampled_from([1e-6, 0.01, 0.1, 0.6, 2.5]), st.integers(0, 12))
LONG = st.sampled_from([3.0, 20.0, 60.0])
EXITS = {"killed": Exit(None, signal.SIGKILL), "exited": Exit(1, None), "ended cleanly": Exit(0, None)}

ENTRY = st.fixed_dictionaries(
    {
        "max_attempts": st.integers(1, 3),
        "durable": st.booleans(),
        "checkpoint_every": st.sampled_from([None, "1h"]),
        "probation": st.sampled_from([None, "2s", "60s"]),
        "reload": st.sampled_from(["side_by_side", "side_by_side", "stop_first"]),
        "limits": st.fixed_dictionaries(
            {"concurrency": st.sampled_from([1, 2, 4]), "queue": st.sampled_from([2, 10])}
        ).map(lambda limits: {**LIMITS, **limits}),
        "restart": st.fixed_dictionaries(
            {
                "policy": st.sampled_from([*["permanent"] * 6, "transient", "temporary"]),
                "max_restarts": st.sampled_from([0, 1, 3, 10]),
                "window": st.just("10s"),
                "first_delay": st.sampled_from([0, "0.1s"]),
                "max_delay": st.just("2s"),
                "probe_after": st.sampled_from([None, None, "1s"]),
            }
        ),
    }
)


def _with_trials(entry: dict[str, Any]) -> dict[str, Any]:
    """Change a mod so that it permits trial processes, and has restarts left."""
    limits, restart = {**entry["limits"], "concurrency": 4, "queue": 10}, {**entry["restart"], "max_restarts": 10}
    return {**entry, "limits": limits, "restart": restart, "checkpoint_every": None, "reload": "side_by_side"}


def path_of(mod_id: str) -> str:
    return f"pkg.{mod_id.partition('@')[0]}"


class WholeLife(RuleBasedStateMachine):
    """What may happen to a network, to its mods, and to the events that are sent through it."""

    histories: ClassVar[int] = 0
    steps: ClassVar[int] = 0

    def __init__(self) -> None:
        super().__init__()
        WholeLife.histories += 1
        self.loop = VirtualTimeLoop()
        self.complaints: list[str] = []
        self.loop.set_exception_handler(lambda _loop, context: self.complaints.append(str(context)))
        self.folder = tempfile.TemporaryDirectory(dir=scratch(), prefix="life-")
        self.patched = in_loop()
        self.patched.__enter__()
        LoopWriter.lag, LoopWriter.is_full = 0.0, False
        self.entries: dict[str, dict[str, Any]] = {}
        self.world: WholeWorld
        self.laws: WholeLaws

    def run(self, what: Coroutine[Any, Any, Any]) -> Any:
        """Wait for something, in virtual time; what takes longer than ten minutes of it never ends."""
        WholeLife.steps += 1
        return self.loop.run_until_complete(asyncio.wait_for(what, 600))

    def do(self, thing: Callable[[], Any], pause: float) -> None:
        """Do something; then the world goes on for ``pause`` turns of the loop (an int), or seconds."""

        async def do_it() -> None:
            thing()
            await (turns(pause) if isinstance(pause, int) else asyncio.sleep(pause))

        self.run(do_it())

    def command(self, command: Coroutine[Any, Any, Any], pause: float) -> None:
        self.do(lambda: self.world.command(command), pause)

    @property
    def network(self) -> Any:
        return self.world.network

    def entry(self, mod_id: str, **more: Any) -> dict[str, Any]:
        return {"path": path_of(mod_id), "id": mod_id, **self.entries[mod_id], **more}

    @initialize(
        entries=st.fixed_dictionaries(dict.fromkeys(IDS, ENTRY)),
        workers=st.sampled_from([None, None, None, 2]),
        resumable=st.booleans(),
        side_by_side=st.booleans(),
    )
    def begin(self, entries: dict[str, Any], workers: int | None, resumable: bool, side_by_side: bool) -> None:
        self.entries = entries
        if side_by_side:
            entries.update({mod_id: _with_trials(entry) for mod_id, entry in entries.items()})
        for mod_id in ("b", "d"):
            entries[mod_id] = {**entries[mod_id], "workers": workers}

        async def make() -> None:
            self.world = WholeWorld(Path(self.folder.name), [self.entry("a"), self.entry("b")])
            self.world.editions = dict.fromkeys(map(path_of, IDS), 1)
            self.world.conduct.resumable, self.world.conduct.side_by_side = resumable, side_by_side
            self.laws = WholeLaws(self.world)
            await self.world.start()

        self.run(make())

    # -- events

    @rule(
        to=MOD_IDS,
        do=st.sampled_from([*HARMLESS, *HARMLESS, *DEADLY]),
        count=st.integers(1, 4),
        everybody=st.sampled_from([False, False, True]),
        timeout=st.sampled_from([None, 0.2, 1.5]),
        pause=PAUSES,
    )
    def send(self, to: str, do: str, count: int, everybody: bool, timeout: float | None, pause: float) -> None:
        destination = "agent:broadcast" if everybody else f"mod:{to}"
        self.do(lambda: [self.world.send(destination, do, timeout=timeout) for _ in range(count)], pause)

    @rule(to=MOD_IDS, do=st.sampled_from(["poison", "poison later", "spin", "nest poison"]), pause=PAUSES)
    def send_a_deadly_one_among_others(self, to: str, do: str, pause: float) -> None:
        destination = f"mod:{to}"
        self.do(lambda: [self.world.send(destination, each) for each in ("slow", do, "slow", "answer")], pause)

    @precondition(lambda self: any(not sent.task.done() for sent in self.world.sent))
    @rule(index=st.integers(0, 20), pause=PAUSES)
    def sender_gives_up(self, index: int, pause: float) -> None:
        waiting = [sent for sent in self.world.sent if not sent.task.done()]
        self.do(waiting[index % len(waiting)].task.cancel, pause)

    # -- workers

    @rule(of=MOD_IDS, how=st.sampled_from(sorted(EXITS)), pause=PAUSES)
    def end_worker(self, of: str, how: str, pause: float) -> None:
        if (worker := self.world.worker_of(of)) is not None:
            self.do(partial(worker.die, EXITS[how]), pause)

    @precondition(lambda self: self.world.launcher.living)
    @rule(how=st.sampled_from(sorted(EXITS)), pause=PAUSES)
    def end_the_newest(self, how: str, pause: float) -> None:
        self.do(partial(self.world.launcher.living[-1].die, EXITS[how]), pause)

    @rule(of=MOD_IDS, what=st.sampled_from(["hang", "wake", "close_pipe", "send_garbage"]), pause=PAUSES)
    def break_worker(self, of: str, what: str, pause: float) -> None:
        if (worker := self.world.worker_of(of)) is not None:
            self.do(getattr(worker, what), pause)

    @rule(starts=st.lists(st.sampled_from(STARTS), min_size=1, max_size=3))
    def next_starts(self, starts: list[str]) -> None:
        self.world.conduct.starts.extend(starts)

    @rule(
        hand_over=st.sampled_from(["answers", "answers", "refuses", "hangs", "dies"]),
        shutdown=st.sampled_from(["ends", "ends", "hangs", "dies", "fails"]),
        heeds_sigterm=st.booleans(),
        exit_lag=st.sampled_from([0.0, 0.0, 0.01, 0.7]),
    )
    def behave(self, **conduct: Any) -> None:
        for name, value in conduct.items():
            setattr(self.world.conduct, name, value)

    @rule(of=MOD_IDS, broken=st.sampled_from([False, False, True]))
    def edit(self, of: str, broken: bool) -> None:
        """Save the files of a mod, which may not be whole."""
        editions, path = self.world.editions, path_of(of)
        editions[path] = BROKEN if broken else max(2, editions[path] + 1)

    # -- commands

    @rule(mod_id=MOD_IDS, pause=PAUSES)
    def load(self, mod_id: str, pause: float) -> None:
        more = {key: value for key, value in self.entries[mod_id].items() if key != "id"}
        self.command(self.network.load_mod(path_of(mod_id), mod_id=mod_id, **more), pause)

    @rule(mod_id=MOD_IDS, pause=PAUSES)
    def unload(self, mod_id: str, pause: float) -> None:
        if (mod := self.network._parts.mods.find(mod_id)) is not None:
            self.laws.gone.add(mod.mod_id)
        self.command(self.network.unload_mod(mod_id), pause)

    @rule(mod_id=MOD_IDS, what=st.sampled_from(["reload_mod", "restart_mod"]), pause=PAUSES)
    def renew(self, mod_id: str, what: str, pause: float) -> None:
        self.command(getattr(self.network, what)(mod_id), pause)

    @rule(old=MOD_IDS, new=MOD_IDS, alias=st.booleans(), pause=PAUSES)
    def swap(self, old: str, new: str, alias: bool, pause: float) -> None:
        more = {key: value for key, value in self.entries[new].items() if key != "id"}
        self.command(self.network.swap_mod(old, path_of(new), mod_id=new, alias=alias, **more), pause)

    @rule(
        mod_id=MOD_IDS,
        audience=st.sampled_from([{"percent": 30}, {"agents": ["alice"]}, {"everyone": True}]),
        pause=PAUSES,
    )
    def set_audience(self, mod_id: str, audience: dict[str, Any], pause: float) -> None:
        self.command(self.network.set_audience(mod_id, **audience), pause)

    @rule(mod_id=MOD_IDS, what=st.sampled_from(["promote_mod", "rollback_mod"]), pause=PAUSES)
    def change_version(self, mod_id: str, what: str, pause: float) -> None:
        self.command(getattr(self.network, what)(mod_id), pause)

    @rule(
        ids=st.sampled_from([("a", "b"), ("a", "b"), ("b", "a"), ("b",), ("a", "b", "c"), ("d", "b"), ("a", "a@2")]),
        edited=st.booleans(),
    )
    def write_file(self, ids: tuple[str, ...], edited: bool) -> None:
        """Edit the network file. It counts at the next reconfigure, or start."""
        more = {"config": {"edition": self.world.runs}} if edited else {}
        self.world.file = [self.entry(mod_id, **(more if mod_id == "a" else {})) for mod_id in ids]

    @rule(pause=PAUSES)
    def reconfigure(self, pause: float) -> None:
        wanted = {entry["id"] for entry in self.world.file}
        self.laws.gone.update(mod.mod_id for mod in self.world.mods if mod.mod_id not in wanted)
        self.command(self.network.reconfigure(self.world.config()), pause)

    @precondition(lambda self: any(not command.done() for command in self.world.commands))
    @rule(pause=PAUSES)
    def operator_gives_up(self, pause: float) -> None:
        self.do(next(command for command in self.world.commands if not command.done()).cancel, pause)

    # -- the supervisor

    @rule(starts=st.lists(st.sampled_from(STARTS), max_size=2))
    def kill(self, starts: list[str]) -> None:
        """Kill the supervisor at this very moment, and start it again."""
        conduct = self.world.conduct

        async def kill() -> None:
            self._leave(self.world.on_disk().mods.keys())
            await self.world.kill()
            self.laws.owed |= self.world.on_disk().pending.keys()
            self.world.conduct = conduct
            conduct.starts.clear()
            conduct.starts.extend(starts)
            await self.world.start()

        commanded = any(not command.done() for command in self.world.commands)
        before = {} if commanded else self.laws.before_end()
        self.run(kill())
        self.laws.check_start(before)

    @rule(starts=st.lists(st.sampled_from(STARTS), max_size=2))
    def stop_and_start(self, starts: list[str]) -> None:
        async def again() -> None:
            self._leave(self.world.on_disk().mods.keys())
            await self.world.stop()
            self.world.conduct.starts.extend(starts)
            await self.world.start()

        commanded = any(not command.done() for command in self.world.commands)
        before = {} if commanded else self.laws.before_end()
        self.run(again())
        self.laws.check_start(before)

    def _leave(self, kept: Any) -> None:
        """Note which mods of the old file the new one does not name."""
        wanted = {entry["id"] for entry in self.world.file} | set(kept)
        self.laws.gone.update(mod.mod_id for mod in self.world.mods if mod.mod_id not in wanted)

    # -- the rest of the world

    @rule(lag=st.sampled_from([0.0, 0.0, 0.05, 1.0]), is_full=st.sampled_from([False, False, False, True]))
    def disk(self, lag: float, is_full: bool) -> None:
        LoopWriter.lag, LoopWriter.is_full = lag, is_full
        self.laws.disk_was_full |= is_full

    @rule(pause=st.one_of(PAUSES, LONG))
    def time_passes(self, pause: float) -> None:
        self.do(lambda: None, pause)

    # -- what must hold

    @invariant()
    def laws_hold(self) -> None:
        if hasattr(self, "laws"):
            self.laws.check()
            assert self.complaints == []

    def teardown(self) -> None:
        try:
            if hasattr(self, "laws") and self.world.runs_now:
                self._come_to_an_end()
        finally:
            self._clear_up()

    def _come_to_an_end(self) -> None:
        """All is well again: every mod comes to serve, also after a restart of the network, and nothing is left."""
        self._heal()
        self._come_to_rest(35.0)  # events have 30 seconds
        self.laws.check()
        self.laws.check_rest()
        self._serve_again()
        before = self.laws.before_end()
        self.run(self.world.stop())
        assert self.world.launcher.living == [], "a process outlived the network"
        self.run(self.world.start())
        self._come_to_rest()
        self.laws.check_start(before)
        self.laws.check_rest()
        self.run(self.world.stop())
        self.do(lambda: None, 1e-6)
        assert [task for task in asyncio.all_tasks(self.loop) if not task.done()] == []
        assert self.complaints == []

    def _come_to_rest(self, least: float = 5.0) -> None:
        """Let time pass while events are handled, commands run and mods come back, and some more."""
        self.do(lambda: None, least)
        for _ in range(60):
            busy = any(self.laws.is_busy(keeper) for mod in self.world.mods for keeper in mod.keepers)
            if not busy and all(command.done() for command in self.world.commands):
                return
            self.do(lambda: None, 10.0)

    def _heal(self) -> None:
        conduct = self.world.conduct
        conduct.starts.clear()
        conduct.hand_over, conduct.shutdown, conduct.exit_lag, conduct.heeds_sigterm = "answers", "ends", 0.0, True
        LoopWriter.lag, LoopWriter.is_full = 0.0, False
        for path, edition in self.world.editions.items():
            self.world.editions[path] = max(edition, 1)

    def _serve_again(self) -> None:
        """Each mod serves, or does when it is asked to."""
        for mod in self.world.mods:
            # Deadly events that were kept are tried again, at most three times alone, and twice together.
            for _ in range(3 + 3 * len(self.world.sent)):
                if mod.state is State.READY:
                    break
                answer = self.run(self.network.restart_mod(mod.mod_id))
                assert answer.success, answer
                self._come_to_rest()
            assert mod.state is State.READY, f"{mod.mod_id} is {mod.state}: {mod.last_error}"
        self.laws.check_rest()

    def _clear_up(self) -> None:
        """Whatever is left of a life that ended badly must not be heard of in the next."""
        try:
            for _ in range(2):
                for task in asyncio.all_tasks(self.loop):
                    task.cancel()
                self.run(asyncio.sleep(3.0))
            if hasattr(self, "world"):
                for worker in self.world.launcher.workers:
                    worker.pipe.close()
                    worker.let_go()
        finally:
            self.patched.__exit__(None, None, None)
            self.loop.close()
            self.folder.cleanup()


def tried(examples: int, **more: Any) -> None:
    run_state_machine_as_test(
        WholeLife,
        settings=settings(
            max_examples=examples,
            stateful_step_count=STEPS,
            suppress_health_check=list(HealthCheck),
            deadline=None,
            **more,
        ),
    )
    gc.collect()


def test_whatever_is_done_the_laws_of_a_whole_network_hold(tell: Callable[[str], None]) -> None:
    tried(EXAMPLES, phases=(Phase.reuse, Phase.generate, Phase.shrink))
    tell(f"whole life: {WholeLife.histories} histories, {WholeLife.steps} steps")


@pytest.mark.slow
@pytest.mark.timeout(0)
@pytest.mark.skipif(not SECONDS, reason="tried for as long as MODVISOR_LIFE_SECONDS says; see 'make long'")
def test_whatever_is_done_for_long(tell: Callable[[str], None]) -> None:
    began = time.monotonic()
    while time.monotonic() - began < SECONDS:
        tried(200, phases=(Phase.generate, Phase.shrink), database=None)
        print(
            f"{WholeLife.histories} histories, {WholeLife.steps} steps in {time.monotonic() - began:.0f} s", flush=True
        )
    tell(f"whole life: {WholeLife.histories} histories, {WholeLife.steps} steps")
