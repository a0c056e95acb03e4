"""Whatever a handler does: its event is answered at once, the events beside it too, and the mod lives."""

from __future__ import annotations

import asyncio
import textwrap
import time
from collections.abc import Callable
from itertools import product

import pytest

from modvisor.supervisor import AgentNetwork, Event, EventResponse

pytestmark = pytest.mark.anyio

WriteMod = Callable[..., str]

NEIGHBOURS = 12  # events before and behind; together they are more than the pipe handles in one turn

HEAD = """
    import asyncio, contextlib, ctypes, gc, heapq, io, logging, os, signal, sys, threading, time, warnings
    from modvisor.mods import BaseMod, Event, EventResponse, Refused, mod_event_handler

    class Panic(BaseException):
        pass

    class Mute(Exception):
        def __str__(self): raise Panic("str")
        __repr__ = __str__

    class Strange(OSError):
        errno = property(lambda self: 1 / 0)
        __cause__ = property(lambda self: sys.exit(3))
        __notes__ = property(lambda self: 1 / 0)
        def __reduce__(self): raise Panic("reduce")

    class Broken:
        def write(self, text): raise Panic("a tee of a tee")
        def flush(self): raise Panic("a tee of a tee")
        isatty = fileno = flush

    class BrokenLog(logging.Handler):
        def emit(self, record): raise Panic("log")
        handle = emit

    class Lying(EventResponse):
        def to_dict(self): raise Panic("to_dict")

    class Items(dict):
        def items(self): raise Panic("items")

    class Dies:
        def __del__(self): raise Panic("del")

    def deep(n=0): return deep(n + 1)

    def raised(error): raise error

"""

RAISED = {
    "panic": 'raise Panic("index out of bounds")',
    "group": 'raise BaseExceptionGroup("two", [Panic("a"), ValueError("b")])',
    "exit": "sys.exit(3)",
    "interrupt": "raise KeyboardInterrupt",
    "generator_exit": "raise GeneratorExit",
    "cancelled": 'raise asyncio.CancelledError("mine")',
    "stop": "raise StopIteration",
    "recursion": "deep()",
    "memory": "raise MemoryError",
    "timeout": "raise TimeoutError",
    "mute": "raise Mute",
    "odd": "raise Strange(1, 'x')",
    "surrogate": 'raise ValueError("\\ud800")',
    "refused": "raise Refused('no', x=object())",
}
"""What each says in a plain handler, in the first step of a coroutine, after a wait, and in a timeout."""

SHAPES = {
    "plain": "def {name}(self, event):\n{body}",
    "first": "async def {name}(self, event):\n{body}",
    "late": "async def {name}(self, event):\n    await asyncio.sleep(0.001)\n{body}",
    "deadline": "async def {name}(self, event):\n    async with asyncio.timeout(5):\n        await asyncio.sleep(0)\n"
    "    {body}",
}


def mod(*shapes: str, bodies: dict[str, str] | None = None, more: str = "") -> str:
    """A mod with a handler ``test.SHAPE_NAME`` for each shape and body, ``test.ok``, and what ``more`` says."""
    parts = [textwrap.dedent(more)]
    for shape, (name, body) in product(shapes, (bodies or {}).items()):
        text = SHAPES[shape].format(name=f"{shape}_{name}", body=f"    {body}")
        parts.append(f'@mod_event_handler("test.{shape}_{name}")\n{text}\n')
    parts.append('@mod_event_handler("test.ok")\nasync def ok(self, event): return EventResponse(True)\n')
    return textwrap.dedent(HEAD) + "class Odd(BaseMod):\n" + textwrap.indent("\n".join(parts), "    ")


async def ask_among_neighbours(network: AgentNetwork, name: str) -> EventResponse:
    """Send an event between others, in one batch. Return its answer; the others are answered at once."""
    names = ["test.ok"] * NEIGHBOURS + [name] + ["test.ok"] * NEIGHBOURS
    begun = time.monotonic()
    responses = await asyncio.gather(
        *(network.process_event(Event(each, f"agent:a{index}", timeout=20)) for index, each in enumerate(names))
    )
    took = time.monotonic() - begun
    culprit = responses.pop(NEIGHBOURS)
    assert all(response.success for response in responses), (name, [r.message for r in responses if not r.success])
    assert took < 5, (name, took)
    return culprit


