"""A mod of OpenAgents in a real worker: its life, its events, its network, its state."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from modvisor.ipc import messages
from modvisor.ipc.errors import RequestFailed
from modvisor.ipc.event import EventResponse

from .conftest import Core, event_in, settle

pytestmark = pytest.mark.anyio

Make = Callable[[], Core]
Write = Callable[..., None]

STEPS = """
class MyMod(BaseMod):
    version = "2.1"

    def __init__(self, name):
        super().__init__(name)
        asyncio.get_running_loop()
        self.steps = [f"made {name}"]

    def update_config(self, config):
        super().update_config(config)
        self.steps.append(f"config {config}")

    def bind_network(self, network):
        self.steps.append(f"bound {network.network_id} {network.network_name}")
        self.task = asyncio.create_task(asyncio.sleep(60))
        return super().bind_network(network)

    async def initialize(self):
        self.steps.append("initialized")
        return True

    async def handle_register_agent(self, agent_id, metadata):
        self.steps.append(f"agent {agent_id} {metadata}")

    async def handle_unregister_agent(self, agent_id):
        self.steps.append(f"left {agent_id}")

    @mod_event_handler("mine.steps")
    async def on_steps(self, event):
        return EventResponse(success=True, data=self.steps)

    async def shutdown(self):
        self.task.cancel()
        (self.get_storage_path() / "ended").write_text("yes")
"""


async def test_its_life_is_that_of_their_network_on_the_running_loop(
    make_core: Make, write_theirs: Write, tmp_path: Path
) -> None:
    write_theirs(STEPS)
    core = make_core()
    core.agents = [{"agent_id": "early", "metadata": {"a": 1}, "group": None}]
    manifest = await core.start(config={"n": 1})
    assert manifest["host"] == "openagents"
    assert manifest["mod_class"] == "local_mods.mine.mod:MyMod"
    assert (manifest["version"], manifest["resumable"], manifest["side_by_side"]) == ("2.1", True, False)
    assert manifest["file"].endswith("mine/mod.py")
    core.change(["agent", "late", {}, None], ["gone", "early"])
    assert await core.answer("mine.steps") == [
        "made ./mine", "config {'n': 1}", "bound net-1 Net", "initialized",
        "agent early {'a': 1}", "agent late {}", "left early",
    ]  # fmt: skip
    await core.close()
    assert (tmp_path / "storage" / "ended").read_text() == "yes", "an async shutdown is awaited"


async def test_the_patterns_that_the_network_routes_by(make_core: Make, write_theirs: Write) -> None:
    write_theirs("""
        class MyMod(BaseMod):
            def initialize(self):
                self.register_event_handler(self.any, ["mine.late.*", "mine.one"])
                return True

            @mod_event_handler("mine.one")
            async def any(self, event): ...
    """)
    manifest = await make_core().load()
    system = ["system.notification.register_agent", "system.notification.unregister_agent"]
    assert sorted(manifest["patterns"]) == sorted([*system, "mine.one", "mine.late.*"])


@pytest.mark.parametrize(
    "body",
    [
        '@mod_event_handler("mine.pre*")\n    async def any(self, event): ...',
        "async def process_event(self, event): ...",
    ],
)
async def test_a_mod_that_matches_otherwise_gets_every_event(make_core: Make, write_theirs: Write, body: str) -> None:
    write_theirs(f"class MyMod(BaseMod):\n    {body}\n")
    assert (await make_core().load())["patterns"] == ["*"]


ANSWERS = """
from modvisor.mods import EventResponse as OurResponse

class MyMod(BaseMod):
    @mod_event_handler("mine.change")
    async def change(self, event):
        event.payload["files"] = ["a"]

    @mod_event_handler("mine.meta")
    async def meta(self, event):
        event.metadata["seen"] = True

    @mod_event_handler("mine.rebind")
    async def rebind(self, event):
        event.payload = {"other": 1}

    @mod_event_handler("mine.look")
    async def look(self, event):
        event.payload["x"], event.payload["x"] = 1, event.payload["x"]

    @mod_event_handler("mine.odd")
    async def odd(self, event):
        return eval(event.payload["answer"])

    @mod_event_handler("mine.event")
    async def event(self, event):
        shown = event.model_dump()
        shown["allowed_agents"] = sorted(shown["allowed_agents"] or [])
        return EventResponse(success=True, message="m", data=shown, event_name="of.mine")

    @mod_event_handler("mine.fail")
    async def fail(self, event):
        raise KeyError("gone")
