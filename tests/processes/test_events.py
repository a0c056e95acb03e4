"""The path of an event through real mods: order, answers, delivery, deadlines, causes, retries."""

from __future__ import annotations

import asyncio
import os
import textwrap
from collections.abc import Callable
from typing import Any

import pytest

from modvisor.ipc.address import InvalidId
from modvisor.supervisor import AgentNetwork, Event, EventResponse
from tests.conftest import ECHO, until

pytestmark = pytest.mark.anyio

WriteMod = Callable[..., str]

HEAD = """
    import asyncio, os, threading
    from modvisor.mods import BaseMod, Event, EventResponse, Refused, mod_event_handler

    class Mod(BaseMod):
"""


async def load(network: AgentNetwork, write_mod: WriteMod, name: str, body: str, **more: Any) -> None:
    source = HEAD + textwrap.indent(textwrap.dedent(body), " " * 8)
    response = await network.load_mod(write_mod(name, source), **more)
    assert response.success, (response, source)


async def send(
    network: AgentNetwork, name: str, to: str | None = None, source: str = "agent:alice", **payload: Any
) -> EventResponse:
    return await network.process_event(Event(name, source, to, payload=payload))


async def test_mods_are_asked_in_load_order_until_one_answers(network: AgentNetwork, write_mod: WriteMod) -> None:
    for name in ("one", "two", "three"):
        await load(network, write_mod, name, f"""
            @mod_event_handler("test.*")
            async def handle(self, event):
                event.payload["seen"].append("{name}")
                if event.payload.get("stop") == "{name}":
                    return EventResponse(True, data=event.payload["seen"])
                return event
        """)  # fmt: skip
    assert (await send(network, "test.walk", seen=[], stop="two")).data == ["one", "two"]
    await network.register_agent("bob")
    response = await send(network, "test.walk", "bob", seen=[])
    assert response.data == {"delivered": 1}
    (event,) = await network.poll_events("bob")
    assert event.payload == {"seen": ["one", "two", "three"]}
    # a reload keeps the place in the order
    assert (await network.reload_mod("one")).success
    assert (await send(network, "test.walk", seen=[], stop="three")).data == ["one", "two", "three"]


async def test_a_changed_event_keeps_who_sent_it_and_may_be_renamed(network: AgentNetwork, write_mod: WriteMod) -> None:
    await load(network, write_mod, "renamer", """
        @mod_event_handler("test.before")
        async def handle(self, event):
            return Event("test.after", "mod:renamer", event.destination_id, payload={"new": True})

        @mod_event_handler("test.command")
        async def command(self, event):
            return Event("system.mod.unload", payload={"mod_id": "renamer"})
    """)  # fmt: skip
    await load(network, write_mod, "later", """
        @mod_event_handler("test.after")
        async def handle(self, event):
            return EventResponse(True, data=[event.source_id, event.payload, event.event_name])
    """)  # fmt: skip
    assert (await send(network, "test.before")).data == ["agent:alice", {"new": True}, "test.after"]
    await send(network, "test.command")
    assert "renamer" in network.get_loaded_mods(), "a mod cannot turn an event into a command"


async def test_a_handler_that_raises_does_not_stop_the_others_nor_the_delivery(
    network: AgentNetwork, write_mod: WriteMod
) -> None:
    await load(network, write_mod, "bad", """
        @mod_event_handler("test.*")
        async def handle(self, event):
            raise ValueError("broken on purpose")
    """)  # fmt: skip
    await network.register_agent("bob")
    response = await send(network, "test.event", "bob")
    assert (response.success, response.error) == (False, "handler_error")
    assert response.data["delivered"] == 1
    assert response.data["mod"] == "bad"
    assert "broken on purpose" in response.data["traceback"]
    assert "mods/bad/mod.py:" in response.data["where"]
    assert len(await network.poll_events("bob")) == 1
    await load(network, write_mod, "good", """
        @mod_event_handler("test.*")
        async def handle(self, event):
            return EventResponse(True, data="fine")
    """)  # fmt: skip
    assert (await send(network, "test.event", "bob")).data == "fine"
    stats = network.get_network_stats()["mods"]["bad"]["traffic"]
    assert (stats["events_in"], stats["failed"]) == (2, 2)
    direct = await send(network, "test.event", "mod:bad")
    assert direct.error == "handler_error"


