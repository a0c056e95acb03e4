"""Versions of a mod side by side: who gets which, by name, group and share, and what a switch does to events under way."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from modvisor.supervisor import AgentNetwork, Event, EventResponse
from modvisor.supervisor.config.mods.audience import position
from modvisor.supervisor.config.network.network_file import load_config
from tests.conftest import until

pytestmark = pytest.mark.anyio

Make = Callable[..., AgentNetwork]
Write = Callable[..., str]

WIKI = """
    import asyncio
    from modvisor.mods import BaseMod, Event, EventResponse, mod_event_handler

    class Wiki(BaseMod):
        def initialize(self):
            self.handled, self.observed, self.told = [], [], []
            self.gate = asyncio.Event()
            return not self.config.get("broken")

        def _me(self):
            return self.config.get("is")

        @mod_event_handler("wiki.page.ask")
        async def ask(self, event):
            self.handled.append(event.event_id)
            return EventResponse(True, data=self._me())

        @mod_event_handler("wiki.page.pass")
        async def passed(self, event):
            self.handled.append(event.event_id)

        @mod_event_handler("wiki.page.wait")
        async def wait(self, event):
            print("waiting", flush=True)
            await self.gate.wait()
            return EventResponse(True, data=self._me())

        @mod_event_handler("wiki.page.later")
        async def later(self, event):
            self.handled.append(event.event_id)
            await self.gate.wait()

        @mod_event_handler("wiki.gate.open")
        async def open(self, event):
            self.gate.set()
            return EventResponse(True, data=self._me())

        @mod_event_handler("wiki.page.emit")
        async def emit(self, event):
            answer = await self.context.send_event(Event("wiki.page.ask", event_id=event.payload["id"]))
            return EventResponse(True, data=[answer.success, answer.data])

        @mod_event_handler("wiki.page.die")
        async def die(self, event):
            import os
            os._exit(3)

        @mod_event_handler("wiki.page.seen")
        async def seen(self, event):
            return EventResponse(True, data={"handled": self.handled, "observed": self.observed, "told": self.told})

        @mod_event_handler("system.notification.*")
        async def notified(self, event):
            self.told.append(event.payload["agent_id"])

        @mod_event_handler("watched.*", observe=True)
        async def observe(self, event):
            self.observed.append(event.event_id)
