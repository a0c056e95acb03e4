"""A keeper with all that is around it, on fake workers and a virtual clock: whatever happens, in whatever order, the laws hold.

``MODVISOR_STATEFUL_EXAMPLES`` says how many lives are tried, ``MODVISOR_STATEFUL_STEPS`` how long the longest is.
"""

from __future__ import annotations

import asyncio
import gc
import os
import signal
from collections.abc import Callable, Coroutine
from functools import partial
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, settings
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
from modvisor.supervisor.runtime import named_loop
from tests.supervisor.fake_workers import DEADLY, HARMLESS, STARTS
from tests.supervisor.laws import Laws
from tests.supervisor.virtual_time import VirtualTimeLoop
from tests.supervisor.world import MOD, World

EXAMPLES = int(os.environ.get("MODVISOR_STATEFUL_EXAMPLES") or 30)
STEPS = int(os.environ.get("MODVISOR_STATEFUL_STEPS") or 30)

LIMITS = {
    "start_timeout": "3s", "hang_timeout": "2s", "drain_timeout": "1s", "shutdown_timeout": "0.5s", "term_timeout": "0.5s",
    "unload_timeout": "4s",
}  # fmt: skip

# How far the world goes on after something was done: some turns of the loop, or some seconds.
TURNS = st.integers(0, 12)
MOMENTS = st.sampled_from([1e-6, 0.01, 0.1, 0.3, 0.6, 1.0, 2.5])
PAUSES = st.one_of(MOMENTS, TURNS)
LONG = st.sampled_from([3.0, 7.0, 20.0, 60.0])

MODS = st.fixed_dictionaries(
    {
        "max_attempts": st.integers(1, 3),
        "durable": st.sampled_from([False, False, True]),
        "delivery": st.sampled_from(["at_least_once", "at_least_once", "at_least_once", "at_most_once"]),
        "checkpoint_every": st.sampled_from([None, "1h"]),
        "limits": st.fixed_dictionaries(
            {
                "concurrency": st.sampled_from([1, 1, 2, 4]),
                "queue": st.sampled_from([0, 2, 10, 10]),
                "event_timeout": st.sampled_from([None, "1s"]),
            }
        ),
        "restart": st.fixed_dictionaries(
            {
                "policy": st.sampled_from([*["permanent"] * 6, "transient", "temporary"]),
                "max_restarts": st.sampled_from([0, 1, 3, 10, 30]),
                "window": st.sampled_from(["1s", "10s", "60s"]),
                "first_delay": st.sampled_from([0, "0.1s", "0.5s"]),
                "max_delay": st.just("2s"),
                "healthy_after": st.sampled_from(["0.5s", "5s", "60s"]),
                "probe_after": st.sampled_from([None, None, "1s"]),
            }
        ),
    }
)
HAPPENINGS = {
    "killed": Exit(None, signal.SIGKILL),
    "crashed": Exit(None, signal.SIGSEGV),
    "exited": Exit(1, None),
    "ended cleanly": Exit(0, None),
}


