"""Events are pushed as an agent gives credit, and again after a broken connection; who does not read costs its inbox."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from websockets.frames import Frame, Opcode

from modvisor.supervisor import AgentNetwork, Event
from modvisor.supervisor.http.agents import codec
from modvisor.supervisor.http.websocket.outgoing import FRAGMENT
from modvisor.supervisor.http.websocket.socket import MOST_UNTAKEN
from tests.conftest import until
from tests.http.serving import TALKER, Served, serving, shared_network
from tests.http.websocket.talking import JSON, MSGPACK, Talk, sockets_of, talking

pytestmark = pytest.mark.anyio

Make = Callable[..., AgentNetwork]


@pytest.fixture(scope="module")
async def shared(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Served]:
    folder: Path = tmp_path_factory.mktemp("push")
    agents = {"inbox_size": 30, "inbox_bytes": 8_000_000}
    async with shared_network(folder, {"talker": TALKER}, agents=agents, http={"ws_credit": 10}) as served:
        yield served


async def tell(served: Served, count: int, start: int = 0, to: str = "alice", **payload: Any) -> None:
    for number in range(start, start + count):
        event = Event("chat.message", "system:system", to, payload={"i": number, **payload})
        assert (await served.network.process_event(event)).success


def numbers(events: list[tuple[str, Any]]) -> list[int]:
    return [payload["i"] for _, payload in events]


@pytest.mark.parametrize("form", [JSON, MSGPACK])
async def test_what_is_not_acked_comes_again_and_what_is_never_does(served: Served, form: str) -> None:
    async with talking(served, form) as alice:
        welcome = await alice.register("alice")
        await tell(served, 5)
        first = await alice.events(5)
        assert numbers(first) == [0, 1, 2, 3, 4]
        await alice.say("ack", cursor=first[1][0])
        await alice.ask("ping")
    await tell(served, 2, start=5)
    async with talking(served, form) as again:
        resumed = await again.ask("resume", agent_id="alice", secret=alice.secret, cursor=first[2][0])
        assert (resumed["resumed"], resumed["cursor"]) == (True, first[2][0])
        events = await again.events(4)
        assert (events[:2], numbers(events)) == (first[3:], [3, 4, 5, 6])
    async with talking(served, form) as once_more:
        fresh = await once_more.ask("resume", agent_id="alice", secret=alice.secret)
        assert (fresh["resumed"], numbers(await once_more.events(4))) == (False, [3, 4, 5, 6])
    assert welcome["cursor"].partition(".")[0] == first[0][0].partition(".")[0]


async def test_an_ack_right_before_the_close_is_heard(served: Served) -> None:
    async with talking(served) as alice:
        await alice.register("alice")
        await tell(served, 2)
        [(cursor, _), *_] = await alice.events(2)
        ack = Frame(Opcode.TEXT, json.dumps({"type": "ack", "cursor": cursor}).encode())
        close = Frame(Opcode.CLOSE, (1000).to_bytes(2, "big"))
        alice.socket.transport.write(ack.serialize(mask=True) + close.serialize(mask=True))
        assert (await alice.closed())[0] == 1000
    async with talking(served) as again:
        await again.ask("resume", agent_id="alice", secret=alice.secret)
        assert numbers(await again.events(1)) == [1]


async def test_no_more_is_pushed_than_there_is_credit_and_a_poll_takes_the_rest(served: Served) -> None:
    async with talking(served) as alice:
        await alice.register("alice", credit=2)
        await tell(served, 6)
        await alice.events(2)
        await alice.say("credit", events=1)
        await alice.events(3)
        await alice.ask("ping")
        assert len(alice.pushed) == 3
        polled = await served.poll("alice", alice.secret)
        assert [message["payload"]["i"] for message in polled["messages"]] == [3, 4, 5]


async def test_credit_is_cut_off_at_what_the_file_allows(served: Served) -> None:
    async with talking(served) as alice:
        assert (await alice.register("alice", credit=1000))["limits"]["credit"] == 10
        await tell(served, 15)
        await alice.events(10)
        await alice.ask("ping")
        assert len(alice.pushed) == 10


async def test_who_never_acks_loses_what_its_inbox_cannot_take_and_is_told(served: Served) -> None:
    async with talking(served) as alice:
        await alice.register("alice", credit=10)
        await tell(served, 10)
        await alice.events(10)
        await tell(served, 25, start=10)
        await alice.say("credit", events=10)
        dropped = await alice.hear("dropped")
        assert (dropped["events"], dropped["sources"]) == (5, {"system:system": 5})
        await alice.events(20)
        assert numbers(await alice.events(20)) == [*range(10), *range(15, 25)]


async def test_an_event_that_json_cannot_carry_has_its_place(served: Served) -> None:
    async with talking(served) as alice, talking(served, MSGPACK) as bob:
        await alice.register("alice")
        await bob.register("bob")
        for to in ("alice", "bob"):
            event = Event("chat.message", "system:system", to, payload={"inner": {b"key": 1}})
            assert (await served.network.process_event(event)).success
        await tell(served, 1)
        await alice.hear("events")
        assert "undeliverable" in alice.pushed[0][1]
        assert alice.pushed[0][1]["undeliverable"]["event_name"] == "chat.message"
        assert (await bob.events(1))[0][1] == {"inner": {b"key": 1}}


async def test_a_large_message_travels_in_pieces_between_which_pings_pass(served: Served) -> None:
    """Both ways, and the answer comes while another large one is on its way."""
    text = "x" * 3_000_000
    async with talking(served, MSGPACK) as alice, talking(served) as bob:
        await alice.register("alice")
        await bob.register("bob")
        await alice.say("send", id=7, event={"event_name": "test.ping", "payload": {"i": text}})
        pieces = [piece async for piece in alice.socket.recv_streaming()]
        assert len(pieces) > 3_000_000 // FRAGMENT
        assert max(map(len, pieces)) <= FRAGMENT
        assert (await alice.send("chat.message", "bob", payload={"text": text}))["success"]
        assert (await bob.events(1))[0][1] == {"text": text}

        async def in_pieces() -> AsyncIterator[str]:
            message = {"type": "send", "id": 8, "event": {"event_name": "test.ping", "payload": {"i": text}}}
            whole = json.dumps(message)
            for begin in range(0, len(whole), 500_000):
                yield whole[begin : begin + 500_000]
                await (await bob.socket.ping())

        await bob.socket.send(in_pieces())
        assert (await bob.hear("response"))["data"]["i"] == text


async def test_many_agents_get_one_event_that_is_encoded_once(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    encoded: list[str] = []
    original = codec.event_to
    monkeypatch.setattr(codec, "event_to", lambda event: encoded.append(event.event_name) or original(event))
    async with talking(served) as alice, talking(served) as bob:
        await alice.register("alice")
        await bob.register("bob")
        await tell(served, 1, to="agent:broadcast")
        assert numbers(await alice.events(1)) == numbers(await bob.events(1)) == [0]
    assert encoded == ["chat.message"]


@contextmanager
def deaf(talk: Talk) -> Iterator[None]:
    """Have the client read nothing inside the block, which ends its connection."""
    talk.socket.transport.pause_reading()
    yield
    talk.socket.transport.abort()


async def is_heard_out(talk: Talk, frames: bytes) -> bool:
    """Send this again and again, and return whether the network reads all of it."""
    for _ in range(400):
        talk.socket.transport.write(frames)
        if talk.socket.transport.get_write_buffer_size() > 200_000:
            return False
        await asyncio.sleep(0)
    return True


async def test_who_does_not_read_costs_its_inbox_and_one_piece(served: Served) -> None:
    async with talking(served) as alice:
        await alice.register("alice", credit=10)
        [mine] = sockets_of(served)
        with deaf(alice):
            await tell(served, 10, text="x" * 700_000)
            await until(lambda: not mine.outgoing.is_clear)
            async with talking(served) as bob:
                await bob.register("bob")
                await tell(served, 5, to="bob")
                assert numbers(await bob.events(5)) == [0, 1, 2, 3, 4]
            # One message may be in pieces; of what is written, the transport holds a piece at most.
            assert mine.outgoing.owed < 700_000 + 2 * FRAGMENT


async def test_who_does_not_read_is_not_listened_to_for_ever(served: Served) -> None:
    ping = Frame(Opcode.PING, b"x" * 100).serialize(mask=True)
    async with talking(served) as alice:
        await alice.register("alice")
        [mine] = sockets_of(served)
        with deaf(alice):
            assert not await is_heard_out(alice, ping * 1000), "every ping is answered into the network's memory"
            assert mine.outgoing.owed < 2 * MOST_UNTAKEN


async def test_a_thousand_small_frames_at_once_leave_the_loop_to_others(served: Served) -> None:
    async with talking(served) as alice, talking(served) as bob:
        await alice.register("alice")
        await bob.register("bob")
        ping = Frame(Opcode.PING, b"").serialize(mask=True)
        alice.socket.transport.write(ping * 2000)
        await alice.say("ping", id=5)
        await bob.ask("ping")
        assert (await alice.hear("pong"))["id"] == 5


async def test_the_end_of_a_connection_ends_what_it_pushed(make_network: Make) -> None:
    async with serving(make_network({"port": 0})) as served:
        async with talking(served) as alice:
            await alice.register("alice")
            assert served.network._parts is not None
            agent = served.network._parts.agents.get("alice")
            assert agent is not None
            assert (agent.stream is not None, agent.polling) == (True, 1)
            alice.socket.transport.abort()
            await until(lambda: agent.stream is None)
        assert (agent.polling, sockets_of(served)) == (0, [])
