"""The way of an event: which mods are asked, who gets it, what its sender hears. The mods are fakes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from modvisor.ipc.errors import Code
from modvisor.ipc.event import Event, EventResponse
from modvisor.supervisor.agents import AgentRegistry
from modvisor.supervisor.calls import MAX_HOPS, Journey, NetworkCounters, Origin, Unanswered
from modvisor.supervisor.config import ModConfig
from modvisor.supervisor.config.network.network import AgentsConfig
from modvisor.supervisor.events.gateway import LATE_ANSWER, MAX_TIMEOUT, Gateway
from modvisor.supervisor.events.senders import Sender
from modvisor.supervisor.fleet.registry.router import Entry, Router
from tests.conftest import until

pytestmark = pytest.mark.anyio

Answer = EventResponse | Event | None


class FakeMod:
    """Answers as ``say`` tells it, and notes what it was asked."""

    def __init__(self, mod_id: str, say: Callable[[Journey], Any], patterns: tuple[str, ...]) -> None:
        self.mod_id = mod_id
        self.manifest = SimpleNamespace(patterns=patterns)
        self.say = say
        self.asked: list[Event] = []
        self.observed: list[dict[str, Any]] = []
        self.notified: list[dict[str, Any]] = []

    async def ask(self, journey: Journey) -> Answer:
        self.asked.append(journey.event)
        answer = self.say(journey)
        if asyncio.isfuture(answer):
            answer = await answer
        if isinstance(answer, Exception):
            raise answer
        return answer

    ask_again = ask

    def observe(self, event: dict[str, Any]) -> None:
        self.observed.append(event)

    def notify(self, event: dict[str, Any]) -> None:
        self.notified.append(event)


class Fleet:
    """As much of the registry of mods as a gateway uses."""

    def __init__(self) -> None:
        self.mods: list[FakeMod] = []
        self._entries: list[Entry[FakeMod]] = []
        self.router: Router[FakeMod] = Router()
        self.families = SimpleNamespace(addressed=lambda _name, named, _journey: named, split_of=lambda _name: None)

    def __iter__(self) -> Iterator[FakeMod]:
        return iter(self.mods)

    def find(self, name: str) -> FakeMod | None:
        return next((mod for mod in self.mods if mod.mod_id == name), None)

    def add(
        self,
        mod_id: str,
        answer: Any = None,
        patterns: tuple[str, ...] = ("test.*",),
        observes: tuple[str, ...] = (),
    ) -> FakeMod:
        say = answer if callable(answer) and not asyncio.isfuture(answer) else lambda _journey: answer
        mod = FakeMod(mod_id, say, patterns)
        self.mods.append(mod)
        self._entries.append(Entry(mod_id, patterns, observes, mod))
        self.router.replace(lambda: self._entries, any(entry.observes for entry in self._entries))
        return mod


class Net:
    """A gateway with real agents and fake mods."""

    def __init__(self) -> None:
        self.fleet = Fleet()
        self.agents = AgentRegistry(AgentsConfig(), {}, lambda _kind, _data: None)
        self.counters = NetworkCounters()
        self.commands: list[tuple[Event, Sender]] = []
        self.gateway = Gateway(self.fleet, self.agents, self._command, self.counters, 30.0)  # type: ignore[arg-type]

    async def _command(self, event: Event, sender: Sender) -> EventResponse:
        self.commands.append((event, sender))
        return EventResponse(True, "done")

    async def send(self, name: str = "test.ask", to: str | None = None, **more: Any) -> EventResponse:
        return await self.gateway.from_inside(Event(name, "agent:alice", to, **more))

    async def inbox(self, agent_id: str) -> list[Event]:
        agent = self.agents.get(agent_id)
        assert agent is not None
        return await self.agents.poll(agent, 0.0)


@pytest.fixture
async def net() -> Net:
    return Net()


def yes(data: Any = None) -> EventResponse:
    return EventResponse(True, "yes", data)


def away(code: str = Code.OVERLOADED) -> Unanswered:
    return Unanswered("mod is away", code=code)


# -- the walk


async def test_mods_are_asked_in_load_order_until_one_answers(net: Net) -> None:
    first, second, third = net.fleet.add("a"), net.fleet.add("b", yes("b")), net.fleet.add("c", yes("c"))
    response = await net.send()
    assert (response.success, response.data, response.event_name) == (True, "b", "test.ask")
    assert [len(mod.asked) for mod in (first, second, third)] == [1, 1, 0]
    assert (net.counters.processed, net.counters.answered, net.counters.failed) == (1, 1, 0)


async def test_a_mod_is_not_asked_about_its_own_event(net: Net) -> None:
    own, other = net.fleet.add("a", yes()), net.fleet.add("b")
    await net.gateway.from_inside(Event("test.ask", "mod:a"))
    assert (len(own.asked), len(other.asked)) == (0, 1)


async def test_a_changed_event_goes_on_to_the_later_mods_and_to_delivery(net: Net) -> None:
    net.agents.register("bob", {})
    before = net.fleet.add("before", patterns=("test.*", "other.*"))
    net.fleet.add("changes", lambda _journey: Event("other.named", "agent:mallory", "agent:bob", payload={"n": 2}))
    later = net.fleet.add("later", patterns=("other.*",))
    left_out = net.fleet.add("left_out")
    sent = Event("test.ask", "agent:alice", payload={"n": 1})
    response = await net.gateway.from_inside(sent)
    assert response.data == {"delivered": 1}
    [asked] = later.asked
    assert (asked.event_name, asked.payload) == ("other.named", {"n": 2})
    assert (asked.event_id, asked.source_id) == (sent.event_id, "agent:alice"), "a mod cannot change who sent it"
    assert (len(before.asked), len(left_out.asked)) == (1, 0)
    [delivered] = await net.inbox("bob")
    assert delivered.payload == {"n": 2}
    assert (sent.event_name, sent.payload) == ("test.ask", {"n": 1})


async def test_a_mod_cannot_turn_an_event_into_a_command(net: Net) -> None:
    net.fleet.add("a", lambda _journey: Event("system.mod.unload"))
    later = net.fleet.add("b")
    await net.send()
    assert [event.event_name for event in later.asked] == ["test.ask"]
    assert net.commands == []


async def test_a_mod_that_fails_does_not_end_the_walk(net: Net) -> None:
    net.fleet.add("a", away())
    net.fleet.add("b", yes())
    assert (await net.send()).success


async def test_the_first_failure_is_told_if_no_mod_answers_and_the_event_is_delivered_all_the_same(net: Net) -> None:
    net.agents.register("bob", {})
    net.fleet.add("a", away(Code.HANDLER_ERROR))
    net.fleet.add("b", away())
    event = Event("test.ask", "agent:alice", "agent:bob")
    response = await net.gateway.from_inside(event)
    assert (response.success, response.error, response.data["mod"]) == (False, Code.HANDLER_ERROR, "a")
    assert response.data["delivered"] == 1
    assert (await net.gateway.from_inside(event)).data == response.data
    assert len(await net.inbox("bob")) == 1, "a retry is not delivered again"


async def test_a_mod_that_has_accepted_the_event_ends_the_walk(net: Net) -> None:
    net.agents.register("bob", {})
    net.fleet.add("a", away(Code.PENDING))
    later = net.fleet.add("b", yes())
    response = await net.send(to="agent:bob")
    assert (response.error, len(later.asked), await net.inbox("bob")) == (Code.PENDING, 0, [])


# -- one mod


async def test_an_addressed_mod_is_asked_alone(net: Net) -> None:
    other, mod = net.fleet.add("a", yes("a")), net.fleet.add("b", yes("b"))
    assert (await net.send(to="mod:b")).data == "b"
    assert (len(other.asked), len(mod.asked)) == (0, 1)
    assert (await net.send(to="mod:b")).data == "b"


async def test_an_addressed_mod_that_says_nothing_has_taken_the_event(net: Net) -> None:
    net.fleet.add("a")
    response = await net.send(to="mod:a")
    assert (response.success, response.data) == (True, {"delivered": 0, "mod": "a"})


async def test_the_failure_of_an_addressed_mod_is_the_senders(net: Net) -> None:
    net.fleet.add("a", away())
    response = await net.send(to="mod:a")
    assert (response.error, response.data["mod"], net.counters.failed) == (Code.OVERLOADED, "a", 1)


async def test_a_mod_that_cannot_be_asked_is_named_with_what_there_is(net: Net) -> None:
    mod = net.fleet.add("a", yes())
    unknown = await net.send(to="mod:nobody")
    assert (unknown.error, "(loaded: a)" in str(unknown.message)) == (Code.NO_SUCH_MOD, True)
    unhandled = await net.send("other.ask", to="mod:a")
    assert (unhandled.error, "it handles test.*" in str(unhandled.message)) == (Code.UNKNOWN_EVENT, True)
    assert mod.asked == []


# -- delivery


async def test_an_event_that_no_mod_answers_goes_to_the_inboxes_of_its_destination(net: Net) -> None:
    for agent_id in ("alice", "bob", "carol"):
        net.agents.register(agent_id, {})
    net.fleet.add("a")
    response = await net.send(to="agent:broadcast", payload={"n": 1})
    assert (response.success, response.data) == (True, {"delivered": 2})
    assert [len(await net.inbox(agent_id)) for agent_id in ("alice", "bob", "carol")] == [0, 1, 1]
    assert (net.counters.delivered, net.counters.deliveries) == (1, 2)


async def test_an_event_for_nobody(net: Net) -> None:
    absent = await net.send(to="agent:nobody")
    assert (absent.error, absent.data["delivered"]) == (Code.NO_SUCH_AGENT, 0)
    unknown = await net.send()
    assert (unknown.error, "addressed to nobody" in str(unknown.message)) == (Code.UNKNOWN_EVENT, True)
    net.fleet.add("a")
    passed = await net.send()
    assert (passed.success, passed.data) == (True, {"delivered": 0})


# -- retries


async def test_a_retry_gets_the_first_answer(net: Net) -> None:
    mod = net.fleet.add("a", lambda journey: yes(journey.event.payload["n"]))
    event = Event("test.ask", "agent:alice", payload={"n": 1})
    first, second = await net.gateway.from_inside(event), await net.gateway.from_inside(event)
    assert (first.data, second.data, len(mod.asked)) == (1, 1, 1)
    assert (net.counters.repeated, net.counters.processed) == (1, 2)
    stranger = Event("test.ask", "agent:bob", payload={"n": 2}, event_id=event.event_id)
    assert (await net.gateway.from_inside(stranger)).data == 2, "ids of two sources are not the same"


async def test_a_duplicate_of_an_event_in_flight_waits_for_its_answer(net: Net) -> None:
    answer: asyncio.Future[EventResponse] = asyncio.get_running_loop().create_future()
    mod = net.fleet.add("a", answer)
    event = Event("test.ask", "agent:alice")
    tasks = [asyncio.create_task(net.gateway.from_inside(event)) for _ in range(2)]
    await asyncio.sleep(0)
    answer.set_result(yes("once"))
    assert [response.data for response in await asyncio.gather(*tasks)] == ["once", "once"]
    assert len(mod.asked) == 1


async def test_a_duplicate_is_handled_if_the_first_sender_gives_up(net: Net) -> None:
    answers = [asyncio.get_running_loop().create_future() for _ in range(2)]
    coming = iter(answers)
    mod = net.fleet.add("a", lambda _journey: next(coming))
    event = Event("test.ask", "agent:alice")
    first, second = (asyncio.create_task(net.gateway.from_inside(event)) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    answers[1].set_result(yes("second"))
    assert (await second).data == "second"
    assert len(mod.asked) == 2


async def test_a_failure_is_not_remembered(net: Net) -> None:
    answers = iter([away(), yes("at last")])
    net.fleet.add("a", lambda _journey: next(answers))
    event = Event("test.ask", "agent:alice", "mod:a")
    assert not (await net.gateway.from_inside(event)).success
    assert (await net.gateway.from_inside(event)).data == "at last"


# -- the doors


async def test_what_only_the_network_knows_cannot_be_sent_from_outside(net: Net) -> None:
    mod = net.fleet.add("a", yes())
    _, secret = net.agents.register("alice", {})
    event = Event("test.ask", "agent:alice", secret=secret)
    event.via, event.cause, event.hops, event.attempt, event.source_agent_group = "mod:x", "1", 5, 3, "admins"
    assert (await net.gateway.from_outside(event)).success
    [asked] = mod.asked
    assert (asked.via, asked.cause, asked.hops, asked.attempt, asked.source_agent_group) == (None, None, 0, 1, None)
    assert asked.secret is None, "no mod sees the secret of an agent"
    assert event.secret == secret


async def test_an_event_from_outside_without_a_secret_is_refused_and_counted(net: Net) -> None:
    mod = net.fleet.add("a", yes())
    response = await net.gateway.from_outside(Event("test.ask", "agent:alice"))
    assert (response.error, response.event_name) == (Code.UNAUTHENTICATED, "test.ask")
    assert (net.counters.refused, net.counters.processed, mod.asked) == (1, 0, [])


async def test_an_event_of_a_mod_carries_its_cause_and_a_long_chain_is_cut(net: Net) -> None:
    mod, config = net.fleet.add("a", yes()), ModConfig("./b", "b")
    await net.gateway.from_mod(Event("test.ask", "mod:b"), config, Origin("earlier", 3, None))
    await net.gateway.from_mod(Event("test.ask", "mod:b"), config, None)
    assert [(event.cause, event.hops) for event in mod.asked] == [("earlier", 4), (None, 0)]
    cut = await net.gateway.from_mod(Event("test.ask", "mod:b"), config, Origin("earlier", MAX_HOPS, None))
    assert (cut.error, len(mod.asked)) == (Code.LOOP, 2)


async def test_a_stranger_cannot_ask_for_more_time_than_there_is(net: Net) -> None:
    deadlines: list[float] = []
    net.fleet.add("a", lambda journey: deadlines.append(journey.deadline) or yes())
    _, secret = net.agents.register("alice", {})
    now = asyncio.get_running_loop().time()
    for event in (Event("test.ask", "agent:alice"), Event("test.ask", "agent:alice", timeout=1e6)):
        await net.gateway.from_inside(event.copy())
        event.secret = secret
        event.event_id += "again"
        await net.gateway.from_outside(event)
    assert [round(deadline - now) for deadline in deadlines] == [30, 30, 1_000_000, round(MAX_TIMEOUT)]


async def test_commands_are_answered_by_the_network_and_by_no_mod(net: Net) -> None:
    mod = net.fleet.add("a", yes(), patterns=("*",))
    assert (await net.send("system.list_mods")).message == "done"
    [(event, sender)] = net.commands
    assert (event.event_name, sender, mod.asked) == ("system.list_mods", Sender(trusted=True), [])


# -- who looks on


async def test_observers_get_copies_of_what_others_send(net: Net) -> None:
    net.fleet.add("a", yes())
    observer = net.fleet.add("watcher", patterns=(), observes=("*",))
    await net.send(payload={"n": 1})
    await net.gateway.from_inside(Event("test.ask", "mod:watcher"))
    await net.send("other.ask", to="mod:a")  # it has no handler for it
    assert [(event["event_name"], event["source_id"]) for event in observer.observed] == [
        ("test.ask", "agent:alice"),
        ("other.ask", "agent:alice"),
    ]


async def test_taps_get_every_finished_event_with_its_response(net: Net) -> None:
    seen: list[tuple[Event, EventResponse]] = []
    net.gateway.taps.append(seen.append)
    net.fleet.add("a", yes())
    await net.send()
    await net.send("system.list_mods")
    await net.send("other.ask")
    assert [(event.event_name, response.success) for event, response in seen] == [
        ("test.ask", True),
        ("system.list_mods", True),
        ("other.ask", False),
    ]


async def test_notifications_go_to_all_that_match(net: Net) -> None:
    mod = net.fleet.add("a", patterns=("system.notification.*",))
    observer = net.fleet.add("b", patterns=(), observes=("*",))
    other = net.fleet.add("c")
    net.gateway.notify_mods(Event("system.notification.register_agent", "system:system"))
    assert [len(each.notified) for each in (mod, other)] == [1, 0]
    assert len(observer.observed) == 1


# -- when the sender no longer waits


async def test_a_late_answer_comes_to_the_senders_inbox_and_is_remembered(net: Net) -> None:
    net.agents.register("alice", {})
    net.fleet.add("a", away(Code.PENDING))
    event = Event("test.ask", "agent:alice", "mod:a")
    assert (await net.gateway.from_inside(event)).error == Code.PENDING
    await net.gateway.late(Journey(event.copy(), 0.0), "a", yes("late"))
    [late] = await net.inbox("alice")
    assert (late.event_name, late.response_to, late.payload["data"]) == (LATE_ANSWER, event.event_id, "late")
    assert (await net.gateway.from_inside(event)).data == "late"


async def test_a_new_owner_of_an_id_gets_nothing_that_is_remembered_for_the_former_one(net: Net) -> None:
    _, secret = net.agents.register("alice", {})
    mod = net.fleet.add("a", lambda _journey: yes(len(mod.asked)))
    event = Event("test.ask", "agent:alice", "mod:a", event_id="e1")
    assert [(await net.gateway.from_inside(event)).data for _ in range(2)] == [1, 1]
    net.agents.register("alice", {}, secret=secret)
    assert (await net.gateway.from_inside(event)).data == 1, "the same owner, with a new secret"
    net.agents.unregister("alice")
    net.agents.register("alice", {})
    assert [(await net.gateway.from_inside(event)).data for _ in range(2)] == [2, 2]


async def test_an_event_in_flight_is_not_joined_by_a_new_owner_of_the_id(net: Net) -> None:
    net.agents.register("alice", {})
    answers = [asyncio.get_running_loop().create_future() for _ in range(2)]
    mod = net.fleet.add("a", lambda _journey: answers[len(mod.asked) - 1])
    event = Event("test.ask", "agent:alice", "mod:a", event_id="e1")
    first = asyncio.create_task(net.gateway.from_inside(event))
    await until(lambda: len(mod.asked) == 1)
    net.agents.unregister("alice")
    net.agents.register("alice", {})
    second = asyncio.create_task(net.gateway.from_inside(event))
    await until(lambda: len(mod.asked) == 2)
    for answer, text in zip(answers, ("former", "new"), strict=True):
        answer.set_result(yes(text))
    assert ((await first).data, (await second).data) == ("former", "new")


async def test_a_late_answer_does_not_come_to_a_new_owner_of_the_id(net: Net) -> None:
    net.agents.register("alice", {})
    accepted = net.fleet.add("a", away(Code.PENDING))
    event = Event("test.ask", "agent:alice", "mod:a")
    journeys: list[Journey] = []
    accepted.say = lambda journey: journeys.append(journey) or away(Code.PENDING)
    assert (await net.gateway.from_inside(event)).error == Code.PENDING
    net.agents.unregister("alice")
    net.agents.register("alice", {})
    await net.gateway.late(journeys[0], "a", yes("late"))
    assert await net.inbox("alice") == []


async def test_who_floods_inboxes_through_a_mod_takes_its_own_share(net: Net) -> None:
    net.agents.register("bob", {})
    flood = Journey(Event("test.flood", "agent:eve"), 9e9)
    for cause in (Origin("e1", 0, flood), None):
        news = Event("test.news", "mod:a", "agent:bob")
        assert (await net.gateway.from_mod(news, ModConfig("pkg.a", "a"), cause)).success
    bob = net.agents.get("bob")
    assert bob is not None
    assert [item[2] for item in bob.inbox.events if item is not None] == ["agent:eve", "mod:a"]


async def test_a_late_answer_that_passes_the_event_on_goes_on_behind_that_mod(net: Net) -> None:
    before, mod, later = net.fleet.add("a"), net.fleet.add("b"), net.fleet.add("c", yes("c"))
    net.agents.register("alice", {})
    await net.gateway.late(Journey(Event("test.ask", "agent:alice"), 0.0), "b", None)
    assert [len(each.asked) for each in (before, mod, later)] == [0, 0, 1]
    [late] = await net.inbox("alice")
    assert late.payload["data"] == "c"


async def test_a_late_failure_is_told_and_not_remembered(net: Net) -> None:
    net.agents.register("alice", {})
    mod = net.fleet.add("a", yes("again"))
    event = Event("test.ask", "agent:alice", "mod:a")
    await net.gateway.late(Journey(event.copy(), 0.0), "a", away(Code.DEAD_LETTERED))
    [late] = await net.inbox("alice")
    assert (late.payload["success"], late.payload["data"]["error"]) == (False, Code.DEAD_LETTERED)
    assert ((await net.gateway.from_inside(event)).data, len(mod.asked)) == ("again", 1)


async def test_a_replay_passes_the_remembered_answers_by(net: Net) -> None:
    answers = iter(["first", "second"])
    mod = net.fleet.add("a", lambda _journey: yes(next(answers)))
    event = Event("test.ask", "agent:alice", "mod:a")
    await net.gateway.from_inside(event)
    assert (await net.gateway.replay(event.copy(), mod)).data == "second"  # type: ignore[arg-type]