async def serves_on(network: AgentNetwork, pid: int) -> None:
    details = network.get_network_stats()["mods"]["odd"]
    assert (details["state"], details["pid"], details["crashes"]) == ("ready", pid, 0), network.get_crashes("odd")


async def loaded(network: AgentNetwork, write_mod: WriteMod, source: str, **entry: object) -> int:
    done = await network.load_mod(write_mod("odd", source), **entry)
    assert done.success, done
    return done.data["pid"]


async def test_whatever_a_handler_raises_is_told_at_once_and_neighbours_are_answered(
    network: AgentNetwork, write_mod: WriteMod
) -> None:
    pid = await loaded(network, write_mod, mod(*SHAPES, bodies=RAISED))
    for shape in SHAPES:
        for name in RAISED:
            response = await ask_among_neighbours(network, f"test.{shape}_{name}")
            assert not response.success, (shape, name)
            expected = {"memory": "limit_hit", "refused": "unserializable"}.get(name, "handler_error")
            assert response.error == expected, (shape, name, response)
        await serves_on(network, pid)
    assert "Panic: index out of bounds" in "\n".join(network.mod_log("odd", 2000))


SURROUNDINGS = {
    "stderr": "sys.stderr = sys.stdout = Broken(); raise ValueError('plain')",
    "no_stderr": "sys.stderr = sys.stdout = None; raise ValueError('plain')",
    "closed_stderr": "sys.__stderr__.close(); raise ValueError('plain')",
    "closed_fds": "os.close(1); os.close(2); raise ValueError('plain')",
    "logging": "logging.getLogger().handlers[:] = [BrokenLog()]; asyncio.get_running_loop().call_soon(raised, ValueError()); "
    "raise ValueError('plain')",
    "hooks": "sys.excepthook = threading.excepthook = sys.unraisablehook = None; raise ValueError('plain')",
    "loop_handler": "loop = asyncio.get_running_loop(); loop.set_exception_handler(lambda *_: raised(Panic())); "
    "loop.call_soon(raised, ValueError()); raise ValueError('plain')",
    "clock": "time.monotonic = time.time = time.sleep = lambda *_: 0.0; raise ValueError('plain')",
    "msgpack": "import msgpack; msgpack.packb = msgpack.unpackb = msgpack.Packer = None; raise ValueError('plain')",
    "warnings": "warnings.simplefilter('error'); self.context.send_event(Event('a.b')); raise ValueError('plain')",
    "recursion_limit": "sys.setrecursionlimit(60); raise ValueError('plain')",
    "signals": "[signal.signal(number, signal.SIG_IGN) for number in (2, 15, 17)]; signal.raise_signal(2); raise ValueError()",
    "redirected": "contextlib.redirect_stderr(io.StringIO()).__enter__(); raise ValueError('plain')",
}
"""What a handler changes for the whole process, one after the other, in one mod."""

WAITS = """
    @mod_event_handler("test.wait")
    async def wait(self, event):
        await asyncio.sleep(0.001)
        return EventResponse(True)

    @mod_event_handler("test.plain")
    def plain(self, event): return EventResponse(True)
"""


async def test_a_handler_that_breaks_what_the_worker_speaks_with_is_answered(
    network: AgentNetwork, write_mod: WriteMod
) -> None:
    source = mod("first", bodies=SURROUNDINGS, more=WAITS)
    pid = await loaded(network, write_mod, source)
    for name in SURROUNDINGS:
        response = await ask_among_neighbours(network, f"test.first_{name}")
        assert response.error == "handler_error", (name, response)
        for after in ("test.wait", "test.plain"):
            assert (await network.process_event(Event(after, "agent:a", timeout=5))).success, (name, after)
        await serves_on(network, pid)
    assert (await network.unload_mod("odd")).success


