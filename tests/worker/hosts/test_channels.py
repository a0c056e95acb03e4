"""The channels as a mod of OpenAgents sees them: its own calls at once, the core's word at last."""

from __future__ import annotations

import pytest

from modvisor.worker.hosts.openagents.channels import Call, Channels


class Core:
    """Collects the calls; `make` and `refuse` answer the oldest one as the core does."""

    def __init__(self) -> None:
        self.sent: list[Call] = []
        self.agents = {"alice", "bob"}
        self.channels = Channels(self.sent.append, self.agents.__contains__)

    @property
    def calls(self) -> list[tuple[str, str, str | None]]:
        return [(call.do, call.channel, call.agent_id) for call in self.sent]

    def make(self) -> None:
        """Tell the change, then answer the call."""
        call = self.sent.pop(0)
        if call.do == "join":
            self.channels.told(call.channel, [str(call.agent_id)])
        elif call.do == "leave":
            self.channels.told_leave(call.channel, str(call.agent_id))
        else:
            self.channels.told_close(call.channel)
        self.channels.answered(call)

    def refuse(self) -> None:
        self.channels.answered(self.sent.pop(0))


@pytest.fixture
def core() -> Core:
    return Core()


def test_a_mod_sees_what_it_has_just_added(core: Core) -> None:
    core.channels.told("general", ["zoe"])
    core.channels.add("general", "alice")
    core.channels.add("general", "alice")
    assert core.channels.members("general") == ["zoe", "alice"]
    assert core.calls == [("join", "general", "alice")], "a member is not added twice"
    core.make()
    assert core.channels.members("general") == ["zoe", "alice"]


def test_a_refused_call_is_undone(core: Core) -> None:
    core.channels.told("general", ["alice"])
    core.channels.add("general", "bob")
    core.channels.remove("general", "alice")
    assert core.channels.members("general") == ["bob"]
    core.refuse()
    assert core.channels.members("general") == []
    core.refuse()
    assert core.channels.members("general") == ["alice"]


def test_what_others_do_shows_below_calls_that_are_not_answered_yet(core: Core) -> None:
    core.channels.add("general", "alice")
    core.channels.told("general", ["bob"])
    assert core.channels.members("general") == ["bob", "alice"]
    core.channels.told_leave("general", "bob")
    assert core.channels.members("general") == ["alice"]


def test_an_agent_that_leaves_and_joins_again_goes_to_the_end(core: Core) -> None:
    core.channels.told("general", ["alice", "bob"])
    core.channels.remove("general", "alice")
    core.channels.add("general", "alice")
    assert core.channels.members("general") == ["bob", "alice"]
    core.make()
    core.make()
    assert core.channels.members("general") == ["bob", "alice"]


def test_removing_an_absent_member_is_an_error_as_in_their_network(core: Core) -> None:
    core.channels.remove("nowhere", "alice")
    core.channels.create("general")
    with pytest.raises(ValueError, match="'alice' is not a member of the channel 'general'"):
        core.channels.remove("general", "alice")
    assert core.calls == []


def test_a_channel_without_members_goes_on_for_the_mod(core: Core) -> None:
    core.channels.add("general", "alice")
    core.make()
    core.channels.remove("general", "alice")
    core.make()
    assert core.channels.exists("general")
    assert core.channels.members("general") == []
    core.channels.close("general")
    assert not core.channels.exists("general")
    assert core.calls == [], "the core knows no empty channels"


def test_a_name_that_nobody_has_joins_when_its_agent_registers(core: Core) -> None:
    core.channels.add("general", "carol")
    core.channels.add("general", "dave")
    core.channels.remove("general", "dave")
    assert (core.channels.members("general"), core.calls) == (["carol"], [])
    core.agents.add("carol")
    core.channels.registered("carol")
    assert core.calls == [("join", "general", "carol")]
    core.make()
    assert core.channels.members("general") == ["carol"]
    core.channels.registered("dave")
    assert core.calls == []


def test_a_channel_that_is_closed_and_made_again_begins_empty(core: Core) -> None:
    core.channels.told("general", ["alice"])
    core.channels.add("general", "carol")
    core.channels.close("general")
    core.channels.add("general", "bob")
    assert core.channels.members("general") == ["bob"]
    assert core.calls == [("close", "general", None), ("join", "general", "bob")]
    core.channels.told_close("general")
    core.channels.answered(core.sent.pop(0))
    assert core.channels.members("general") == ["bob"]


def test_an_agent_that_has_left_the_network_is_in_no_channel(core: Core) -> None:
    core.channels.told("general", ["alice"])
    core.channels.add("general", "carol")
    core.channels.gone("alice")
    core.channels.gone("carol")
    assert core.channels.members("general") == []


def test_only_channels_that_are_gone_come_back_from_a_state(core: Core) -> None:
    core.channels.add("mine", "alice")
    core.make()
    core.channels.create("empty")
    state = core.channels.created()
    assert state == {"mine": ["alice"], "empty": []}
    other = Core()
    other.channels.told("mine", ["bob"])  # somebody has changed it since
    other.channels.restore({**state, "closed": ["alice", "gone"]})
    assert other.channels.members("mine") == ["bob"]
    assert other.channels.members("closed") == ["alice"]
    assert other.channels.exists("empty")
    assert other.calls == [("join", "closed", "alice")]


def test_what_is_over_is_forgotten(core: Core) -> None:
    for number in range(100):
        core.channels.told(f"channel{number}", ["alice"])
        core.channels.told_leave(f"channel{number}", "alice")
    assert core.channels._channels == {}