async def test_bad_answers_are_failures_that_name_mod_and_cause(network: AgentNetwork, write_mod: WriteMod) -> None:
    await load(network, write_mod, "odd", """
        @mod_event_handler("test.unserializable")
        async def unserializable(self, event):
            return EventResponse(True, data={"deep": [{"x": object()}]})

        @mod_event_handler("test.huge")
        async def huge(self, event):
            return EventResponse(True, data=b"x" * (65 * 1024 * 1024))

        @mod_event_handler("test.number")
        def number(self, event):
            return 42

        @mod_event_handler("test.exit")
        def exit(self, event):
            raise SystemExit(9)

        @mod_event_handler("test.refuse")
        def refuse(self, event):
            raise Refused("colour: expected 'red', got 'blue'", field="colour")

        @mod_event_handler("test.ok")
        def ok(self, event):
            return EventResponse(True, data=self.process)

        process = os.urandom(8).hex()
    """)  # fmt: skip
    process = (await send(network, "test.ok")).data
    answers = {
        name: await send(network, f"test.{name}") for name in ("unserializable", "huge", "number", "exit", "refuse")
    }
    assert [answer.error for answer in answers.values()] == [
        "unserializable", "too_large", "handler_error", "handler_error", "bad_input",
    ]  # fmt: skip
    assert "response.data.deep[0].x: cannot carry a builtins.object" in str(answers["unserializable"].message)
    assert "the cap is 67108864" in str(answers["huge"].message)
    assert "handler number returned int" in str(answers["number"].message)
    assert answers["refuse"].data["field"] == "colour"
    assert (await send(network, "test.ok")).data == process, "the mod lives and the pipe is in step"
    traffic = network.get_network_stats()["mods"]["odd"]["traffic"]
    assert (traffic["failed"], traffic["answered"]) == (4, 3)


async def test_events_that_cannot_be_sent(network: AgentNetwork, write_mod: WriteMod) -> None:
    await network.load_mod(write_mod("echo"))
    oversized = await send(network, "test.ping", i=b"x" * (64 * 1024 * 1024))
    assert (oversized.error, "the cap is 67108864" in str(oversized.message)) == ("too_large", True)
    odd = await send(network, "test.ping", i=1 << 70)
    assert (odd.error, "payload.i: integer of 71 bits" in str(odd.message)) == ("unserializable", True)
    assert (await send(network, "test.ping", i=5)).data["pong"] == 5


async def test_large_payloads_pass(network: AgentNetwork, write_mod: WriteMod) -> None:
    await network.load_mod(write_mod("echo"))
    blob = os.urandom(16 * 1024 * 1024)
    assert (await send(network, "test.ping", i=blob)).data["pong"] == blob


async def test_addressed_to_a_mod(network: AgentNetwork, write_mod: WriteMod) -> None:
    await network.load_mod(write_mod("echo"))
    await load(network, write_mod, "silent", """
        @mod_event_handler("test.ping")
        async def handle(self, event):
            return None
    """)  # fmt: skip
    assert (await send(network, "test.ping", "mod:echo", i=1)).data["pong"] == 1
    assert (await send(network, "test.ping", "mod:./echo", i=1)).data["pong"] == 1
    missing = await send(network, "test.ping", "mod:nobody")
    assert (missing.error, "loaded: echo, silent" in str(missing.message)) == ("no_such_mod", True)
    unknown = await send(network, "test.other", "mod:echo")
    assert (unknown.error, "it handles test.ping" in str(unknown.message)) == ("unknown_event", True)
    assert (await send(network, "test.ping", "mod:silent")).success