class Life(RuleBasedStateMachine):
    """What may happen to a mod and to the events that are sent to it."""

    folder: Path

    def __init__(self) -> None:
        super().__init__()
        self.loop = VirtualTimeLoop()
        self.complaints: list[str] = []
        self.loop.set_exception_handler(lambda _loop, context: self.complaints.append(str(context)))
        self.world: World

    def run(self, what: Coroutine[Any, Any, Any]) -> Any:
        with named_loop():
            return self.loop.run_until_complete(what)

    def do(self, thing: Callable[[], Any], pause: float) -> None:
        """Do something; then the world goes on for ``pause`` turns of the loop (an int), or seconds."""

        async def do_it() -> None:
            thing()
            await asyncio.sleep(0)
            self.laws.watch_crashes()  # a load has made its keeper by now
            await (_turns(pause) if isinstance(pause, int) else asyncio.sleep(pause))

        self.run(do_it())

    def go_on(self, pause: float) -> None:
        self.do(lambda: None, pause)

    @initialize(
        mod=MODS,
        starts=st.lists(st.sampled_from(STARTS), max_size=1),
        observes=st.booleans(),
        side_by_side=st.booleans(),
        in_quarantine=st.sampled_from([*[False] * 9, True]),
    )
    def begin(
        self, mod: dict[str, Any], starts: list[str], observes: bool, side_by_side: bool, in_quarantine: bool
    ) -> None:
        async def make() -> None:
            self.world = World(self.folder, **{**mod, "limits": {**LIMITS, **mod["limits"]}})
            self.world.conduct.observes, self.world.conduct.side_by_side = observes, side_by_side
            self.world.conduct.starts.extend(starts)
            self.laws = Laws(self.world)
            opening = asyncio.ensure_future(self.world.open(in_quarantine=in_quarantine))
            while self.world.keeper is None:
                await asyncio.sleep(0)
            self.laws.watch_crashes()
            await opening

        self.run(make())

    # -- events

    @rule(
        do=st.sampled_from([*HARMLESS, *HARMLESS, *DEADLY]),
        count=st.integers(1, 4),
        source=st.sampled_from(["agent:a", "agent:b"]),
        timeout=st.sampled_from([None, 0.2, 1.5, 10.0]),
        pause=PAUSES,
    )
    def send(self, do: str, count: int, source: str, timeout: float | None, pause: float) -> None:
        self.do(lambda: [self.world.send(do, source=source, timeout=timeout) for _ in range(count)], pause)

    @rule(bad=st.sampled_from(DEADLY), count=st.integers(1, 4), pause=PAUSES)
    def send_a_bad_one_among_good_ones(self, bad: str, count: int, pause: float) -> None:
        self.do(lambda: [self.world.send(bad if n == count // 2 else "slow") for n in range(count + 1)], pause)

    @precondition(lambda self: any(not sent.task.done() for sent in self.world.sent))
    @rule(index=st.integers(0, 20), pause=PAUSES)
    def sender_gives_up(self, index: int, pause: float) -> None:
        waiting = [sent for sent in self.world.sent if not sent.task.done()]
        self.do(waiting[index % len(waiting)].task.cancel, pause)

    # -- workers

    @precondition(lambda self: self.world.worker is not None)
    @rule(how=st.sampled_from(sorted(HAPPENINGS)), pause=PAUSES)
    def end_worker(self, how: str, pause: float) -> None:
        self.do(partial(self.world.worker.die, HAPPENINGS[how]), pause)

    @precondition(lambda self: self.world.launcher.living)
    @rule(how=st.sampled_from(sorted(HAPPENINGS)), pause=PAUSES)
    def end_the_newest(self, how: str, pause: float) -> None:
        self.do(partial(self.world.launcher.living[-1].die, HAPPENINGS[how]), pause)

    @precondition(lambda self: self.world.worker is not None)
    @rule(what=st.sampled_from(["hang", "wake", "close_pipe", "send_garbage"]), pause=PAUSES)
    def break_worker(self, what: str, pause: float) -> None:
        self.do(getattr(self.world.worker, what), pause)

    @precondition(lambda self: self.world.launcher.living)
    @rule(what=st.sampled_from(["memory", "memory_soft", "threads"]), newest=st.booleans(), pause=PAUSES)
    def exceed(self, what: str, newest: bool, pause: float) -> None:
        worker = self.world.launcher.living[-1] if newest or self.world.worker is None else self.world.worker
        self.do(lambda: self.world.exceed(worker, what, hard=what != "memory_soft"), pause)

    @rule(starts=st.lists(st.sampled_from(STARTS), min_size=1, max_size=3))
    def next_starts(self, starts: list[str]) -> None:
        self.world.conduct.starts.extend(starts)

    @rule(
        hand_over=st.sampled_from(["answers", "answers", "refuses", "hangs", "dies"]),
        shutdown=st.sampled_from(["ends", "ends", "hangs", "dies", "fails"]),
        heeds_sigterm=st.booleans(),
        heeds_cancel=st.booleans(),
        exit_lag=st.sampled_from([0.0, 0.0, 0.01, 0.7, 1.5]),
        holds_pipe=st.booleans(),
    )
    def behave(self, **conduct: Any) -> None:
        for name, value in conduct.items():
            setattr(self.world.conduct, name, value)

    # -- commands

    @precondition(lambda self: self.world.keeper is not None)
    @rule(
        what=st.sampled_from(["reload", "reload", "restart", "restart", "unload"]),
        count=st.sampled_from([1, 1, 1, 2]),
        pause=PAUSES,
    )
    def command(self, what: str, count: int, pause: float) -> None:
        """Commands on one mod wait for each other; an unload cancels what is under way."""
        command = getattr(self.world.ask, what)
        self.do(lambda: [self.world.command(command(MOD)) for _ in range(count)], pause)

    @precondition(lambda self: self.world.keeper is None)
    @rule(pause=PAUSES)
    def load(self, pause: float) -> None:
        self.do(lambda: self.world.command(self.world.ask.load(self.world.mod)), pause)

    @precondition(lambda self: any(not command.done() for command in self.world.commands))
    @rule(pause=PAUSES)
    def operator_gives_up(self, pause: float) -> None:
        self.do(next(command for command in self.world.commands if not command.done()).cancel, pause)

    # -- the rest of the world

    @rule(lag=st.sampled_from([0.0, 0.0, 0.05, 1.0]), is_full=st.sampled_from([False, False, False, True]))
    def disk(self, lag: float, is_full: bool) -> None:
        self.world.journal.lag, self.world.journal.is_full = lag, is_full

    @rule(pause=st.one_of(PAUSES, LONG))
    def time_passes(self, pause: float) -> None:
        self.go_on(pause)

    # -- what must hold

    @invariant()
    def laws_hold(self) -> None:
        if hasattr(self, "laws"):
            self.laws.check()
            assert self.complaints == []

    def teardown(self) -> None:
        try:
            if hasattr(self, "laws"):
                self._come_to_an_end()
        finally:
            self._clear_up()

    def _come_to_an_end(self) -> None:
        """All is well again: the mod comes to serve, and everybody gets an answer; then it is unloaded, and nothing is left."""
        self._heal()
        self.go_on(60.0)
        for command in self.world.commands:
            assert command.done(), command
        self.laws.check()
        self.laws.check_rest()
        self._serve_again()
        self.laws.check()
        if self.world.mod.durable:
            assert self.world.journal.accepted == {}, "an accepted event was forgotten"
        self.run(self.world.ask.unload(MOD))
        self.world.dismiss_the_network()
        self.go_on(1e-6)
        self.laws.check_end()
        assert self.complaints == []

    def _heal(self) -> None:
        conduct, journal = self.world.conduct, self.world.journal
        conduct.starts.clear()
        conduct.hand_over, conduct.shutdown, conduct.exit_lag = "answers", "ends", 0.0
        conduct.heeds_sigterm = conduct.heeds_cancel = True
        journal.lag, journal.is_full = 0.0, False
        for worker in self.world.launcher.workers:
            worker.let_go()

    def _serve_again(self) -> None:
        """It serves, or does when it is asked to."""
        if self.world.keeper is None:
            self.load(60.0)
            assert self.world.commands[-1].result().success
        for _ in range(
            1 + 3 * len(self.world.sent)
        ):  # deadly events that were kept are tried again, each time it is back
            if self.world.keeper.state is State.READY:
                break
            answer = self.run(self.world.ask.restart(MOD))
            assert answer.success, answer
            self.go_on(60.0)
        self.do(self.world.send, 1e-6)
        sent = self.world.sent[-1]
        assert sent.answer is not None, "it does not answer"
        assert sent.answer.success, sent.answer
        self.laws.check_rest()

    def _clear_up(self) -> None:
        """Whatever is left of a life that ended badly must not be heard of in the next."""
        if hasattr(self, "world"):
            for task in asyncio.all_tasks(self.loop):
                task.cancel()
            self.run(asyncio.sleep(0.1))
            for worker in self.world.launcher.workers:
                worker.pipe.close()
                worker.let_go()
            for task in asyncio.all_tasks(self.loop):
                task.cancel()
            self.run(asyncio.sleep(3.0))
        self.loop.close()


async def _turns(count: int) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


def test_whatever_happens_the_laws_hold(tmp_path: Path) -> None:
    class Here(Life):
        folder = tmp_path

    run_state_machine_as_test(
        Here,
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=STEPS,
            suppress_health_check=list(HealthCheck),
        ),
    )
    gc.collect()