"""
IN_TEN = [f"a{n}" for n in range(500) if position("wiki", f"agent:a{n}") < 10]
IN_FIFTY = [f"a{n}" for n in range(500) if 10 <= position("wiki", f"agent:a{n}") < 50]
OUTSIDE = [f"a{n}" for n in range(500) if position("wiki", f"agent:a{n}") >= 50]


@pytest.fixture
def load(network: AgentNetwork, write_mod: Write) -> Callable[..., Awaitable[EventResponse]]:
    """Load a version of the wiki that answers with its id."""
    return loader(network, write_mod)


def loader(network: AgentNetwork, write_mod: Write) -> Callable[..., Awaitable[EventResponse]]:
    path = write_mod("wiki", WIKI)

    async def load(mod_id: str, audience: dict[str, Any] | None = None, **config: Any) -> EventResponse:
        more = {} if audience is None else {"audience": audience}
        response = await network.load_mod(path, {"is": mod_id, **config}, mod_id=mod_id, **more)
        assert response.success, response
        return response

    return load


async def ask(network: AgentNetwork, source: str | None, name: str = "wiki.page.ask", to: str | None = None) -> Any:
    return await network.process_event(Event(name, source, to))


async def who(network: AgentNetwork, *sources: str, to: str | None = None) -> list[str | None]:
    """The version that answers each source; None: nobody does."""
    answers = [await ask(network, source, to=to) for source in sources]
    assert all(answer.success or answer.error == "unknown_event" for answer in answers), answers
    return [answer.data if answer.success else None for answer in answers]


async def seen(network: AgentNetwork, mod_id: str) -> dict[str, list[str]]:
    """Of a version, whoever it is for."""
    assert network._parts is not None
    keeper = network._parts.mods.find(mod_id)
    assert keeper is not None
    assert keeper.incarnation is not None
    event = Event("wiki.page.seen").to_dict()
    answer = await keeper.incarnation.pipe.request("event", {"event": event}, 10)
    return answer["response"]["data"]


# -- who gets which


async def test_named_agents_then_groups_then_shares_then_the_default(make_network: Make, write_mod: Write) -> None:
    network = make_network(agent_groups={"beta": {}, "staff": {}})
    await network.initialize()
    load = loader(network, write_mod)
    await load("wiki")
    await load("wiki@2", {"percent": 10, "agents": [OUTSIDE[0]]})
    await load("wiki@canary", {"groups": ["beta"], "agents": ["mod:shop"]})
    for agent, group in ((IN_TEN[0], "beta"), (OUTSIDE[0], "beta"), (OUTSIDE[1], "beta"), (OUTSIDE[2], "staff")):
        assert (await network.register_agent(agent, group=group)).success
    named, grouped, shared = OUTSIDE[0], OUTSIDE[1], IN_TEN[1]
    assert await who(network, named, grouped, IN_TEN[0], shared, OUTSIDE[2], OUTSIDE[3], "mod:shop") == [
        "wiki@2", "wiki@canary", "wiki@canary", "wiki@2", "wiki", "wiki", "wiki@canary",
    ]  # fmt: skip
    bare_and_full = await who(network, IN_TEN[1], f"agent:{IN_TEN[1]}")
    assert bare_and_full == ["wiki@2", "wiki@2"], "one agent, whichever way it is written"


async def test_an_agent_from_outside_has_the_same_version(network: AgentNetwork, load: Any) -> None:
    await load("wiki")
    await load("wiki@2", {"percent": 10})
    for agent, version in ((IN_TEN[0], "wiki@2"), (OUTSIDE[0], "wiki")):
        secret = (await network.register_agent(agent)).data["secret"]
        answer = await network.process_external_event(Event("wiki.page.ask", agent, secret=secret))
        assert answer.data == version


async def test_a_mod_alone_with_an_audience_is_not_there_for_others(network: AgentNetwork, load: Any) -> None:
    await load("wiki", {"agents": ["alice"]})
    assert await who(network, "alice", "bob") == ["wiki", None]
    refused = await ask(network, "bob", to="mod:wiki")
    assert (refused.success, refused.error) == (False, "not_in_audience")
    assert refused.data == {"mod": "wiki", "family": "wiki", "version": None, "error": "not_in_audience"}
    assert refused.message == (
        "mod wiki is not for agent:bob, its audience is agent alice; agent:bob has no version of wiki"
    )


async def test_without_a_version_for_everybody_the_others_reach_none(network: AgentNetwork, load: Any) -> None:
    await load("wiki@1", {"percent": 10})
    await load("wiki@2", {"agents": ["alice"]})
    assert await who(network, IN_TEN[0], "alice", OUTSIDE[0]) == ["wiki@1", "wiki@2", None]


async def test_of_several_for_everybody_it_is_the_bare_name_else_the_first(network: AgentNetwork, load: Any) -> None:
    await load("wiki@1")
    await load("wiki@2")
    assert await who(network, "alice", "bob") == ["wiki@1", "wiki@1"]
    await load("wiki")
    assert await who(network, "alice", "bob") == ["wiki", "wiki"]


async def test_addressed_by_family_or_by_version(network: AgentNetwork, load: Any) -> None:
    await load("wiki@1")
    await load("wiki@2", {"percent": 10})
    inside, outside = IN_TEN[0], OUTSIDE[0]
    assert await who(network, inside, outside, to="mod:wiki") == ["wiki@2", "wiki@1"], "though no id is 'wiki'"
    assert await who(network, inside, to="mod:wiki@2") == ["wiki@2"]
    assert await who(network, inside, outside, to="mod:./wiki") == ["wiki@2", "wiki@1"], "both are from that path"
    for source, mod, version in ((outside, "wiki@2", "wiki@1"), (inside, "wiki@1", "wiki@2")):
        refused = await ask(network, source, to=f"mod:{mod}")
        assert refused.error == "not_in_audience"
        assert (refused.data["mod"], refused.data["version"]) == (mod, version)
        assert f"has version {version}, which mod:wiki goes to" in refused.message


async def test_a_version_is_asked_where_its_siblings_are(network: AgentNetwork, load: Any, write_mod: Write) -> None:
    await load("wiki")
    later = """
        from modvisor.mods import BaseMod, EventResponse, mod_event_handler

        class Later(BaseMod):
            @mod_event_handler("wiki.*")
            async def answer(self, event):
                return EventResponse(True, data="later")
    """
    await network.load_mod(write_mod("later", later))
    await load("wiki@2", {"agents": ["alice"]})
    assert list(network.get_loaded_mods()) == ["wiki", "wiki@2", "later"]
    assert await who(network, "alice", "bob") == ["wiki@2", "wiki"]
    await network.unload_mod("wiki")
    assert await who(network, "alice", "bob") == ["wiki@2", "later"]


async def test_copies_for_observers_are_of_the_audience(network: AgentNetwork, load: Any) -> None:
    await load("wiki")
    await load("wiki@2", {"percent": 10})
    sent = {}
    for agent in (IN_TEN[0], OUTSIDE[0], IN_TEN[1], OUTSIDE[1]):
        event = Event("watched.page.shown", agent)
        sent[agent] = event.event_id
        await network.process_event(event)
    assert network._parts is not None
    counters = {keeper.mod_id: keeper.counters for keeper in network._parts.mods}
    await until(lambda: sum(counter.observed for counter in counters.values()) == 4)
    assert (await seen(network, "wiki@2"))["observed"] == [sent[IN_TEN[0]], sent[IN_TEN[1]]]
    assert (await seen(network, "wiki"))["observed"] == [sent[OUTSIDE[0]], sent[OUTSIDE[1]]]


async def test_what_the_network_tells_its_mods_it_tells_all_of_them(network: AgentNetwork, load: Any) -> None:
    await load("wiki")
    await load("wiki@2", {"agents": ["alice"]})
    await network.register_agent("bob")
    assert network._parts is not None
    counters = {keeper.mod_id: keeper.counters for keeper in network._parts.mods}
    await until(lambda: all(counter.observed for counter in counters.values()))
    for mod_id in ("wiki", "wiki@2"):
        assert (await seen(network, mod_id))["told"] == ["bob"]


async def test_what_a_version_sends_is_not_for_its_siblings(network: AgentNetwork, load: Any) -> None:
    await load("wiki")
    await load("wiki@2", {"agents": ["alice"]})
    answer = await network.process_event(Event("wiki.page.emit", "alice", payload={"id": "e1"}))
    assert answer.data == [False, {"error": "unknown_event"}], "as it would be without a sibling"
    assert (await seen(network, "wiki"))["handled"] == []


async def test_the_events_of_a_version_that_is_down_wait_for_nobody_else(network: AgentNetwork, load: Any) -> None:
    await load("wiki")
    path = "./wiki"
    loaded = await network.load_mod(
        path, {"is": "wiki@2"}, mod_id="wiki@2", audience={"percent": 10}, restart={"policy": "temporary"}
    )
    assert loaded.success
    await ask(network, IN_TEN[0], "wiki.page.die")
    await until(lambda: network.get_loaded_mods()["wiki@2"]["state"] == "stopped")
    for to in (None, "mod:wiki", "mod:wiki@2"):
        failed = await ask(network, IN_TEN[0], to=to)
        assert (failed.error, failed.data["mod"]) == ("mod_away", "wiki@2")
    assert await who(network, OUTSIDE[0]) == ["wiki"]
    assert (await network.restart_mod("wiki@2")).success
    assert await who(network, IN_TEN[0]) == ["wiki@2"]
    assert (await network.unload_mod("wiki@2")).success
    assert await who(network, IN_TEN[0]) == ["wiki"], "unloading it gives its sources to the default version"


async def test_a_version_that_failed_at_the_start_keeps_its_sources(make_network: Make, write_mod: Write) -> None:
    path = write_mod("wiki", WIKI)
    entry = {"path": path, "id": "wiki@2", "audience": {"percent": 10}}
    network = make_network(mods=[
        {"path": path, "config": {"is": "wiki"}}, {**entry, "config": {"is": "wiki@2", "broken": True}},
    ])  # fmt: skip
    await network.initialize()
    assert network.get_loaded_mods()["wiki@2"]["state"] == "failed"
    failed = await ask(network, IN_TEN[0])
    assert (failed.error, failed.data["mod"]) == ("mod_away", "wiki@2")
    assert await who(network, OUTSIDE[0]) == ["wiki"]
    assert (await network.reload_mod("wiki@2", config={"is": "wiki@2"})).success
    assert await who(network, IN_TEN[0], OUTSIDE[0]) == ["wiki@2", "wiki"]


async def test_a_version_may_have_several_workers(network: AgentNetwork, load: Any) -> None:
    await load("wiki")
    shared = {"workers": 2, "audience": {"percent": 10}}
    loaded = await network.load_mod("./wiki", {"is": "wiki@2"}, mod_id="wiki@2", **shared)
    assert loaded.success, loaded
    assert await who(network, *IN_TEN[:6], OUTSIDE[0]) == ["wiki@2"] * 6 + ["wiki"]
    workers = network.get_network_stats()["mods"]["wiki@2"]["workers"]
    assert sum(worker["traffic"]["events_in"] for worker in workers) == 6
    assert all(worker["traffic"]["events_in"] for worker in workers), "the choice of a worker is another one"
    assert (await network.set_audience("wiki@2", percent=50)).success
    assert (await network.reload_mod("wiki@2")).success
    swapped = await network.swap_mod("wiki@2", "./wiki", {"is": "wiki@3"}, mod_id="wiki@3", workers=2)
    assert swapped.success, swapped
    assert await who(network, IN_FIFTY[0], OUTSIDE[0]) == ["wiki@3", "wiki"]
    _, two = network.get_audience("wiki").data["versions"]
    assert (two["mod_id"], two["reaches"], two["share"], two["events_in"]) == ("wiki@3", "50 % of the sources", 0.5, 1)
    swapped = await network.swap_mod(
        "wiki@3", "./wiki", {"is": "wiki@4"}, mod_id="wiki@4", workers=3, audience={"percent": 10}
    )
    assert swapped.success, swapped
    assert await who(network, IN_TEN[0], IN_FIFTY[0]) == ["wiki@4", "wiki"]
    assert (await network.promote_mod("wiki@4")).success
    assert await who(network, OUTSIDE[0]) == ["wiki@4"]


async def test_workers_that_do_not_all_come_up_take_nobody_away(
    network: AgentNetwork, write_mod: Write, tmp_path: Path
) -> None:
    load = loader(network, write_mod)
    await load("wiki")
    goes_on = tmp_path / "goes_on"
    wait = "self._wait(self.context.replica)"
    source = (
        WIKI.replace('return not self.config.get("broken")', f"return {wait}")
        + f"""
        def _wait(self, replica):
            import os, time
            while replica == 1 and not os.path.exists({str(goes_on)!r}):
                time.sleep(0.005)
            return replica == 0
    """
    )
    loading = asyncio.create_task(
        network.load_mod(write_mod("wiki", source), mod_id="wiki@2", workers=2, audience={"percent": 100})
    )
    await until(lambda: "wiki@2" in network.get_loaded_mods())
    workers = network._workers_of("wiki@2")
    await until(lambda: workers[0].state == "ready")
    assert await who(network, "alice", "bob") == ["wiki", "wiki"], "not before all of them serve"
    goes_on.touch()
    assert (await loading).error == "initialize_failed"
    assert await who(network, "alice", "bob") == ["wiki", "wiki"]


async def test_a_version_that_does_not_come_up_takes_nobody_away(network: AgentNetwork, load: Any) -> None:
    await load("wiki")
    response = await network.load_mod("./wiki", {"broken": True}, mod_id="wiki@2", audience={"percent": 100})
    assert response.error == "initialize_failed"
    assert await who(network, "alice", "bob") == ["wiki", "wiki"]


# -- changes


async def test_a_share_that_grows_takes_agents_in_and_lets_none_go(network: AgentNetwork, load: Any) -> None:
    await load("wiki")
    await load("wiki@2", {"percent": 10})
    agents = [*IN_TEN[:5], *IN_FIFTY[:5], *OUTSIDE[:5]]
    pids = {mod: details["pid"] for mod, details in network.get_loaded_mods().items()}
    assert Counter(await who(network, *agents)) == {"wiki@2": 5, "wiki": 10}
    changed = await network.set_audience("wiki@2", percent=50, agents=[OUTSIDE[0]])
    assert changed.success
    assert changed.message == (
        f"mod wiki@2 reaches 50 % of the sources, agent {OUTSIDE[0]} now, before: 10 % of the sources"
    )
    assert await who(network, *agents) == ["wiki@2"] * 11 + ["wiki"] * 4
    changed = await network.set_audience("wiki@2", percent=0)
    assert changed.message.startswith(f"mod wiki@2 reaches agent {OUTSIDE[0]} now"), "what is not given stays"
    assert await who(network, IN_TEN[0], OUTSIDE[0]) == ["wiki", "wiki@2"]
    changed = await network.set_audience("wiki@2", everyone=True)
    assert changed.message.endswith("; it stands behind wiki, 'modvisor promote wiki@2' changes that")
    assert await who(network, *agents) == ["wiki"] * 15
    changed = await network.set_audience("wiki", percent=50)
    assert await who(network, *agents) == ["wiki"] * 10 + ["wiki@2"] * 5, "there is one left for all others"
    changed = await network.set_audience("wiki@2", agents=["bob"])
    assert changed.message.endswith("; a source that is in no audience has no version of wiki")
    assert {mod: details["pid"] for mod, details in network.get_loaded_mods().items()} == pids, "nothing was restarted"


@pytest.mark.parametrize(
    ("mod", "change", "error", "message"),
    [
        ("nobody", {"percent": 1}, "no_such_mod", "no mod 'nobody' is loaded (loaded: wiki, wiki@2)"),
        ("wiki@2", {}, "bad_input", "mod wiki@2: say whose events it gets: percent, groups and agents, or else everyone"),
        ("wiki@2", {"everyone": True, "percent": 1}, "bad_input",
         "mod wiki@2: say whose events it gets: percent, groups and agents, or else everyone"),
        ("wiki@2", {"percent": 101}, "bad_config", "mod wiki@2: percent: expected a number from 0 to 100, got 101"),
        ("wiki@2", {"agents": "bob"}, "bad_config",
         "mod wiki@2: agents: expected a list such as ['alice', 'mod:shop'], got 'bob'"),
        ("wiki@2", {"groups": ["beta"]}, "bad_config",
         "mod wiki@2: audience.groups: no group 'beta' in agent_groups; known here: none"),
        ("wiki", {"percent": 91}, "bad_config", "mod wiki: audience.percent: the percentages of the versions of wiki add up to "
                                                "101 (wiki 91, wiki@2 10); lower them to 100 or less"),
    ],
)  # fmt: skip
async def test_what_cannot_be_changes_nothing(
    network: AgentNetwork, load: Any, mod: str, change: dict[str, Any], error: str, message: str
) -> None:
    await load("wiki")
    await load("wiki@2", {"percent": 10})
    refused = await network.set_audience(mod, **change)
    assert (refused.success, refused.error, refused.message) == (False, error, message)
    assert await who(network, IN_TEN[0], OUTSIDE[0]) == ["wiki@2", "wiki"]


async def test_a_load_is_checked_against_its_siblings(network: AgentNetwork, load: Any) -> None:
    await load("wiki@2", {"percent": 60})
    refused = await network.load_mod("./wiki", mod_id="wiki@3", audience={"percent": 50})
    assert refused.error == "bad_config"
    assert "add up to 110" in refused.message
    assert list(network.get_loaded_mods()) == ["wiki@2"]


async def test_promote_and_back(network: AgentNetwork, load: Any) -> None:
    await load("wiki")
    await load("wiki@2", {"percent": 10})
    agents = [*IN_TEN[:3], *OUTSIDE[:3]]
    promoted = await network.promote_mod("wiki@2")
    assert promoted.message == (
        "mod wiki@2 is the version of wiki for everybody now; wiki stays loaded without events "
        "('modvisor rollback wiki' goes back)"
    )
    assert promoted.data["default"] == "wiki@2"
    assert await who(network, *agents) == ["wiki@2"] * 6
    assert await who(network, "alice", to="mod:wiki") == ["wiki@2"], "by the name of the family, too"
    again = await network.promote_mod("wiki@2")
    assert (again.success, again.message) == (True, "mod wiki@2 has the events of everybody already")

    await load("wiki@3", {"agents": ["alice"]})
    assert (await network.promote_mod("wiki@3")).success
    assert await who(network, *agents) == ["wiki@3"] * 6
    assert (await network.rollback_mod("wiki")).success
    assert await who(network, *agents, "alice") == ["wiki@2"] * 6 + ["wiki@3"]
    back = await network.rollback_mod("wiki@3")
    assert back.message == (
        "wiki is divided as before its last promotion: wiki reaches everyone else, wiki@2 reaches 10 % of the sources, "
        "wiki@3 reaches agent alice"
    )
    assert await who(network, *agents, "alice") == ["wiki@2"] * 3 + ["wiki"] * 3 + ["wiki@3"]
    nothing = await network.rollback_mod("wiki")
    assert (nothing.error, nothing.message) == (
        "conflict", "no version of wiki was promoted, so there is nothing to go back to",
    )  # fmt: skip


async def test_there_is_no_promotion_of_what_is_down_and_no_way_back_to_what_is_gone(
    network: AgentNetwork, load: Any
) -> None:
    await load("wiki")
    await network.load_mod("./wiki", {"is": "wiki@2"}, mod_id="wiki@2", audience={"agents": ["alice"]},
                           restart={"policy": "temporary"})  # fmt: skip
    await ask(network, "alice", "wiki.page.die")
    await until(lambda: network.get_loaded_mods()["wiki@2"]["state"] == "stopped")
    refused = await network.promote_mod("wiki@2")
    assert refused.error == "conflict"
    assert refused.message == (
        "mod wiki@2 was not promoted: mod wiki@2 is stopped and could not take the events; "
        "'modvisor restart wiki@2' first"
    )
    assert await who(network, "bob") == ["wiki"]
    await network.restart_mod("wiki@2")
    assert (await network.promote_mod("wiki@2")).success
    await network.unload_mod("wiki")
    refused = await network.rollback_mod("wiki")
    assert refused.error == "conflict"
    assert refused.message == (
        "wiki was not rolled back: mod wiki, which its events would go to, is not loaded; load it first"
    )
    assert await who(network, "alice", "bob") == ["wiki@2", "wiki@2"]
    await load("wiki")
    assert await who(network, "bob") == ["wiki@2"], "the one that was promoted, although the other has the bare name"
    assert (await network.rollback_mod("wiki")).success
    assert await who(network, "alice", "bob") == ["wiki@2", "wiki"]


async def test_a_version_that_came_since_does_not_take_over_on_the_way_back(network: AgentNetwork, load: Any) -> None:
    await load("wiki@1")
    await load("wiki@2", {"percent": 10})
    await network.promote_mod("wiki@2")
    await load("wiki")
    assert (await network.rollback_mod("wiki")).success
    assert await who(network, IN_TEN[0], OUTSIDE[0]) == ["wiki@2", "wiki@1"]


async def test_events_in_flight_finish_where_they_are(network: AgentNetwork, load: Any) -> None:
    await load("wiki")
    await load("wiki@2", {"percent": 10})
    waiting = asyncio.create_task(ask(network, OUTSIDE[0], "wiki.page.wait"))
    await until(lambda: any("waiting" in line for line in network.mod_log("wiki")))
    assert (await network.promote_mod("wiki@2")).success
    assert await who(network, OUTSIDE[0]) == ["wiki@2"]
    await network.rollback_mod("wiki")
    await ask(network, OUTSIDE[0], "wiki.gate.open")
    assert (await waiting).data == "wiki"


async def test_an_event_that_outlives_its_senders_patience_meets_no_second_version(
    network: AgentNetwork, load: Any
) -> None:
    await network.load_mod("./wiki", {"is": "wiki@1"}, mod_id="wiki@1", audience={"agents": ["alice"]}, durable=True)
    await load("wiki")
    await network.register_agent("alice")
    event = Event("wiki.page.later", "alice", timeout=0.2)
    assert (await network.process_event(event)).error == "pending"
    await network.set_audience("wiki@1", agents=["bob"])
    assert await who(network, "alice") == ["wiki"]
    await ask(network, "bob", "wiki.gate.open")
    (late,) = await network.poll_events("alice", wait=10)
    assert late.payload["message"] == "no mod answered, and it is addressed to nobody"
    assert (await seen(network, "wiki@1"))["handled"] == [event.event_id]
    assert event.event_id not in (await seen(network, "wiki"))["handled"]


async def test_no_event_goes_to_two_versions_or_to_none_while_audiences_change(
    network: AgentNetwork, load: Any, write_mod: Write
) -> None:
    """Each event is passed on by every mod on its way, so that it would meet a second version if there was a way to it."""
    await load("wiki")
    slow = """
        import asyncio
        from modvisor.mods import BaseMod, mod_event_handler

        class Slow(BaseMod):
            @mod_event_handler("wiki.page.pass")
            async def passed(self, event):
                await asyncio.sleep(event.payload["pause"])
                return event
    """
    assert (await network.load_mod(write_mod("slow", slow))).success
    await load("wiki@1")
    await load("wiki@2", {"percent": 50})
    sent: list[str] = []
    over = asyncio.Event()

    async def send(agent: str) -> None:
        while not over.is_set():
            event = Event("wiki.page.pass", agent, payload={"pause": len(sent) % 3 / 500})
            sent.append(event.event_id)
            answer = await network.process_event(event)
            assert answer.success, answer

    async with asyncio.TaskGroup() as tasks:
        for n in range(8):
            tasks.create_task(send(f"a{n}"))
        for turn in range(10):
            for change in (
                network.promote_mod("wiki@1"),
                network.promote_mod("wiki@2"),
                network.rollback_mod("wiki"),
                network.set_audience("wiki@2", percent=turn * 5),
                network.set_audience("wiki", agents=["a0", "a3"]),
                network.set_audience("wiki", everyone=True),
            ):
                assert (await change).success
                enough = len(sent) + 10
                await until(lambda enough=enough: len(sent) >= enough)
        over.set()
    handled = Counter[str]()
    for mod_id in ("wiki", "wiki@1", "wiki@2"):
        found = (await seen(network, mod_id))["handled"]
        assert found, f"{mod_id} took no part in this"
        handled.update(found)
    assert set(handled) == set(sent)
    assert set(handled.values()) == {1}


async def test_a_reload_and_a_swap_keep_the_audience(network: AgentNetwork, load: Any) -> None:
    await load("wiki")
    await load("wiki@2", {"percent": 10})
    await network.set_audience("wiki@2", percent=50)
    assert (await network.reload_mod("wiki@2", config={"is": "wiki@2"})).success
    assert await who(network, IN_FIFTY[0]) == ["wiki@2"]
    assert (await network.swap_mod("wiki@2", "./wiki", {"is": "wiki@3"}, mod_id="wiki@3")).success
    assert await who(network, IN_FIFTY[0], OUTSIDE[0]) == ["wiki@3", "wiki"], "the new one is for the same sources"
    swapped = await network.swap_mod("wiki@3", "./wiki", {"is": "wiki@4"}, mod_id="wiki@4", audience={"percent": 10})
    assert swapped.success
    assert await who(network, IN_FIFTY[0], IN_TEN[0]) == ["wiki", "wiki@4"]
    same = await network.swap_mod("wiki@4", "./wiki", {"is": "wiki@4"}, mod_id="wiki@4", audience={"percent": 50})
    assert same.success
    assert await who(network, IN_FIFTY[0]) == ["wiki@4"]
    assert (await network.promote_mod("wiki@4")).success
    assert (await network.swap_mod("wiki@4", "./wiki", {"is": "wiki@5"}, mod_id="wiki@5")).success
    assert await who(network, OUTSIDE[0]) == ["wiki@5"], "in the place of the one that was promoted"


# -- what is kept


async def test_audiences_and_promotions_outlive_the_network(make_network: Make, write_mod: Write) -> None:
    write_mod("wiki", WIKI)
    mods = [{"path": "./wiki", "config": {"is": "wiki"}}]
    async with make_network(mods=mods) as network:
        load = loader(network, write_mod)
        await load("wiki@2", {"percent": 10})
        await load("wiki@3", {"agents": ["alice"]})
        answer = await network.set_audience("wiki@2", percent=50)
        assert "The network file" not in answer.message
        await network.load_mod("./wiki", mod_id="last")
        await load("wiki@4", {"percent": 0})
        order = list(network.get_loaded_mods())
        assert order == ["wiki", "wiki@2", "wiki@3", "wiki@4", "last"]
    async with make_network(mods=mods) as network:
        assert list(network.get_loaded_mods()) == order
        assert await who(network, IN_FIFTY[0], "alice", OUTSIDE[0]) == ["wiki@2", "wiki@3", "wiki"]
        await network.promote_mod("wiki@2")
    async with make_network(mods=mods) as network:
        assert await who(network, IN_FIFTY[0], "alice", OUTSIDE[0]) == ["wiki@2"] * 3
        assert (await network.rollback_mod("wiki")).success
    async with make_network(mods=mods) as network:
        assert await who(network, IN_FIFTY[0], "alice", OUTSIDE[0]) == ["wiki@2", "wiki@3", "wiki"]
        assert (await network.rollback_mod("wiki")).error == "conflict"
        await network.promote_mod("wiki@2")
    network = make_network(mods=mods)
    await network.initialize(fresh=True)
    assert network.get_network_stats()["families"] == {}, "what the file says, and nothing else"
    assert (await network.rollback_mod("wiki")).error == "conflict"


async def test_of_a_version_in_the_file_the_file_rules_at_the_next_start(make_network: Make, write_mod: Write) -> None:
    path = write_mod("wiki", WIKI)
    mods = [
        {"path": path, "config": {"is": "wiki"}},
        {"path": path, "id": "wiki@2", "config": {"is": "wiki@2"}, "audience": {"percent": 10}},
    ]
    async with make_network(mods=mods) as network:
        changed = await network.set_audience("wiki@2", percent=50)
        rules = ". The network file rules at its next start, and says: wiki@2 reaches 10 % of the sources"
        assert changed.message.endswith(rules)
        promoted = await network.promote_mod("wiki@2")
        assert promoted.message.endswith(rules)
        assert await who(network, OUTSIDE[0]) == ["wiki@2"]
    async with make_network(mods=mods) as network:
        assert await who(network, IN_TEN[0], IN_FIFTY[0]) == ["wiki@2", "wiki"]
        assert "The network file" not in (await network.set_audience("wiki@2", percent=10)).message


# -- the network file, read again

FILE = """
network: {{name: n, storage: {storage}}}
agents: {{inbox_size: {size}}}
mods:
  - {{path: ./wiki, config: {{is: wiki}}{first}}}
  - {{path: ./wiki, id: wiki@2, config: {{is: wiki@2}}{second}}}
