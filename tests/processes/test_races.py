"""Things that happen at the same time, or at the wrong moment: nothing is lost, nothing is left, nobody else notices."""

from __future__ import annotations

import asyncio
import os
import signal
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from modvisor.supervisor import AgentNetwork, Event
from tests.conftest import ECHO, until, worker_pids
from tests.pids import heard
from tests.processes.test_events import load, send

pytestmark = pytest.mark.anyio

WriteMod = Callable[..., str]

LEDGER = """
    from modvisor.mods import BaseMod, EventResponse, mod_event_handler

    class Ledger(BaseMod):
        def initialize(self):
            self.entries = []

        def get_state(self):
            return self.entries

        def set_state(self, state, from_version):
            self.entries = state

        @mod_event_handler("ledger.entry")
        async def enter(self, event):
            self.entries.append([event.source_id, event.payload["n"]])
            return EventResponse(True)

        @mod_event_handler("ledger.all")
        async def all(self, event):
            return EventResponse(True, data=self.entries)
"""


@pytest.mark.parametrize("concurrency", [1, 8, 64])
async def test_what_was_answered_is_in_the_state_that_is_handed_over(
    network: AgentNetwork, write_mod: WriteMod, concurrency: int
) -> None:
    """50 sources, reloads in between: no event lost, none twice, the order of each source kept."""
    await network.load_mod(write_mod("ledger", LEDGER), limits={"concurrency": concurrency})
    outcomes: Counter[str | None] = Counter()
    sent: dict[str, int] = {}
    going = True

    async def source(name: str) -> None:
        while going:
            sent[name] = n = sent.get(name, -1) + 1
            response = await network.process_event(Event("ledger.entry", name, payload={"n": n}))
            outcomes[response.error] += 1

    senders = [asyncio.create_task(source(f"agent:a{n}")) for n in range(50)]
    for _ in range(8):
        assert (await network.reload_mod("ledger")).success
    going = False
    await asyncio.gather(*senders)
    entries = (await send(network, "ledger.all")).data
    assert set(outcomes) == {None}
    for name, last in sent.items():
        assert [n for who, n in entries if who == name] == list(range(last + 1))


@pytest.mark.parametrize("command", ["unload", "reload"])
async def test_a_command_that_is_given_up_is_finished_all_the_same(
    network: AgentNetwork, write_mod: WriteMod, command: str
) -> None:
    slow = ECHO + """
        async def shutdown(self):
            import asyncio
            await asyncio.sleep(0.3)
    """  # fmt: skip
    loaded = await network.load_mod(write_mod("slow", slow), probation=None)
    former = psutil.Process(loaded.data["pid"])
    work = asyncio.ensure_future(network.unload_mod("slow") if command == "unload" else network.reload_mod("slow"))
    # Begun: it is being unloaded; the new one serves and the former is being ended.
    await until(lambda: network.get_loaded_mods()["slow"]["pid"] != former.pid)
    work.cancel()
    with pytest.raises(asyncio.CancelledError):
        await work
    await until(lambda: not former.is_running())
    assert len(worker_pids()) == len(network.get_loaded_mods())
    if command == "reload":
        answer = await network.process_event(Event("test.ping", "agent:alice", payload={"i": 1}, timeout=5))
        assert answer.success, answer


@pytest.mark.parametrize(
    "moment", [*range(0, 12, 3), *(pytest.param(n, marks=pytest.mark.slow) for n in range(12) if n % 3)]
)
async def test_a_reload_that_is_given_up_at_any_moment_leaves_one_that_serves(
    network: AgentNetwork, write_mod: WriteMod, moment: int
) -> None:
    await network.load_mod(write_mod("echo"), probation=None)
    task = asyncio.create_task(network.reload_mod("echo"))
    for _ in range(moment * moment * 4):  # turns of the loop: from before the start to after the switch
        await asyncio.sleep(0)
        if moment > 6 and network.get_network_stats()["mods"]["echo"]["traffic"]["in_flight"] == 0:
            await asyncio.sleep(0.001)
    task.cancel()
    await asyncio.wait([task])
    answer = await network.process_event(Event("test.ping", "agent:alice", payload={"i": 1}, timeout=5))
    assert answer.success, answer
    assert len(worker_pids()) == 1
    assert (await network.reload_mod("echo")).success


@pytest.mark.parametrize("end", ["unload", "shutdown"])
async def test_an_unload_in_the_last_step_of_a_load(
    make_network: Callable[..., AgentNetwork], write_mod: WriteMod, end: str
) -> None:
    network = make_network()
    await network.initialize()
    task = asyncio.create_task(network.load_mod(write_mod("echo")))
    await until(lambda: network.get_loaded_mods().get("echo", {}).get("state") == "ready")
    if end == "unload":
        assert (await network.unload_mod("echo")).success
    else:
        await network.shutdown()
    await task
    assert worker_pids() == set()
    assert network.get_loaded_mods() == {}