IN_THE_LOOP = {
    "long": 'raise ValueError("x" * 70_000_000)',
    "stop": "asyncio.get_running_loop().stop()",
    "exit_in_task": "self.task = asyncio.get_running_loop().create_task(asyncio.to_thread(sys.exit, 3))",
    "exit_in_callback": "asyncio.get_running_loop().call_soon(sys.exit, 3)",
    "interrupt_in_callback": "asyncio.get_running_loop().call_soon(raised, KeyboardInterrupt())",
    "panic_in_callback": "asyncio.get_running_loop().call_soon(raised, Panic())",
    "close": "contextlib.suppress(RuntimeError)(asyncio.get_running_loop().close)() "
    "if False else raised(ValueError(asyncio.get_running_loop().is_closed()))",
    "answer": "return Lying(True)",
    "items": "return EventResponse(True, data={'a': Items(b=1)})",
    "set": "return EventResponse(True, data={'a': {1}})",
    "del": "event.payload['x'] = Dies(); return EventResponse(True, data=event.payload)",
    "changed": "event.payload = object(); return event",
    "junk": "return object()",
    "collector": "gc.collect(); del event; self.dies = Dies(); self.dies = None",
}
"""What ends elsewhere: in a callback or task on the loop, a signal handler, an answer, an object's end."""


async def test_what_a_handler_leaves_on_the_loop_or_in_its_answer_ends_neither_loop_nor_mod(
    network: AgentNetwork, write_mod: WriteMod
) -> None:
    pid = await loaded(network, write_mod, mod("first", "late", bodies=IN_THE_LOOP))
    for shape in ("first", "late"):
        for name in IN_THE_LOOP:
            await ask_among_neighbours(network, f"test.{shape}_{name}")
            await ask_among_neighbours(network, "test.ok")
            await serves_on(network, pid)
    log = "\n".join(network.mod_log("odd", 2000))
    assert "the mod stopped the event loop with loop.stop(); the loop runs on" in log
    assert "SystemExit: 3 left a task or callback of the mod; the mod goes on" in log


CANCELS = """
        @mod_event_handler("test.self")
        async def cancel_self(self, event):
            asyncio.current_task().cancel()
            await asyncio.sleep(0)

        @mod_event_handler("test.self_late")
        async def cancel_self_late(self, event):
            await asyncio.sleep(0.001)
            asyncio.current_task().cancel()
            await asyncio.sleep(0)

        @mod_event_handler("test.all")
        async def cancel_all(self, event):
            await asyncio.sleep(0.01)  # its neighbours have been answered
            for task in asyncio.all_tasks() - {asyncio.current_task()}:
                task.cancel()
            return EventResponse(True)

        async def shutdown(self):
            for task in asyncio.all_tasks():
                task.cancel()
"""


async def test_a_mod_that_cancels_every_task_that_it_finds_serves_on_and_ends_in_order(
    network: AgentNetwork, write_mod: WriteMod
) -> None:
    pid = await loaded(network, write_mod, mod(more=CANCELS))
    for name in ("test.self", "test.self_late"):
        response = await ask_among_neighbours(network, name)
        assert response.error == "handler_error"
        assert response.message.endswith("cancelled by the mod itself")
    for _ in range(3):
        assert (await ask_among_neighbours(network, "test.all")).success
        await serves_on(network, pid)
    assert (await network.unload_mod("odd")).success


OBSERVES = """
        seen = 0

        @mod_event_handler("seen.*", observe=True)
        async def watch(self, event):
            match event.payload["i"] % 5:
                case 0: raise Panic("observer")
                case 1: raise asyncio.CancelledError
                case 2:
                    asyncio.current_task().cancel()
                    await asyncio.sleep(0)
                case 3: sys.exit(3)
            type(self).seen += 1

        @mod_event_handler("test.seen")
        async def count(self, event): return EventResponse(True, data=self.seen)
"""