async def test_delivery_to_agents_channels_groups_and_everybody(make_network: Callable[..., AgentNetwork]) -> None:
    network = make_network(agent_groups={"staff": {}})
    await network.initialize()
    for name in ("alice", "bob", "carol"):
        await network.register_agent(name, group="staff" if name != "carol" else None)
    for name in ("alice", "bob", "carol"):
        await send(network, "system.add_channel_member", channel_id="general", agent_id=name)

    async def reached(to: str, **fields: Any) -> tuple[Any, list[str]]:
        response = await network.process_event(
            Event("chat.message", "agent:alice", to, secret="alice's secret", **fields)
        )
        got = []
        for name in ("alice", "bob", "carol"):
            for event in await network.poll_events(name):
                assert event.secret is None
                got.append(name)
        return (response.data["delivered"] if response.success else response.error), got

    assert await reached("agent:bob") == (1, ["bob"])
    assert await reached("bob") == (1, ["bob"])
    assert await reached("agent:alice") == (1, ["alice"]), "a direct event to oneself is meant"
    assert await reached("channel:general") == (2, ["bob", "carol"])
    assert await reached("group:staff") == (1, ["bob"])
    assert await reached("agent:broadcast") == (2, ["bob", "carol"])
    assert await reached("agent:broadcast", visibility="restricted", allowed_agents=["carol"]) == (1, ["carol"])
    assert await reached("agent:dave") == ("no_such_agent", [])
    assert await reached("channel:nowhere") == ("no_such_channel", [])
    assert await reached("group:nobody") == ("no_such_group", [])
    response = await network.process_event(Event("chat.message", "agent:alice"))
    assert response.error == "unknown_event"


async def test_subscriptions_filter_what_is_delivered(network: AgentNetwork) -> None:
    await network.register_agent("bob")
    subscribed = await network.process_event(
        Event("system.subscribe_events", "agent:bob", payload={"agent_id": "bob", "event_patterns": ["news.*"]})
    )
    assert (await send(network, "news.sports", "bob")).data == {"delivered": 1}
    assert (await send(network, "chat.message", "bob")).data == {"delivered": 0}
    payload = {"agent_id": "bob", "subscription_id": subscribed.data["subscription_id"]}
    assert (await network.process_event(Event("system.unsubscribe_events", "agent:bob", payload=payload))).success
    assert (await send(network, "chat.message", "bob")).data == {"delivered": 1}


@pytest.mark.parametrize(("policy", "kept", "failures"), [("drop_oldest", [2, 3, 4], 0), ("reject", [0, 1, 2], 2)])
async def test_a_full_inbox_does_what_the_config_says(
    make_network: Callable[..., AgentNetwork], policy: str, kept: list[int], failures: int
) -> None:
    network = make_network(agents={"inbox_size": 3, "inbox_policy": policy})
    await network.initialize()
    await network.register_agent("bob")
    responses = [await send(network, "chat.message", "bob", n=n) for n in range(5)]
    assert sum(response.error == "inbox_full" for response in responses) == failures
    assert [event.payload["n"] for event in await network.poll_events("bob")] == kept


async def test_receivers_share_nothing(network: AgentNetwork) -> None:
    for name in ("bob", "carol"):
        await network.register_agent(name)
    sent = Event("chat.message", "agent:alice", "agent:broadcast", payload={"list": [1]})
    await network.process_event(sent)
    sent.payload["list"].append("changed by the sender")
    (bob,), (carol,) = await network.poll_events("bob"), await network.poll_events("carol")
    bob.payload["list"].append("changed by bob")
    assert carol.payload == {"list": [1]}


async def test_a_poll_waits_for_the_first_event(network: AgentNetwork) -> None:
    await network.register_agent("bob")
    poll = asyncio.create_task(network.poll_events("bob", wait=30))
    await asyncio.sleep(0)
    await send(network, "chat.message", "bob", n=1)
    assert [event.payload for event in await poll] == [{"n": 1}]


async def test_an_agent_does_not_expire_while_it_waits_for_events(make_network: Callable[..., AgentNetwork]) -> None:
    network = make_network(agents={"expire_after": 0.05})
    await network.initialize()
    for name in ("bob", "carol"):
        await network.register_agent(name)
    poll = asyncio.create_task(network.poll_events("bob", wait=30))
    await until(lambda: network.get_network_stats()["agent_count"] == 1)
    assert (await send(network, "chat.message", "bob", n=1)).data == {"delivered": 1}
    assert len(await poll) == 1
    assert (await send(network, "chat.message", "carol")).error == "no_such_agent"