async def test_an_unload_while_the_mod_keeps_dying(network: AgentNetwork, write_mod: WriteMod) -> None:
    restart = {"max_restarts": 1000, "first_delay": 0.001, "max_delay": 0.002}
    path = write_mod("echo")
    for _ in range(6):
        assert (await network.load_mod(path, restart=restart)).success
        for _ in range(3):
            pid = network.get_loaded_mods()["echo"]["pid"]
            if pid is not None:
                with suppress(ProcessLookupError):  # the former kill was quicker
                    os.kill(pid, signal.SIGKILL)
            await asyncio.sleep(0)
        assert (await network.unload_mod("echo")).success
        assert worker_pids() == set()


async def test_two_shutdowns_and_a_start_between_them(make_network: Callable[..., AgentNetwork]) -> None:
    network = make_network()
    await network.initialize()

    async def again() -> None:
        await network.shutdown()
        await network.initialize()

    await asyncio.gather(again(), network.shutdown())
    assert network.is_running
    await network.shutdown()
    assert not network.is_running


async def test_a_crash_right_after_a_reload_runs_the_new_code(network: AgentNetwork, write_mod: WriteMod) -> None:
    slow_end = ECHO + """
        def shutdown(self):
            import time
            time.sleep(0.5)
    """  # fmt: skip
    await network.load_mod(write_mod("echo", slow_end), probation=None)
    write_mod("echo", slow_end.replace('"1.0"', '"2.0"'))
    former = network.get_loaded_mods()["echo"]["pid"]
    reload = asyncio.create_task(network.reload_mod("echo"))
    await until(lambda: network.get_loaded_mods()["echo"]["pid"] not in (former, None))
    os.kill(network.get_loaded_mods()["echo"]["pid"], signal.SIGKILL)
    assert (await reload).success
    await until(lambda: network.get_network_stats()["mods"]["echo"]["restarts"] == 1)
    answer = await network.process_event(Event("test.ping", "agent:alice", payload={"i": 1}))
    assert answer.data == {"pong": 1, "version": "2.0"}


async def test_what_a_worker_sends_cannot_end_the_network(network: AgentNetwork, write_mod: WriteMod) -> None:
    """Requests that no SDK would send, straight into the pipe of an honest worker."""
    await load(network, write_mod, "hostile", """
        @mod_event_handler("hostile.send")
        async def send(self, event):
            outcomes = []
            for method, params in [
                ("send_event", {"event": {"event_name": "test.ping", "payload": {"i": 1}}, "cause": []}),
                ("send_event", {"event": {"event_name": "test.ping"}, "cause": {"a": 1}}),
                ("send_event", {"event": 5}),
                ("send_event", None),
                ("query", {"what": ["agents"]}),
                ("query", {"what": "members", "channel": 5}),
                ("no_such_method", {}),
                ("send_event", {"event": {"event_name": "a.b", "payload": {"x": "\\ud800" * 0 + "ok"}}, "cause": [1, 2]}),
            ]:
                try:
                    answer = await self.context._pipe.request(method, params)
                    outcomes.append(answer["success"] if isinstance(answer, dict) else True)
                except Exception as error:
                    outcomes.append(error.code)
            return EventResponse(True, data=outcomes)

        @mod_event_handler("hostile.details")
        async def details(self, event):
            raise Refused("no", cls="x", self="y", code="custom_code")
    """)  # fmt: skip
    await network.load_mod(write_mod("echo"))
    outcomes = (await send(network, "hostile.send")).data
    assert outcomes[:2] == [True, True]
    assert set(outcomes[2:7]) <= {"invalid_event", "protocol_error"}
    refused = await send(network, "hostile.details")
    assert (refused.error, refused.data["cls"]) == ("custom_code", "x")
    assert (await send(network, "test.ping", i=1)).success


async def test_a_state_directory_that_cannot_be_written_fails_the_mod_alone(
    make_network: Callable[..., AgentNetwork], write_mod: WriteMod, tmp_path: Path
) -> None:
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "mods").write_text("in the way")
    network = make_network(mods=[write_mod("echo")])
    await network.initialize()
    assert network.get_loaded_mods()["echo"]["state"] == "failed"
    response = await network.load_mod("./echo", mod_id="second")
    assert (response.success, response.error) == (False, "start_failed")
    assert "second" in str(response.message)