"""


async def test_a_change_in_place_goes_on_with_the_event_and_a_look_does_not(
    make_core: Make, write_theirs: Write
) -> None:
    write_theirs(ANSWERS)
    core = make_core()
    await core.start()
    changed = await core.ask("mine.change", {"text": "hi"})
    assert changed["event"]["payload"] == {"text": "hi", "files": ["a"]}
    assert (await core.ask("mine.meta", {}))["event"]["metadata"] == {"seen": True}
    assert (await core.ask("mine.rebind", {"a": 2}))["event"]["payload"] == {"other": 1}
    assert await core.ask("mine.look", {"x": 7}) is None
    assert await core.ask("mine.unknown", {}) is None


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("True", {"success": True}),
        ("False", {"success": False, "message": "the mod answered False"}),
        ("{'a': 1}", {"success": True, "data": {"a": 1}}),
        ("object", {"success": True}),
        ("EventResponse(success=False, message='no')", {"success": False, "message": "no"}),
        ("OurResponse(False, 'no', 7)", {"success": False, "message": "no", "data": 7}),
    ],
)
async def test_an_answer_that_is_no_response_of_theirs_is_one_all_the_same(
    make_core: Make, write_theirs: Write, answer: str, expected: dict[str, Any]
) -> None:
    write_theirs(ANSWERS)
    core = make_core()
    await core.start()
    assert (await core.ask("mine.odd", {"answer": answer}))["response"] == expected
    assert await core.ask("mine.odd", {"answer": "None"}) is None


async def test_the_event_is_one_of_theirs_with_all_fields(make_core: Make, write_theirs: Write) -> None:
    write_theirs(ANSWERS)
    core = make_core()
    await core.start()
    answer = await core.ask(
        "mine.event", {"a": 1}, destination_id="channel:general", event_id="e1", visibility="restricted",
        allowed_agents=["bob"], thread_name="t", response_to="e0", source_agent_group="guest", timestamp=12.75,
    )  # fmt: skip
    assert answer["response"]["event_name"] == "of.mine"
    assert answer["response"]["data"] == {
        "event_name": "mine.event", "source_id": "alice", "event_id": "e1", "timestamp": 12, "source_type": "agent",
        "destination_id": "channel:general", "relevant_mod": None, "requires_response": False, "response_to": "e0",
        "thread_name": "t", "payload": {"a": 1}, "metadata": {}, "text_representation": None, "visibility": "restricted",
        "allowed_agents": ["bob"], "secret": None, "source_agent_group": "guest",
    }  # fmt: skip


async def test_a_failure_names_the_mod_s_own_line(make_core: Make, write_theirs: Write) -> None:
    write_theirs(ANSWERS)
    core = make_core()
    await core.start()
    with pytest.raises(RequestFailed, match=r"mine/mod.py:\d+: KeyError: 'gone'") as caught:
        await core.ask("mine.fail")
    assert caught.value.code == "handler_error"


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("def __init__(self, name): 1 / 0", r"MyMod\('./mine'\) raised at .*mine/mod.py:\d+: ZeroDivisionError"),
        ("def bind_network(self, network): 1 / 0", r"MyMod.bind_network\(\) raised at .*mod.py:\d+: ZeroDivisionError"),
        ("async def initialize(self): 1 / 0", r"MyMod.initialize\(\) raised at .*mod.py:\d+: ZeroDivisionError"),
        ("def initialize(self): return False", r"MyMod.initialize\(\) returned False: the mod refuses to start"),
        ("def bind_network(self, network): return False", r"MyMod.bind_network\(\) returned False: the mod refuses"),
        ("async def initialize(self): return False", r"MyMod.initialize\(\) returned False"),
        (
            "def initialize(self): return self.network.config",
            r"./mine: network.config is not offered.*docs/openagents.md",
        ),
    ],
)
async def test_a_mod_that_cannot_start_says_where(make_core: Make, write_theirs: Write, body: str, said: str) -> None:
    write_theirs(f"class MyMod(BaseMod):\n    {body}\n")
    with pytest.raises(RequestFailed, match=said) as caught:
        await make_core().load()
    assert caught.value.code == "initialize_failed"


NETWORK = """
class MyMod(BaseMod):
    @mod_event_handler("mine.do")
    async def do(self, event):
        names = {**globals(), "self": self, "net": self.network, "gateway": self.network.event_gateway}
        result = eval(event.payload["do"], names)
        if asyncio.iscoroutine(result):
            result = await result
            result = [result.success, result.message, result.data]
        return EventResponse(success=True, data=list(result) if isinstance(result, (set, tuple)) else result)

    @mod_event_handler("mine.order")
    async def order(self, event):
        gateway = self.network.event_gateway
        gateway.create_channel("c")
        gateway.add_channel_member("c", "alice")
        first = gateway.get_channel_members("c")
        await self.send_event(Event(event_name="mine.sent", source_id=event.source_id, destination_id="channel:c"))
        gateway.remove_channel_member("c", "alice")
        gateway.remove_channel("c")
        return EventResponse(success=True, data=[first, gateway.get_channel_members("c")])
