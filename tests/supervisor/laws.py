"""Laws that hold for a mod whatever happens, seen from its workers, its senders and the journal.

`Laws` notes what each of them sees as it happens. `check` checks what must hold at any moment,
`check_end` what must hold after the end of everything.
"""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from dataclasses import dataclass, field

from modvisor.ipc.errors import Code
from modvisor.supervisor.calls.admission import Queue
from modvisor.supervisor.config.mods.mod import RestartConfig
from modvisor.supervisor.lifecycle.keeper import Keeper
from modvisor.supervisor.lifecycle.states import State
from modvisor.supervisor.process.crashes import Cause, CrashLog, CrashReport
from tests.supervisor.fake_workers import DEADLY, FakeWorker, Handling
from tests.supervisor.world import Sent, World

GRACE = 8.0
"""Seconds past its deadline in which an event that its mod died of is still being buried."""


@dataclass(frozen=True)
class Start:
    """A handler was called."""

    at: float
    worker: FakeWorker
    n: int
    attempt: int
    nested: bool


@dataclass
class NaivePolicy:
    """When to give up, as the manual says: too many ends within the window, or in a row."""

    config: RestartConfig
    ends: list[float] = field(default_factory=list)
    in_a_row: int = 0

    def gives_up(self, at: float, served: float, *, clean: bool, alone: bool) -> bool | None:
        """Return whether the mod is given up; None: it has ended for good, which is no failure."""
        if self.config.policy == "temporary" or (self.config.policy == "transient" and clean):
            return None
        if served >= self.config.healthy_after:
            self.in_a_row = 0
        if alone:
            return False
        self.in_a_row += 1
        self.ends.append(at)
        within = [end for end in self.ends if end >= at - self.config.window]
        return max(len(within), self.in_a_row) > self.config.max_restarts

    def given_up(self) -> None:
        """Take note that the mod was given up: one more failure after a probe is enough."""
        self.ends, self.in_a_row = [], self.config.max_restarts


class WatchedCrashes(CrashLog):
    """The crash log of one keeper. It compares each decision with that of the naive policy."""

    def __init__(self, laws: Laws, keeper: Keeper) -> None:
        super().__init__()
        self._laws = laws
        self._keeper = keeper
        self._policy = keeper._policy  # while `_naive` is its double
        self._naive = NaivePolicy(keeper.config.restart)
        if keeper.quarantined is not None:  # since before the supervisor's own restart
            self._naive.given_up()

    def add(self, report: CrashReport) -> None:
        super().add(report)
        self._laws.reports.append(report)
        if self._policy is not self._keeper._policy:
            self._policy, self._naive = self._keeper._policy, NaivePolicy(self._keeper.config.restart)
        if report.incarnation != self._keeper._speaks_for:  # superseded: nothing is decided about it
            return
        if self._keeper.state is State.PROBING:  # the probe did not come to serve
            self._naive.given_up()
            return
        if (probation := self._keeper.probation) is not None and probation.can_revert:
            return  # the former version comes back, whatever the policy would say
        worker = self._laws.worker_of(report.pid)
        now = asyncio.get_running_loop().time()
        served = now - worker.active_since if worker is not None and worker.active_since is not None else 0.0
        clean = report.cause is Cause.EXITED and report.detail == "exit code 0"
        starved = "no process is left" in report.detail  # the machine is to blame
        gives_up = self._naive.gives_up(now, served, clean=clean, alone=report.alone or starved)
        if gives_up:
            self._naive.given_up()
        expected = {None: State.STOPPED, True: State.QUARANTINED, False: State.BACKOFF}[gives_up]
        told = f"{report.cause} {report.detail}"
        asyncio.get_running_loop().call_soon(self._compare, expected, self._keeper.lock.statistics().locked, told)

    def _compare(self, expected: State, commanded: bool, told: str) -> None:
        if not commanded and not self._keeper.lock.statistics().locked and self._keeper.state is not expected:
            self._laws.broken(f"after {told} the mod is {self._keeper.state}, by the naive policy {expected}")