async def test_past_its_deadline_an_event_fails_the_handler_is_cancelled_and_the_mod_lives(
    network: AgentNetwork, write_mod: WriteMod
) -> None:
    await load(network, write_mod, "slow", """
        def initialize(self):
            self.cancelled = 0

        @mod_event_handler("test.hang")
        async def hang(self, event):
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                self.cancelled += 1
                raise

        @mod_event_handler("test.state")
        async def state(self, event):
            while self.cancelled < event.payload.get("least", 0):  # an event may overtake a cancellation
                await asyncio.sleep(0)
            return EventResponse(True, data=[self.cancelled, self.process])

        process = os.urandom(8).hex()
    """)  # fmt: skip
    before = (await send(network, "test.state")).data
    late = await network.process_event(Event("test.hang", "agent:alice", timeout=0.05))
    assert (late.error, "did not answer within" in str(late.message)) == ("timeout", True)
    abandoned = asyncio.create_task(network.process_event(Event("test.hang", "agent:alice")))
    await until(lambda: network.get_network_stats()["mods"]["slow"]["traffic"]["in_flight"] == 1)
    abandoned.cancel()
    await asyncio.wait([abandoned])
    assert (await send(network, "test.state", least=2)).data == [before[0] + 2, before[1]]
    assert network.get_network_stats()["mods"]["slow"]["traffic"]["timeouts"] == 1


async def test_the_limits_of_a_mod(network: AgentNetwork, write_mod: WriteMod) -> None:
    await load(network, write_mod, "narrow", """
        def initialize(self):
            self.active = self.most = 0
            self.order = []
            self.gate = asyncio.Event()

        @mod_event_handler("test.work")
        async def work(self, event):
            self.active += 1
            self.most = max(self.most, self.active)
            self.order.append(event.payload["n"])
            await asyncio.sleep(0)
            self.active -= 1
            return EventResponse(True, data=self.most)

        @mod_event_handler("test.hang")
        async def hang(self, event):
            await self.gate.wait()

        @mod_event_handler("test.order")
        async def tell(self, event):
            return EventResponse(True, data=self.order)
    """, limits={"concurrency": 1, "queue": 3, "event_timeout": 0.2})  # fmt: skip
    answers = await asyncio.gather(*(send(network, "test.work", n=n) for n in range(4)))
    assert [answer.data for answer in answers] == [1, 1, 1, 1]
    assert (await send(network, "test.order")).data == [0, 1, 2, 3]
    crowd = await asyncio.gather(*(send(network, "test.hang") for _ in range(6)))
    assert sorted(str(answer.error) for answer in crowd) == ["overloaded"] * 2 + ["timeout"] * 4


async def test_a_mod_asks_its_own_network_while_it_handles_an_event(network: AgentNetwork, write_mod: WriteMod) -> None:
    """With one place only: what a handler causes is exempt, else it would wait for itself."""
    await load(network, write_mod, "first", """
        @mod_event_handler("test.start")
        async def start(self, event):
            return await self.context.send_event(Event("test.second", payload=event.payload))

        @mod_event_handler("test.back")
        async def back(self, event):
            return EventResponse(True, data=[event.hops, event.via, event.source_id])
    """, limits={"concurrency": 1})  # fmt: skip
    await load(network, write_mod, "second", """
        @mod_event_handler("test.second")
        async def handle(self, event):
            return await self.context.send_event(Event("test.back"))
    """, limits={"concurrency": 1})  # fmt: skip
    assert (await send(network, "test.start")).data == [2, "mod:second", "mod:second"]


async def test_events_that_cause_one_another_without_end_are_cut(network: AgentNetwork, write_mod: WriteMod) -> None:
    for name, other in (("ping", "pong"), ("pong", "ping")):
        await load(network, write_mod, name, f"""
            @mod_event_handler("test.{name}")
            async def handle(self, event):
                return await self.context.send_event(Event("test.{other}", payload={{"n": event.payload.get("n", 0) + 1}}))
        """)  # fmt: skip
    response = await send(network, "test.ping")
    assert (response.success, response.error) == (False, "loop")