"""


@pytest.mark.parametrize(
    ("do", "expected"),
    [
        ("(net.network_id, net.network_name, bool(net.topology))", ["net-1", "Net", True]),
        ("sorted(net.topology.agent_registry.keys())", ["alice", "bob"]),
        ("dict(net.topology.agent_group_membership)", {"alice": "admin"}),
        ("net.topology.agent_group_membership.get('bob')", None),
        (
            "[hasattr(net, n) for n in ('a2a_task_store', 'a2a_registry', 'model_provider', 'secret_manager')]",
            [False] * 4,
        ),
        ("getattr(net.topology, 'a2a_registry', None)", None),
        ("net.workspace_manager.get_mod_storage_path('./mine').name", "storage"),
        ("net.workspace_manager.get_mod_storage_path('other').is_dir()", True),
        ("gateway.get_channel_members('nowhere')", []),
    ],
)
async def test_what_a_mod_may_ask_its_network(make_core: Make, write_theirs: Write, do: str, expected: Any) -> None:
    write_theirs(NETWORK)
    core = make_core()
    core.agents = [
        {"agent_id": "alice", "metadata": {}, "group": "admin"},
        {"agent_id": "bob", "metadata": {}, "group": None},
    ]
    await core.start()
    assert await core.answer("mine.do", {"do": do}) == expected


async def test_an_unknown_name_of_the_network_is_an_error_that_names_it(make_core: Make, write_theirs: Write) -> None:
    write_theirs(NETWORK)
    core = make_core()
    await core.start()
    for do, name in (("net.agent_manager", "network.agent_manager"), ("gateway.poll", "network.event_gateway.poll")):
        with pytest.raises(RequestFailed, match=f"mod ./mine: {name} is not offered to mods in modvisor"):
            await core.ask("mine.do", {"do": do})


async def test_channel_calls_and_events_reach_the_core_in_the_mod_s_order(make_core: Make, write_theirs: Write) -> None:
    write_theirs(NETWORK)
    core = make_core()
    core.agents = [{"agent_id": "alice", "metadata": {}, "group": None}]
    await core.start()
    assert await core.answer("mine.order") == [["alice"], []]
    await settle()
    assert [what["do"] if kind == messages.CHANNEL else what.event_name for kind, what in core.asked] == [
        "join", "mine.sent", "leave", "close",
    ]  # fmt: skip


async def test_more_calls_than_the_core_takes_at_once_keep_their_order(make_core: Make, write_theirs: Write) -> None:
    write_theirs("""
        class MyMod(BaseMod):
            async def handle_register_agent(self, agent_id, metadata):
                self.network.event_gateway.add_channel_member("all", agent_id)

            @mod_event_handler("mine.send")
            async def send(self, event):
                for agent_id in self.network.event_gateway.get_channel_members("all"):
                    self.network.event_gateway.remove_channel_member("all", agent_id)
                await self.send_event(Event(event_name="mine.sent", source_id="alice"))
                return True
    """)
    core = make_core()
    names = [f"agent{number}" for number in range(700)]
    core.agents = [{"agent_id": name, "metadata": {}, "group": None} for name in names]
    await core.start()
    await core.ask("mine.send")
    calls = [(call["do"], call["agent_id"]) for call in core.calls]
    assert calls == [("join", name) for name in names] + [("leave", name) for name in names]
    assert core.asked[-1][0] == messages.SEND_EVENT


async def test_a_refused_call_is_undone_and_reported(
    make_core: Make, write_theirs: Write, caplog: pytest.LogCaptureFixture
) -> None:
    write_theirs(NETWORK)
    core = make_core()
    core.agents = [{"agent_id": "alice", "metadata": {}, "group": None}]
    core.refusal = "forbidden"
    await core.start()
    assert await core.answer("mine.do", {"do": "gateway.add_channel_member('c', 'alice')"}) is None
    await settle()
    assert await core.answer("mine.do", {"do": "gateway.get_channel_members('c')"}) == []
    assert "the network refused to join alice in channel c: no" in caplog.text


@pytest.mark.parametrize(
    ("source", "sent_as"),
    [
        ("alice", "alice"), ("net-1", "net-1"), ("system", "mod:mine"), ("system:system", "mod:mine"),
        ("mod:./mine", "mod:./mine"), (None, None),
    ],
)  # fmt: skip
async def test_who_an_event_of_the_mod_is_from(
    make_core: Make, write_theirs: Write, source: str | None, sent_as: str | None
) -> None:
    write_theirs(NETWORK)
    core = make_core()
    core.respond = lambda event: EventResponse(False, "nobody", {"error": "not_delivered"})
    await core.start()
    event = f"Event(event_name='mine.sent', source_id={source!r}, destination_id='bob', payload={{'a': 1}})"
    assert await core.answer("mine.do", {"do": f"net.process_event({event})"}) == [
        False, "nobody", {"error": "not_delivered"},
    ]  # fmt: skip
    (sent,) = core.sent
    assert (sent.source_id, sent.destination_id, sent.payload, sent.visibility) == (sent_as, "bob", {"a": 1}, "network")


async def test_a_broadcast_and_an_event_to_one_agent(make_core: Make, write_theirs: Write) -> None:
    write_theirs(NETWORK)
    core = make_core()
    await core.start()
    event = "Event(event_name='mine.sent', source_id='alice')"
    for do in (
        f"net.broadcast_event({event})",
        f"net.send_event_to_agent('bob', {event})",
        f"self.send_event({event})",
    ):
        assert (await core.answer("mine.do", {"do": do}))[0]
    assert [sent.destination_id for sent in core.sent] == ["agent:broadcast", "bob", None]


async def test_an_event_that_cannot_be_sent_is_an_answer(make_core: Make, write_theirs: Write) -> None:
    write_theirs(NETWORK)
    core = make_core()
    await core.start()
    wrong = "net.process_event(Event(event_name='mine.sent', source_id='alice', destination_id='ghost:bob'))"
    success, message, data = await core.answer("mine.do", {"do": wrong})
    assert (success, data) == (False, {"error": "invalid_event"})
    assert "ghost" in message
    assert core.sent == []


async def test_a_notification_of_its_own_passes_through_it_while_its_handler_waits(
    make_core: Make, write_theirs: Write
) -> None:
    """Their mods wait for the answer to an event that comes back to them: one at a time, they would wait for ever."""
    write_theirs("""
        class MyMod(BaseMod):
            @mod_event_handler("mine.post")
            async def post(self, event):
                await self.send_event(Event(event_name="mine.note", source_id=event.source_id, destination_id="bob"))
                return True

            @mod_event_handler("mine.note")
            async def note(self, event):
                return None
    """)
    core = make_core()
    await core.start()
    handled: list[Any] = []

    async def through_the_mod(request: Any) -> None:
        event = {**event_in(request).to_dict(), "via": "mod:mine"}
        handled.append(await core.pipe.request(messages.EVENT, {"event": event}))
        core.pipe.respond(request.id, {"success": True})

    tasks = set()
    core.pipe._on_request = lambda request: tasks.add(asyncio.ensure_future(through_the_mod(request)))
    assert (await core.ask("mine.post"))["response"]["success"]
    assert handled == [None]


async def test_an_agent_s_event_comes_after_its_registration_was_handled(make_core: Make, write_theirs: Write) -> None:
    write_theirs("""
        class MyMod(BaseMod):
            known = ()

            async def handle_register_agent(self, agent_id, metadata):
                for _ in range(20):
                    await asyncio.sleep(0)
                self.known += (agent_id,)

            @mod_event_handler("mine.who")
            async def who(self, event):
                return EventResponse(success=True, data=list(self.known))
    """)
    core = make_core()
    await core.start()
    core.change(["agent", "alice", {}, None])
    own, relayed = await asyncio.gather(core.answer("mine.who"), core.answer("mine.who", via="mod:other"))
    assert own == ["alice"]
    assert relayed == [], "what a mod sends may be part of handling it, so it does not wait"


async def test_a_mod_that_raises_when_told_of_an_agent_goes_on(
    make_core: Make, write_theirs: Write, caplog: pytest.LogCaptureFixture
) -> None:
    write_theirs(
        NETWORK + "    async def handle_register_agent(self, agent_id, metadata):\n        raise SystemExit(3)\n"
    )
    core = make_core()
    core.agents = [{"agent_id": "alice", "metadata": {}, "group": None}]
    await core.start()
    assert await core.answer("mine.do", {"do": "1"}) == 1
    assert "MyMod was told of agent alice (system.notification.register_agent) and raised at" in caplog.text