class Laws:
    """Watches a `World` from its beginning."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.violations: list[str] = []
        self.starts: dict[str, list[Start]] = defaultdict(list)  # by event id
        self.reports: list[CrashReport] = []
        self._newest: dict[tuple[int, str], int] = {}  # by source: the newest event whose first attempt began
        self._fallen: dict[str, list[FakeWorker]] = defaultdict(
            list
        )  # by event id: workers that ended while they handled it
        self._unasked: dict[FakeWorker, Keeper] = {}  # ends that are to be reported
        launcher = world.launcher
        launcher.on_event, launcher.on_signal = self._event, self._signal
        launcher.on_death, launcher.on_exit = self._death, self._exit

    def broken(self, law: str) -> None:
        self.violations.append(f"{self.world.loop.time()}: {law}")

    def watch_crashes(self) -> None:
        """Watch the crash log of a keeper that has just been made."""
        keeper = self.world.keeper
        if keeper is not None and not isinstance(keeper.crashes, WatchedCrashes):
            keeper.crashes = WatchedCrashes(self, keeper)
            self._newest.clear()

    def worker_of(self, pid: int | None) -> FakeWorker | None:
        return next((worker for worker in self.world.launcher.workers if worker.pid == pid), None)

    # -- as it happens

    def _event(self, worker: FakeWorker, handling: Handling) -> None:
        event, world = handling.event, self.world
        n, mod = event["payload"]["n"], world.mod
        for other in world.launcher.living:
            if other is not worker and any(each.id == handling.id for each in other.handling.values()):
                self.broken(f"event {n} is handled by {worker.pid} and {other.pid} at once")
        former = self.starts[handling.id]
        if not handling.nested:
            if former and handling.attempt <= former[-1].attempt and not mod.durable:
                self.broken(f"event {n}: attempt {handling.attempt} after {former[-1].attempt}")
            if handling.attempt > 1 and mod.delivery != "at_least_once":
                self.broken(f"event {n}: attempt {handling.attempt}")
            if handling.attempt == 1:
                self._in_order(worker, event["source_id"], n)
            self._not_too_many(worker, handling)
        former.append(Start(world.loop.time(), worker, n, handling.attempt, handling.nested))

    def _in_order(self, worker: FakeWorker, source: str, n: int) -> None:
        """Check that events of a source begin in order; kept events come again to another worker."""
        key = (worker.pid if self.world.mod.durable else 0, source)
        if n < self._newest.get(key, -1):
            self.broken(f"event {n} of {source} began after event {self._newest[key]}")
        self._newest[key] = n

    def _not_too_many(self, worker: FakeWorker, handling: Handling) -> None:
        if not worker.conduct.heeds_cancel:
            return
        at_once = [each for each in worker.handling.values() if not each.nested]
        if len(at_once) > self.world.mod.limits.concurrency:
            self.broken(f"{len(at_once)} events at once")
        keeper = self.world.keeper
        suspects = keeper.caller._trial
        if keeper.beside.incarnation is not None and keeper.beside.incarnation.pid == worker.pid:
            suspects = keeper.caller.beside.trial
            if not suspects:
                self.broken(f"event {handling.event['payload']['n']} is no suspect, and handled beside")
        trial = {journey.event.event_id for journey in suspects}
        if trial and not trial >= {each.id for each in at_once}:
            self.broken(f"event {handling.event['payload']['n']}: suspects {trial} are not alone: {at_once}")

    def _death(self, worker: FakeWorker) -> None:
        for handling in worker.handling.values():
            self._fallen[handling.id].append(worker)

    def _exit(self, worker: FakeWorker) -> None:
        keeper = self.world.keeper
        if keeper is not None and keeper.incarnation is not None and keeper.incarnation.pid == worker.pid:
            self._unasked[worker] = keeper

    def _signal(self, worker: FakeWorker, signum: int) -> None:
        keeper = self.world.keeper
        if keeper is None or keeper.incarnation is None or keeper.incarnation.pid != worker.pid:
            return
        asked = keeper.lock.statistics().locked or keeper.state is State.DRAINING
        if not asked and not worker.faults:
            self.broken(f"{worker.pid}, which has done nothing, is sent signal {signum}")

    # -- at any moment

    def check(self) -> None:
        if self.world.failed is not None:
            raise self.world.failed
        for sent in self.world.sent:
            self._check_sent(sent)
        if (keeper := self.world.keeper) is not None:
            self._check_keeper(keeper)
        self._check_reports()
        assert not self.violations, self.violations

    def _check_sent(self, sent: Sent) -> None:
        world, n = self.world, sent.n
        if not sent.task.done():
            assert world.loop.time() <= sent.deadline + GRACE, f"event {n} was due at {sent.deadline} and has no answer"
            return
        answer = sent.answer
        if answer is None:
            return
        assert answer.success or answer.error in set(Code), f"event {n}: {answer}"
        if answer.success and sent.do != "pass":
            assert answer.data[0] == n, f"event {n}: {answer}"
        if answer.error == Code.OVERLOADED and not world.mod.durable:
            assert answer.data["waiting"] == world.mod.limits.queue, f"event {n}: {answer}"
        buried = world.journal.buried[sent.event.event_id]
        if answer.error == Code.DEAD_LETTERED:
            assert buried == 1, f"event {n} has {buried} dead letters"
            self._check_buried(sent)
        elif answer.error != Code.PENDING:
            assert buried == 0, f"event {n} was buried and answered: {answer}"

    def _check_buried(self, sent: Sent) -> None:
        """Check that a harmless event, alone in its last try, is buried only for an end from outside."""
        mod = self.world.mod
        fallen = self._fallen[sent.event.event_id]
        if (
            mod.max_attempts > 1
            and sent.do not in DEADLY
            and fallen
            and fallen[-1].ended_by not in ("outside", "the supervisor")
        ):
            raise AssertionError(f"event {sent.n} is buried for what {fallen[-1].ended_by} did")

    def _check_keeper(self, keeper: Keeper) -> None:
        caller, limits = keeper.caller, self.world.mod.limits
        waiting = sum(not place.done() for place in caller._queues[Queue.WAITING])
        assert self.world.mod.durable or waiting <= limits.queue, f"{waiting} events wait"
        assert caller._waiting_bytes >= 0
        assert caller._admitted >= 0
        assert caller._granted >= 0
        if keeper.state is State.ENDING and (worker := self.world.worker) is not None:
            self._unasked[worker] = keeper
        in_flight = caller._in_flight
        if in_flight is not None:
            assert keeper.incarnation is not None, f"a mod that is {keeper.state} is fed events"
            assert in_flight is keeper.incarnation.in_flight
            assert keeper.state is State.READY, f"a mod that is {keeper.state} is fed events"

    def _check_reports(self) -> None:
        pids = Counter(report.pid for report in self.reports if report.pid is not None)
        assert all(count == 1 for count in pids.values()), f"reported twice: {pids}"
        for report in self.reports:
            suspects = [event for event in report.in_flight if event["attempt"] > 1]
            assert suspects or not report.alone, report
            if (worker := self.worker_of(report.pid)) is not None:
                assert worker.ended_at is not None, f"{worker.pid} is reported and has not ended"

    # -- when nothing happens any more

    def check_rest(self) -> None:
        """The mod serves or says why not, and nobody waits in vain."""
        keeper = self.world.keeper
        reported = {report.pid for report in self.reports}
        for worker, owner in self._unasked.items():
            assert owner is not keeper or worker.pid in reported, f"the end of {worker.pid} is not reported"
        if keeper is None:
            return
        resting = (State.READY, State.FAILED, State.QUARANTINED, State.STOPPED)
        assert keeper.state in resting, f"the mod is {keeper.state} for ever"
        assert keeper.beside.incarnation is None, "suspects are tried for ever"
        if keeper.state is State.READY:
            assert keeper.incarnation is not None
            assert keeper.caller._in_flight is keeper.incarnation.in_flight, "a mod that is ready is not fed events"
            assert not keeper.incarnation.in_flight.is_busy
        caller = keeper.caller
        books = (
            caller._admitted,
            caller._granted,
            len(caller._trial) + len(caller.beside.trial),
            caller.depth,
            caller._waiting_bytes,
            len(keeper.durable),
        )
        assert books == (0, 0, 0, 0, 0, 0), f"an event is lost in the books: {books}"

    def check_end(self) -> None:
        """Nothing is left of a mod that was unloaded."""
        world = self.world
        assert world.launcher.living == [], "a process outlived its mod"
        assert all(sent.task.done() for sent in world.sent)
        left = {task for task in asyncio.all_tasks(world.loop) if task is not world._owner}
        assert left == set(), left
        timers = [timer for timer in world.loop._scheduled if not timer.cancelled()]  # type: ignore[attr-defined]
        assert timers == [], timers
        for event_id, count in world.journal.buried.items():
            assert count == 1, f"{event_id} is buried {count} times"
        assert all(count == 1 for count in world.journal.answers.values()), world.journal.answers