@pytest.mark.slow
async def test_many_large_answers_at_once(network: AgentNetwork, write_mod: WriteMod) -> None:
    await load(network, write_mod, "large", """
        @mod_event_handler("large.get")
        async def get(self, event):
            return EventResponse(True, data=bytes(8_000_000))
    """)  # fmt: skip
    answers = await asyncio.gather(*(send(network, "large.get") for _ in range(40)))
    assert {(answer.error, len(answer.data)) for answer in answers} == {(None, 8_000_000)}


async def test_an_error_of_undecodable_text_is_answered_at_once(network: AgentNetwork, write_mod: WriteMod) -> None:
    await load(network, write_mod, "odd", """
        @mod_event_handler("odd.raise")
        async def fail(self, event):
            raise FileNotFoundError("caf\\udce9")

        @mod_event_handler("odd.refuse")
        async def refuse(self, event):
            raise Refused("caf\\udce9", field="caf\\udce9")
    """)  # fmt: skip
    raised = await send(network, "odd.raise")
    assert (raised.error, r"caf\udce9" in str(raised.message)) == ("handler_error", True)
    assert not (await send(network, "odd.refuse")).success
    broken = await network.load_mod(write_mod("broken", 'raise OSError("caf\\udce9")'), limits={"start_timeout": 5})
    assert (broken.error, r"caf\udce9" in str(broken.message)) == ("import_failed", True)


async def test_loops_through_background_tasks_and_observers_are_cut(network: AgentNetwork, write_mod: WriteMod) -> None:
    for name, other in (("ping", "pong"), ("pong", "ping")):
        await load(network, write_mod, name, f"""
            def initialize(self):
                self.count, self.tasks = 0, set()

            @mod_event_handler("loop.{name}")
            async def handle(self, event):
                self.count += 1
                task = asyncio.create_task(self.later())
                self.tasks.add(task)
                return EventResponse(True)

            async def later(self):
                await asyncio.sleep(0.001)
                await self.context.send_event(Event("loop.{other}"))

            @mod_event_handler("echo.*", observe=True)
            async def watch(self, event):
                self.count += 1
                await self.context.send_event(Event("echo.{name}"))

            @mod_event_handler("{name}.count")
            async def tell(self, event):
                return EventResponse(True, data=[self.count, all(task.done() for task in self.tasks)])
        """)  # fmt: skip

    async def settled() -> list[int]:
        former: list[Any] = []
        while True:
            counts = [(await send(network, f"{name}.count")).data for name in ("ping", "pong")]
            if counts == former and all(done for _, done in counts):
                return [count for count, _ in counts]
            former = counts
            await asyncio.sleep(0.1)

    async with asyncio.timeout(20):
        await send(network, "loop.ping")
        assert sum(await settled()) == 33, "the first event and 32 hops"
        await send(network, "echo.start")
        assert sum(await settled()) == 33 + 2 + 2 * 32, "both see the first, and each starts a chain"


async def test_what_an_event_caused_is_cancelled_with_it(network: AgentNetwork, write_mod: WriteMod) -> None:
    await load(network, write_mod, "outer", """
        @mod_event_handler("outer.go")
        async def go(self, event):
            return await self.context.send_event(Event("inner.go"))
    """)  # fmt: skip
    await load(network, write_mod, "inner", """
        cancelled = False

        @mod_event_handler("inner.go")
        async def go(self, event):
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                self.cancelled = True
                raise

        @mod_event_handler("inner.told")
        async def told(self, event):
            return EventResponse(True, data=self.cancelled)
    """)  # fmt: skip
    late = await network.process_event(Event("outer.go", "agent:alice", timeout=0.1))
    assert late.error == "timeout"
    async with asyncio.timeout(5):
        while not (await send(network, "inner.told")).data:
            pass


async def test_a_handler_that_is_cancelled_by_its_own_mod_is_not_called_a_timeout(
    network: AgentNetwork, write_mod: WriteMod
) -> None:
    await load(network, write_mod, "self", """
        @mod_event_handler("self.cancel")
        async def go(self, event):
            task = asyncio.create_task(asyncio.Event().wait())
            await asyncio.sleep(0)
            task.cancel()
            await task
    """)  # fmt: skip
    answer = await send(network, "self.cancel")
    assert (answer.error, "cancelled by the mod itself" in str(answer.message)) == ("handler_error", True)