async def test_a_retry_gets_the_first_answer_and_is_not_handled_twice(
    network: AgentNetwork, write_mod: WriteMod
) -> None:
    await load(network, write_mod, "counter", """
        count = 0

        @mod_event_handler("test.count")
        async def handle(self, event):
            self.count += 1
            await asyncio.sleep(0)
            return EventResponse(True, data=self.count)

        @mod_event_handler("test.fail")
        async def fail(self, event):
            self.count += 1
            raise ValueError(self.count)
    """)  # fmt: skip
    await network.register_agent("bob")

    async def count(event_id: str, name: str = "test.count", source: str = "agent:alice") -> EventResponse:
        return await network.process_event(Event(name, source, event_id=event_id))

    assert [answer.data for answer in await asyncio.gather(*(count("a") for _ in range(5)))] == [1] * 5
    assert await count("a") == EventResponse(True, data=1, event_name="test.count"), "in every part"
    assert (await count("a", source="agent:bob")).data == 2, "ids are unique per source"
    failures = [await count("f", "test.fail") for _ in range(2)]
    assert ["ValueError: 3" in str(failures[0].message), "ValueError: 4" in str(failures[1].message)] == [True, True]
    for _ in range(2):
        event = Event("chat.message", "agent:alice", "bob", event_id="m")
        assert (await network.process_event(event)).data == {"delivered": 1}
    assert len(await network.poll_events("bob")) == 1


async def test_observers_get_copies_and_are_never_waited_for(network: AgentNetwork, write_mod: WriteMod) -> None:
    await load(network, write_mod, "watcher", """
        def initialize(self):
            self.seen, self.gate = [], asyncio.Event()

        @mod_event_handler("*", observe=True)
        async def watch(self, event):
            if event.event_name == "chat.first":
                await self.gate.wait()
            self.seen.append(event.event_name)

        @mod_event_handler("watcher.seen")
        async def tell(self, event):
            self.gate.set()
            return EventResponse(True, data=self.seen)
    """)  # fmt: skip
    await network.load_mod(write_mod("echo"))
    await network.register_agent("bob")
    assert (await send(network, "chat.first", "bob")).data == {"delivered": 1}, "though the observer is stuck"
    assert (await send(network, "test.ping", i=1)).data["pong"] == 1

    async def seen() -> list[str]:
        return (await send(network, "watcher.seen")).data

    async with asyncio.timeout(10):
        while "test.ping" not in (names := await seen()):
            pass
    assert names[:2] == ["system.notification.register_agent", "chat.first"]
    assert "chat.first" in names
    assert "test.ping" in names


async def test_mods_hear_of_agents_that_come_and_go(
    make_network: Callable[..., AgentNetwork], write_mod: WriteMod
) -> None:
    network = make_network(agents={"expire_after": 0.05})
    await network.initialize()
    await load(network, write_mod, "greeter", """
        def initialize(self):
            self.heard = []

        @mod_event_handler("system.notification.*")
        async def hear(self, event):
            self.heard.append([event.event_name.rsplit(".", 1)[1], event.payload["agent_id"], event.payload.get("reason")])

        @mod_event_handler("greeter.heard")
        async def tell(self, event):
            agents = [agent["agent_id"] for agent in await self.context.agents()]
            return EventResponse(True, data=[self.heard, agents, await self.context.channels(), await self.context.groups()])
    """)  # fmt: skip
    await network.register_agent("alice")
    await network.unregister_agent("alice")
    await network.register_agent("bob")

    async def heard() -> list[Any]:
        return (await send(network, "greeter.heard")).data

    async with asyncio.timeout(10):
        while len((await heard())[0]) < 4:
            await asyncio.sleep(0.01)
    assert await heard() == [
        [["register_agent", "alice", None], ["unregister_agent", "alice", "unregistered"],
         ["register_agent", "bob", None], ["unregister_agent", "bob", "expired"]],
        [], [], {},
    ]  # fmt: skip


