"""A mirror of agents and channels is true at every moment, whatever happens while it is sent and afterwards."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modvisor.ipc.errors import ModvisorError
from modvisor.supervisor.agents import AgentRegistry, Mirror
from modvisor.supervisor.agents.mirrors import PAGE, PAGE_WEIGHT, Page
from modvisor.supervisor.config import AgentsConfig, GroupConfig
from tests.agents.mirrored import Copy, original
from tests.agents.registries import Registry

GROUPS = {"staff": GroupConfig("staff"), "crew": GroupConfig("crew")}


def network(agents: int = 0, **config: Any) -> Registry:
    registry = Registry(GROUPS, **config)
    for number in range(agents):
        registry.register(f"a{number}", {"n": number}, group="staff" if number % 2 else None, trusted=True)
    return registry


def test_a_small_network_is_one_page() -> None:
    agents = network(3)
    agents.join("general", "a1")
    agents.join("general", "a0")
    [[page]] = Mirror(agents, lambda _changes: None).pages()
    assert page == {
        "agents": [
            {"agent_id": "a0", "metadata": {"n": 0}, "group": None},
            {"agent_id": "a1", "metadata": {"n": 1}, "group": "staff"},
            {"agent_id": "a2", "metadata": {"n": 2}, "group": None},
        ],
        "channels": {"general": ["a1", "a0"]},
        "groups": {"staff": ["a1"]},
        "last": True,
    }


def test_a_page_has_an_end() -> None:
    agents = network(2 * PAGE + 1, metadata_bytes=PAGE_WEIGHT)
    for number in range(PAGE + 1):
        agents.join("large", f"a{number}")
    heavy = {"text": "x" * (PAGE_WEIGHT // 2)}
    for name in ("b0", "b1", "b2"):
        agents.register(name, heavy, trusted=True)
    pages = [page for step in Mirror(agents, lambda _changes: None).pages() for page in step]
    assert [page["last"] for page in pages] == [False] * (len(pages) - 1) + [True]
    sizes = [len(page["agents"]) + sum(map(len, page["channels"].values())) for page in pages]
    assert max(sizes) == PAGE
    weights = [sum(len(agent["metadata"].get("text", "")) for agent in page["agents"]) for page in pages]
    assert sorted(weights)[-3:] == [PAGE_WEIGHT // 2] * 3
    assert original(agents) == held(Copy.of(agents))


def held(copy: Copy) -> tuple[dict[str, Any], dict[str, list[str]]]:
    return copy.agents, copy.channels


def test_each_change_is_told_when_it_happens() -> None:
    agents = network(2)
    copy = Copy.of(agents)
    agents.join("general", "a0")
    agents.join("general", "a1")
    agents.register("a0", {"n": 7}, group="crew", trusted=True)
    agents.leave("general", "a0")
    agents.join("other", "a0")
    agents.remove_channel("general")
    agents.unregister("a0")
    assert copy.changes == [
        ["join", "general", "a0"],
        ["join", "general", "a1"],
        ["agent", "a0", {"n": 7}, "crew"],
        ["leave", "general", "a0"],
        ["join", "other", "a0"],
        ["close", "general"],
        ["leave", "other", "a0"],
        ["gone", "a0"],
    ]
    assert held(copy) == original(agents)


def test_what_changes_nothing_is_not_told() -> None:
    agents = network(1)
    agents.join("general", "a0")
    copy = Copy.of(agents)
    agents.join("general", "a0")
    agents.leave("general", "a1")
    assert agents.unregister("a1") is None
    for refused in (lambda: agents.join("general", "nobody"), lambda: agents.join("a b", "a0")):
        with pytest.raises(ModvisorError):
            refused()
    assert copy.changes == []


def test_what_the_journal_restores_is_told() -> None:
    agents, kept = network(), network(2)
    copy = Copy.of(agents)
    agents.restore(list(kept), {"general": ["a1", "nobody", "a0"]})
    assert (
        held(copy)
        == original(agents)
        == ({"a0": ({"n": 0}, None), "a1": ({"n": 1}, "staff")}, {"general": ["a1", "a0"]})
    )


def followed(agents: AgentRegistry, send: Callable[[list[Any]], None]) -> Mirror:
    """Make a mirror that has been sent as a whole, and is told every change."""
    mirror = Mirror(agents, send)
    agents.mirrors.add(mirror)
    assert list(mirror.pages())
    return mirror


def test_no_more_is_told_to_a_mirror_that_was_removed() -> None:
    agents = network(1)
    told: list[Any] = []
    mirror = followed(agents, told.append)
    agents.join("general", "a0")
    agents.mirrors.remove(mirror)
    agents.mirrors.remove(mirror)
    agents.leave("general", "a0")
    assert (told, len(agents.mirrors)) == ([[["join", "general", "a0"]]], 0)


def test_a_mirror_that_breaks_while_it_is_told_may_remove_itself_and_others() -> None:
    agents = network(1)
    mirrors: list[Mirror] = []

    def breaks(_changes: Any) -> None:
        for each in mirrors:
            agents.mirrors.remove(each)

    mirrors += [followed(agents, breaks) for _ in range(3)]
    agents.join("general", "a0")
    assert len(agents.mirrors) == 0


class Disk:
    """A journal that says later whether a change was kept."""

    def __init__(self) -> None:
        self.waiting: list[asyncio.Future[None]] = []
        self.is_full = False

    def __call__(self, _what: str, change: Callable[[], Any]) -> tuple[Any, asyncio.Future[None]]:
        if self.is_full:
            raise OSError("full")
        saved: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        result = change()
        self.waiting.append(saved)
        return result, saved

    async def settle(self, *, fail: bool) -> None:
        for saved in self.waiting:
            if fail:
                saved.set_exception(OSError("no space left"))
                saved.exception()
            else:
                saved.set_result(None)
        self.waiting.clear()
        for _ in range(3):
            await asyncio.sleep(0)


@pytest.mark.anyio
async def test_a_change_that_could_not_be_kept_is_told_as_its_opposite() -> None:
    disk = Disk()
    agents = AgentRegistry(AgentsConfig(), GROUPS, lambda _kind, _data: None, commit=disk)
    agents.register("a0", {}, trusted=True)
    agents.join("general", "a0")
    before = original(agents)
    copy = Copy.of(agents)
    for change, told in (
        (lambda: agents.join("other", "a0"), [["join", "other", "a0"], ["leave", "other", "a0"]]),
        (lambda: agents.leave("general", "a0"), [["leave", "general", "a0"], ["join", "general", "a0"]]),
        (lambda: agents.remove_channel("general"), [["close", "general"], ["join", "general", "a0"]]),
        (lambda: agents.register("new", {}, trusted=True), [["agent", "new", {}, None], ["gone", "new"]]),
        (
            lambda: agents.register("a0", {"n": 1}, group="crew", trusted=True),
            [["agent", "a0", {"n": 1}, "crew"], ["agent", "a0", {}, None]],
        ),
        (
            lambda: agents.unregister("a0"),
            [["leave", "general", "a0"], ["gone", "a0"], ["agent", "a0", {}, None], ["join", "general", "a0"]],
        ),
    ):
        copy.changes.clear()
        _, saved = agents.begin(change)
        assert saved is not None
        await disk.settle(fail=True)
        assert copy.changes == told
        assert held(copy) == original(agents) == before


@pytest.mark.anyio
async def test_nothing_is_told_in_the_middle_of_a_change() -> None:
    disk = Disk()
    agents = AgentRegistry(AgentsConfig(), GROUPS, lambda _kind, _data: None, commit=disk)
    agents.register("a0", {}, trusted=True)
    for number in range(5):
        agents.join(f"c{number}", "a0")
    told: list[list[Any]] = []
    followed(agents, lambda changes: told.append([len(disk.waiting), len(changes)]))
    agents.begin(lambda: agents.unregister("a0"))
    assert told == [[1, 6]], "one message, after the journal has it"
    disk.is_full = True
    with pytest.raises(OSError, match="full"):
        agents.begin(lambda: agents.register("b", {}, trusted=True))
    assert told == [[1, 6]]
    disk.is_full = False
    await disk.settle(fail=False)


# -- whatever happens

IDS = [f"a{number}" for number in range(6)]
CHANNELS = ["c0", "c1", "c2"]
MOVES = st.one_of(
    st.tuples(st.just("register"), st.sampled_from(IDS), st.sampled_from([None, "staff", "crew"])),
    st.tuples(st.just("unregister"), st.sampled_from(IDS)),
    st.tuples(st.just("join"), st.sampled_from(CHANNELS), st.sampled_from(IDS)),
    st.tuples(st.just("leave"), st.sampled_from(CHANNELS), st.sampled_from(IDS)),
    st.tuples(st.just("remove"), st.sampled_from(CHANNELS)),
    st.tuples(st.just("page")),
    st.tuples(st.just("settle"), st.booleans()),
)


@given(st.lists(MOVES, max_size=25), st.lists(MOVES, max_size=40))
def test_a_copy_is_true_whatever_happens_while_it_is_sent(before: list[Any], after: list[Any]) -> None:
    asyncio.run(_a_copy_is_true(before, after))


async def _a_copy_is_true(before: list[Any], after: list[Any]) -> None:
    disk = Disk()
    agents = AgentRegistry(AgentsConfig(), GROUPS, lambda _kind, _data: None, commit=disk)
    number = 0

    async def make(move: Any) -> None:
        nonlocal number
        number += 1
        match move:
            case "register", agent_id, group:
                agents.begin(lambda: agents.register(agent_id, {"n": number}, group=group, trusted=True))
            case "unregister", agent_id:
                agents.begin(lambda: agents.unregister(agent_id))
            case "join", channel, agent_id:
                agents.begin(lambda: agents.join(channel, agent_id))
            case "leave", channel, agent_id:
                agents.begin(lambda: agents.leave(channel, agent_id))
            case "remove", channel:
                agents.begin(lambda: agents.remove_channel(channel))
            case "settle", fail:
                await disk.settle(fail=fail)

    for move in before:
        with suppress(ModvisorError):
            await make(move)
    copy = Copy()
    mirror = Mirror(agents, copy.change)
    agents.mirrors.add(mirror)
    steps = _in_small_steps(mirror)
    for move in after:
        if move[0] == "page":
            _put(next(steps, []), copy)
        else:
            with suppress(ModvisorError):
                await make(move)
            if copy.is_complete:
                assert held(copy) == original(agents)
    for step in steps:
        _put(step, copy)
    assert copy.is_complete
    assert held(copy) == original(agents)
    await disk.settle(fail=True)
    assert held(copy) == original(agents)


def _in_small_steps(mirror: Mirror) -> Iterator[list[Page]]:
    """Send one agent or membership on a page, so that much can happen in between."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("modvisor.supervisor.agents.mirrors.PAGE", 1)
        yield from mirror.pages()


def _put(step: list[Page], copy: Copy) -> None:
    for page in step:
        copy.page(page)