"""


async def test_a_changed_audience_in_the_file_needs_no_reload(tmp_path: Path, write_mod: Write) -> None:
    write_mod("wiki", WIKI)
    file = tmp_path / "network.yaml"

    def written(first: str = "", second: str = "", size: int = 10) -> Path:
        file.write_text(FILE.format(storage=tmp_path / "state", first=first, second=second, size=size))
        return file

    async with AgentNetwork.load(written(second=", audience: {percent: 10}")) as network:
        pids = {mod: details["pid"] for mod, details in network.get_loaded_mods().items()}
        assert await who(network, IN_TEN[0], IN_FIFTY[0]) == ["wiki@2", "wiki"]
        changes = await network.reconfigure(load_config(written(second=", audience: {percent: 50}")))
        assert {mod: response.message for mod, response in changes.changed.items()} == {
            "wiki@2": "mod wiki@2 reaches 50 % of the sources now"
        }
        assert await who(network, IN_TEN[0], IN_FIFTY[0]) == ["wiki@2", "wiki@2"]

        await network.promote_mod("wiki@2")
        changes = await network.reconfigure(load_config(written(second=", audience: {percent: 50}", size=20)))
        assert changes.changed == {}, "what was done at runtime is not undone because something else was edited"
        assert await who(network, OUTSIDE[0]) == ["wiki@2"]

        both = written(first=", audience: {percent: 40}", second=", audience: {percent: 60}")
        changes = await network.reconfigure(load_config(both))
        assert set(changes.changed) == {"wiki", "wiki@2"}
        assert Counter(await who(network, *OUTSIDE, *IN_TEN)).keys() == {"wiki", "wiki@2"}
        changes = await network.reconfigure(load_config(written()))
        assert changes.success
        assert {mod: details["pid"] for mod, details in network.get_loaded_mods().items()} == pids
        assert await who(network, OUTSIDE[0], IN_TEN[0]) == ["wiki@2", "wiki@2"], "for everybody both: the promoted one"
        await network.rollback_mod("wiki")
        assert await who(network, OUTSIDE[0], IN_FIFTY[0]) == ["wiki", "wiki@2"]


# -- figures


async def test_versions_stand_side_by_side_in_the_stats(network: AgentNetwork, load: Any) -> None:
    await load("wiki")
    assert network.get_network_stats()["families"] == {}
    only = network.get_network_stats()["mods"]["wiki"]
    assert (only["family"], only["audience"], only["reaches"], only["share"]) == ("wiki", None, "everyone", None)
    await who(network, "alice")
    await load("wiki@2", {"percent": 10})
    await who(network, IN_TEN[0], *OUTSIDE[:3])
    stats = network.get_network_stats()
    (family,) = stats["families"].values()
    assert (family["family"], family["default"], family["promotions"]) == ("wiki", "wiki", 0)
    one, two = family["versions"]
    assert (one["mod_id"], one["reaches"], one["share"], one["events_in"]) == ("wiki", "everyone else", 0.75, 4)
    assert (two["mod_id"], two["reaches"], two["share"], two["events_in"]) == ("wiki@2", "10 % of the sources", 0.25, 1)
    assert two["audience"] == {"percent": 10.0, "groups": [], "agents": []}
    assert two["latency_p50_ms"] > 0
    assert stats["mods"]["wiki@2"]["share"] == 0.25
    await network.promote_mod("wiki@2")
    await who(network, *OUTSIDE[:3])
    one, two = network.get_audience("wiki").data["versions"]
    assert (one["reaches"], one["share"], two["reaches"], two["share"]) == ("nobody", 0.0, "everyone", 1.0)