async def test_a_mods_own_folder_survives_and_its_environment_is_its_own(
    network: AgentNetwork, write_mod: WriteMod, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET_OF_THE_SUPERVISOR", "hidden")
    monkeypatch.setenv("KEY_FOR_ONE", "given")
    body = """
        @mod_event_handler("test.store")
        def store(self, event):
            file = self.context.storage_path / "kept.txt"
            file.write_text((file.read_text() if file.exists() else "") + "x")
            print("stored", file.name)
            env = [os.environ.get(name) for name in ("SECRET_OF_THE_SUPERVISOR", "KEY", "LITERAL")]
            return EventResponse(True, data=[file.read_text(), env, self.context.mod_id, self.context.network_name])
    """
    env = {"KEY": {"from": "env:KEY_FOR_ONE"}, "LITERAL": 7}
    await load(network, write_mod, "store", body, env=env)
    assert (await send(network, "test.store")).data == ["x", [None, "given", "7"], "store", "test"]
    await network.reload_mod("store")
    await network.unload_mod("store")
    await load(network, write_mod, "store", body)
    assert (await send(network, "test.store")).data == ["xx", [None, None, None], "store", "test"]
    await until(lambda: sum(line.endswith("stored kept.txt") for line in network.mod_log("store")) == 2)


async def test_what_a_mod_prints_and_logs_is_in_its_log(network: AgentNetwork, write_mod: WriteMod) -> None:
    await load(network, write_mod, "loud", """
        @mod_event_handler("test.say")
        def say(self, event):
            import logging, sys
            print("to stdout")
            print("to stderr", file=sys.stderr)
            logging.getLogger("lib").warning("a warning")
            self.context.log.info("an info")
            os.write(1, b"from C\\n")
            return EventResponse(True)
    """)  # fmt: skip
    with network.follow_log("loud") as lines:
        await send(network, "test.say")
        said = [(await asyncio.wait_for(lines.get(), 5)).split(" ", 1)[1] for _ in range(5)]
    assert sorted(said) == ["INFO loud: an info", "WARNING lib: a warning", "from C", "to stderr", "to stdout"]


async def test_the_tap_shows_every_event_with_its_answer(network: AgentNetwork, write_mod: WriteMod) -> None:
    await network.load_mod(write_mod("echo", ECHO))
    with network.tap() as stream:
        await send(network, "test.ping", i=1)
        event, response = await stream.get()
    assert (event.event_name, response.data["pong"]) == ("test.ping", 1)


async def test_what_a_sender_does_to_its_event_meanwhile_is_seen_by_nobody(
    network: AgentNetwork, write_mod: WriteMod
) -> None:
    """The payload is not copied for a mod that answers at once; whoever gets the event later gets it as it was sent."""
    body = """
        def initialize(self):
            self.seen = []
            self.go_on = asyncio.Event()

        @mod_event_handler("test.kept")
        async def handle(self, event):
            await self.go_on.wait()
            self.seen.append(event.payload)

        @mod_event_handler("*", observe=True)
        async def watch(self, event):
            if event.event_name == "test.kept":
                self.seen.append(event.payload)

        @mod_event_handler("test.go_on")
        async def release(self, event):
            self.go_on.set()

        @mod_event_handler("test.seen")
        async def tell(self, event):
            return EventResponse(True, data=self.seen)
    """
    await load(network, write_mod, "first", body)
    await load(network, write_mod, "second", body, limits={"concurrency": 1})
    await network.register_agent("bob")
    sizes = (3, 100_000)
    with network.tap() as finished:
        sent = []
        for size in sizes:
            event = Event("test.kept", "agent:alice", "agent:bob", payload={"list": [1], "text": "x" * size})
            sent.append((event, asyncio.create_task(network.process_event(event))))
            await until(lambda: network.get_network_stats()["mods"]["first"]["traffic"]["in_flight"] == len(sent))
        for event, _ in sent:
            event.payload["list"].append("changed")
            event.payload["text"] = "changed"
            event.metadata["changed"] = True
        await send(network, "test.go_on")
        for _, task in sent:
            assert (await task).data == {"delivered": 1}
        told = [event for event, _ in (finished.get_nowait() for _ in range(finished.qsize()))]
    expected = [{"list": [1], "text": "x" * size} for size in sizes]
    received = await network.poll_events("bob")
    assert sorted((event.payload for event in received), key=str) == sorted(expected, key=str)
    assert all(event.metadata == {} for event in received)
    kept = [event.payload for event in told if event.event_name == "test.kept"]
    assert sorted(kept, key=str) == sorted(expected, key=str)
    for mod in ("mod:first", "mod:second"):
        async with asyncio.timeout(10):
            while len(seen := (await send(network, "test.seen", mod)).data) < 4:
                pass
        assert sorted(seen, key=str) == sorted(expected * 2, key=str)


async def test_an_event_that_was_spoilt_after_it_was_built_can_be_mended_and_sent_again(
    network: AgentNetwork, write_mod: WriteMod
) -> None:
    await network.load_mod(write_mod("echo"))
    event = Event("test.ping", "agent:alice", payload={"i": 1})
    event.destination_id = "mod:no id!"
    with pytest.raises(InvalidId, match="no id!"):
        await network.process_event(event)
    event.destination_id = "mod:echo"
    response = await network.process_event(event)
    assert response.success, "it is no retry of an event in flight"