async def test_an_observer_that_fails_in_any_way_loses_no_other_copy(
    network: AgentNetwork, write_mod: WriteMod
) -> None:
    pid = await loaded(network, write_mod, mod(more=OBSERVES))
    for i in range(50):
        await network.process_event(Event("seen.it", "agent:a", payload={"i": i}))
    async with asyncio.timeout(5):
        while (await network.process_event(Event("test.seen", "agent:a"))).data != 10:
            await asyncio.sleep(0.001)
    await serves_on(network, pid)


LIVES = """
        def initialize(self): self.fail("initialize")
        def activate(self): self.fail("activate")
        async def deactivate(self): self.fail("deactivate")
        async def get_state(self):
            self.fail("get_state")
            return 1
        def set_state(self, state, version): self.fail("set_state")
        async def shutdown(self): self.fail("shutdown")
        def fail(self, name):
            if self.config.get("in") == name:
                raise {"panic": Panic, "interrupt": KeyboardInterrupt, "cancelled": asyncio.CancelledError}[
                    self.config["with"]
                ]("mine")
"""


@pytest.mark.parametrize("kind", ["panic", "interrupt", "cancelled"])
async def test_whatever_a_call_of_a_mods_life_raises_is_told_at_once(
    network: AgentNetwork, write_mod: WriteMod, kind: str
) -> None:
    path = write_mod("odd", mod(more=LIVES))
    for name in ("initialize", "activate"):
        async with asyncio.timeout(5):
            failed = await network.load_mod(path, config={"in": name, "with": kind})
        assert not failed.success
        assert name in failed.message
        await network.unload_mod("odd")
    for name in ("get_state", "deactivate", "shutdown"):
        assert (await network.load_mod(path, config={"in": name, "with": kind})).success
        async with asyncio.timeout(5):
            await network.reload_mod("odd")
            assert (await network.process_event(Event("test.ok", "agent:a", timeout=5))).success, name
            assert (await network.unload_mod("odd")).success, name


NESTED = """
    def inside(self, awaitable):
        # Run the loop inside the loop until ``awaitable`` is done, as nest_asyncio does.
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        asyncio.tasks._leave_task(loop, task)
        try:
            inner = asyncio.ensure_future(awaitable, loop=loop)
            while not inner.done():
                self.turn(loop)
        finally:
            asyncio.tasks._enter_task(loop, task)
        for _ in range(200):
            loop.call_soon(int)  # the outer turn has counted its callbacks
        return inner.result()

    def turn(self, loop):
        loop._process_events(loop._selector.select(0.0005))
        while loop._scheduled and loop._scheduled[0]._when <= loop.time():
            loop._ready.append(heapq.heappop(loop._scheduled))
        for _ in range(len(loop._ready)):
            handle = loop._ready.popleft() if loop._ready else None
            if handle is not None and not handle._cancelled:
                handle._run()

    @mod_event_handler("nest.sleep")
    async def sleep(self, event):
        self.inside(asyncio.sleep(0.001))
        return EventResponse(True)

    @mod_event_handler("nest.ask")
    async def ask(self, event):
        return self.inside(self.context.request("echo", "test.ping", {"i": event.payload["i"]}))
"""


async def test_a_handler_may_run_the_loop_inside_the_loop(network: AgentNetwork, write_mod: WriteMod) -> None:
    await network.load_mod(write_mod("echo"))
    pid = await loaded(network, write_mod, mod(more=NESTED))
    for _ in range(2):  # the first one finds out that this mod does so
        names = [name for name in ("nest.sleep", "nest.ask", "test.ok") for _ in range(12)]
        responses = await asyncio.gather(
            *(
                network.process_event(Event(name, f"agent:a{i}", payload={"i": i}, timeout=10))
                for i, name in enumerate(names)
            )
        )
        assert all(response.success for response in responses), {response.message for response in responses}
        assert [response.data["pong"] for response in responses[12:24]] == list(range(12, 24))
    await serves_on(network, pid)