async def test_events_that_expired_make_room_in_the_queue(network: AgentNetwork, write_mod: WriteMod) -> None:
    await load(network, write_mod, "slow", """
        @mod_event_handler("slow.go")
        async def go(self, event):
            if event.payload.get("hang"):
                await asyncio.Event().wait()
            return EventResponse(True)
    """, limits={"concurrency": 1, "queue": 5})  # fmt: skip
    hanging = asyncio.create_task(network.process_event(Event("slow.go", payload={"hang": True}, timeout=0.5)))
    await until(lambda: network.get_network_stats()["mods"]["slow"]["traffic"]["in_flight"] == 1)
    expired = await asyncio.gather(*(network.process_event(Event("slow.go", timeout=0.05)) for _ in range(5)))
    assert {answer.error for answer in expired} == {"timeout"}
    assert network.get_network_stats()["mods"]["slow"]["traffic"]["queue_depth"] == 0
    assert (await network.process_event(Event("slow.go", timeout=10))).success
    await hanging


async def test_a_reload_loses_no_observed_copy(network: AgentNetwork, write_mod: WriteMod) -> None:
    await load(network, write_mod, "watcher", """
        def initialize(self):
            self.seen = []

        def get_state(self):
            return self.seen

        def set_state(self, state, from_version):
            self.seen = state

        @mod_event_handler("news.*", observe=True)
        async def watch(self, event):
            self.seen.append(event.payload["n"])
            await asyncio.sleep(0)

        @mod_event_handler("watcher.seen")
        async def tell(self, event):
            return EventResponse(True, data=self.seen)
    """)  # fmt: skip
    await network.register_agent("bob")
    for n in range(600):
        await send(network, "news.item", "bob", n=n)
        if n in (100, 300, 500):
            assert (await network.reload_mod("watcher")).success
    async with asyncio.timeout(10):
        while len(seen := (await send(network, "watcher.seen")).data) < 600:
            await asyncio.sleep(0.01)
    assert seen == list(range(600))


async def test_one_copy_that_cannot_be_sent_does_not_take_the_others_with_it(
    network: AgentNetwork, write_mod: WriteMod
) -> None:
    await load(network, write_mod, "watcher", """
        @mod_event_handler("*", observe=True)
        async def watch(self, event):
            pass
    """)  # fmt: skip
    await network.register_agent("bob")
    for n in range(50):
        await send(network, "news.item", "bob", text="\ud800" if n == 25 else "fine")

    def traffic() -> dict[str, Any]:
        return network.get_network_stats()["mods"]["watcher"]["traffic"]

    await until(lambda: traffic()["observed"] + traffic()["observe_dropped"] == 51)
    assert traffic()["observe_dropped"] == 1


async def test_a_process_left_behind_does_not_go_on_speaking_for_its_mod(
    network: AgentNetwork, write_mod: WriteMod, tmp_path: Path
) -> None:
    """A fork that holds the worker's socket: the channel ends with the worker, and events in flight with it."""
    await load(network, write_mod, "forker", """
        @mod_event_handler("forker.go")
        async def go(self, event):
            if os.fork() == 0:
                os.setsid()
                import pathlib, time
                pathlib.Path(event.payload["mark"]).write_text(f"{os.getpid()} {os.stat('/proc/self/ns/pid').st_ino}")
                time.sleep(30)
                os._exit(0)
            await asyncio.Event().wait()
    """)  # fmt: skip
    mark = tmp_path / "pid"
    event = Event("forker.go", "agent:alice", payload={"mark": str(mark)}, timeout=25)
    flying = asyncio.create_task(network.process_event(event))
    await until(lambda: mark.exists() and mark.read_text() != "")
    left = psutil.Process(heard(mark.read_text()))
    try:
        async with asyncio.timeout(5):
            assert (await network.unload_mod("forker", timeout=0.5)).success
            assert (await flying).error == "mod_unloaded"
    finally:
        with suppress(psutil.NoSuchProcess):  # it ends with the worker where there is a guardian
            left.kill()


async def test_a_draining_mod_may_still_be_asked_by_what_it_is_handling(
    network: AgentNetwork, write_mod: WriteMod
) -> None:
    await load(network, write_mod, "drainer", """
        @mod_event_handler("drainer.start")
        async def start(self, event):
            await asyncio.sleep(0.2)
            return await self.context.send_event(Event("drainer.inner", "agent:x", "mod:drainer"))

        @mod_event_handler("drainer.inner")
        async def inner(self, event):
            return EventResponse(True, data="inner")
    """, speak_for=["agent:x"])  # fmt: skip
    flying = asyncio.create_task(send(network, "drainer.start"))
    await until(lambda: network.get_network_stats()["mods"]["drainer"]["traffic"]["in_flight"] == 1)
    unloading = asyncio.create_task(network.unload_mod("drainer"))
    assert (await flying).data == "inner"
    assert (await unloading).success
