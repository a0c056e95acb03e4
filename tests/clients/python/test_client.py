"""An agent over the client and the network itself: sends, requests, events, leaving."""

from __future__ import annotations

import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import pytest

from modvisor.supervisor import AgentNetwork
from modvisor_client import AgentClient, Event, errors
from tests.http.serving import Served
from tests.ports import free_port

from .conftest import GROUPS, PASSWORD

pytestmark = pytest.mark.anyio


def agent(served: Served, agent_id: str, **more: Any) -> AgentClient:
    return AgentClient(f"http://127.0.0.1:{served.network.port}", agent_id, **more)


async def test_connects_and_leaves(served: Served) -> None:
    async with agent(served, "ann", metadata={"name": "Ann"}) as me:
        assert me.is_connected
        assert me.network_name == "test"
        assert [found["name"] for found in await me.agents()] == ["Ann"]
        assert [mod["mod_id"] for mod in await me.mods()] == ["talker", "wiki"]
    assert not me.is_connected
    assert not served.network.agent_directory()
    with pytest.raises(errors.Closed, match="ann has left"):
        await me.send("test.ping")


async def test_send_is_answered(served: Served) -> None:
    async with agent(served, "ann") as me:
        answer = await me.send("test.ping", {"i": 7}, event_id="e1")
        assert (answer.success, answer.message, answer.data) == (True, "pong", {"i": 7, "from": "ann"})
        assert (answer.event_id, answer.event_name, answer.error) == ("e1", "test.ping", None)
        failed = await me.send("test.ping", to="mod:nobody")
        assert (failed.success, failed.error) == (False, "no_such_mod")
        wrong = await me.send("Wrong Name")
        assert wrong.error == "invalid_event"
        with pytest.raises(errors.BadUse, match="colour: no field of an event"):
            await me.send("test.ping", colour="red")


async def test_request_returns_the_data_or_raises_the_typed_error(served: Served) -> None:
    async with agent(served, "ann") as me:
        assert await me.request("test.ping", {"i": 1}) == {"i": 1, "from": "ann"}
        with pytest.raises(errors.NoSuchMod) as caught:
            await me.request("test.ping", to="mod:nobody")
        assert caught.value.data["error"] == "no_such_mod"
        with pytest.raises(errors.HandlerError, match="the handler failed"):
            await me.request("test.raise", to="mod:talker")
        with pytest.raises(errors.Timeout):
            await me.request("test.hold", timeout=0.05)


async def test_many_sends_at_once(served: Served) -> None:
    async with agent(served, "ann") as me:
        found: list[int] = []

        async def ask(i: int) -> None:
            found.append((await me.request("test.ping", {"i": i}))["i"])

        async with anyio.create_task_group() as tasks:
            for i in range(300):
                tasks.start_soon(ask, i)
    assert sorted(found) == [*range(300)]


async def test_values_of_msgpack_arrive_as_they_are(served: Served) -> None:
    async with agent(served, "ann") as ann, agent(served, "bob") as bob:
        mail = bob.events("test.bytes")
        payload = {"bytes": bytes(range(256)), "float": 0.1, "deep": [{"x": None}], "int": 2**63}
        await ann.send("test.bytes", payload, to="bob")
        event = await mail.next(5)
        assert (event.payload, event.source_id) == (payload, "ann")
        assert (await ann.request("test.values"))["bytes"] == b"hi"


async def test_events_by_pattern(served: Served) -> None:
    async with agent(served, "ann") as ann, agent(served, "bob") as bob:
        chat, everything = bob.events("chat.*"), bob.events()
        for name in ("chat.one", "wiki.page", "chat.two"):
            await ann.send(name, {"text": name}, to="bob")
        assert [(await everything.next(5)).event_name for _ in range(3)] == ["chat.one", "wiki.page", "chat.two"]
        seen: list[str | None] = []
        async for event in chat:
            seen.append(event.text)
            if len(seen) == 2:
                break
        assert seen == ["chat.one", "chat.two"]
        with pytest.raises(TimeoutError):
            await everything.next(0.01)


async def test_events_that_come_before_anybody_listens_wait(served: Served) -> None:
    async with agent(served, "ann") as ann, agent(served, "bob") as bob:
        await ann.send("chat.one", to="bob")
        await bob.send("test.ping")  # so the event has come
        wiki, chat = bob.events("wiki.*"), bob.events("chat.*")
        assert (await chat.next(5)).event_name == "chat.one"
        await ann.send("news.today", to="bob")
        await ann.send("wiki.page", to="bob")
        assert (await wiki.next(5)).event_name == "wiki.page"
        assert bob.unclaimed == 1


async def test_handlers_by_pattern(served: Served) -> None:
    seen: list[str] = []
    done = anyio.Event()
    bob = agent(served, "bob")

    @bob.on("chat.*", "news.*")
    async def read(event: Event) -> None:
        seen.append(f"async {event.event_name}")

    @bob.on("wiki.*")
    def plain(event: Event) -> None:
        seen.append(f"plain {event.event_name}")
        anyio.from_thread.run_sync(done.set)

    async with bob, agent(served, "ann") as ann:
        for name in ("chat.one", "news.today", "other.thing", "wiki.page"):
            await ann.send(name, to="bob")
        with anyio.fail_after(5):
            await done.wait()
    assert sorted(seen) == ["async chat.one", "async news.today", "plain wiki.page"]


async def test_an_agent_answers_the_request_of_another_one(served: Served, caplog: pytest.LogCaptureFixture) -> None:
    async with agent(served, "ann") as ann, agent(served, "bob") as bob:

        @bob.on("math.*", concurrency=2)
        async def add(event: Event) -> Any:
            if event.event_name == "math.fail":
                raise ValueError("no such sum")
            if event.event_name == "math.refuse":
                raise errors.Forbidden("not for you")
            return {"sum": sum(event.payload["of"])}

        assert await ann.request("math.add", {"of": [1, 2]}, to="bob") == {"sum": 3}
        with pytest.raises(errors.HandlerError, match="ValueError: no such sum"):
            await ann.request("math.fail", to="bob")
        with pytest.raises(errors.Forbidden, match="not for you"):
            await ann.request("math.refuse", to="agent:bob")
        with pytest.raises(errors.Timeout, match=r"no answer to other\.thing from bob within 0\.05 s"):
            await ann.request("other.thing", to="bob", timeout=0.05)
        with pytest.raises(errors.NoSuchAgent):
            await ann.request("math.add", to="carol")
        await ann.join("alone")
        with pytest.raises(errors.NoSuchAgent, match="reached no agent"):
            await ann.request("math.add", to="channel:alone")
    assert "the handler of math.fail failed" in caplog.text


async def test_a_handler_works_on_one_event_at_a_time_unless_it_says_more(served: Served) -> None:
    async with agent(served, "ann") as ann, agent(served, "bob") as bob:
        running, most, over = {"one": 0, "two": 0}, {"one": 0, "two": 0}, anyio.Event()

        async def work(event: Event) -> None:
            key = event.event_name.split(".")[1]
            running[key] += 1
            most[key] = max(most[key], running[key])
            await bob.send("test.ping")
            running[key] -= 1
            if event.payload.get("last"):
                over.set()

        bob.on("work.one")(work)
        bob.on("work.two", concurrency=3)(work)
        async with anyio.create_task_group() as tasks:
            for _ in range(6):
                tasks.start_soon(ann.send, "work.two", {})
                tasks.start_soon(lambda: ann.send("work.two", to="bob"))
                tasks.start_soon(lambda: ann.send("work.one", to="bob"))
        await ann.send("work.one", {"last": True}, to="bob")
        with anyio.fail_after(5):
            await over.wait()
    assert most["one"] == 1
    assert 1 < most["two"] <= 3


async def test_subscriptions_and_channels(served: Served) -> None:
    async with agent(served, "ann") as ann, agent(served, "bob") as bob:
        await bob.join("general")
        await ann.join("general")
        assert sorted(await ann.members("general")) == ["ann", "bob"]
        number = await bob.subscribe("chat.*")
        mail = bob.events()
        await ann.send("news.today", to="channel:general")
        await ann.send("chat.one", to="channel:general")
        assert (await mail.next(5)).event_name == "chat.one"
        await bob.unsubscribe(number)
        await bob.part("general")
        assert await ann.members("general") == ["ann"]
        with pytest.raises(errors.NoSuchChannel):
            await ann.members("nowhere")


async def test_a_private_channel_is_its_members_alone(served: Served) -> None:
    async with agent(served, "ann") as ann, agent(served, "bob") as bob, agent(served, "eve") as eve:
        await ann.create_channel("cabal", private=True)
        await ann.add_member("cabal", "bob")
        assert sorted(await bob.members("cabal")) == ["ann", "bob"]
        with pytest.raises(errors.NoSuchChannel):
            await eve.members("cabal")
        assert (await eve.send("chat.message", to="channel:cabal")).error == "no_such_channel"
        mail = bob.events()
        await ann.send("chat.message", {"text": "psst"}, to="channel:cabal")
        assert (await mail.next(5)).text == "psst"


async def test_an_invite_lets_an_agent_in(make_network: Callable[..., AgentNetwork], tmp_path: Path) -> None:
    network = make_network({"port": 0}, agents={"registration": "invite"})
    await network.initialize()
    url = f"http://127.0.0.1:{network.port}"
    for invite in (None, "inv-nothing"):
        with pytest.raises(errors.Unauthenticated):
            async with AgentClient(url, "ann", invite=invite):
                pass
    code = (await network.make_invite(agent="ann")).data["invite"]
    async with AgentClient(url, "ann", invite=code, secret_file=tmp_path / "secret") as me:
        assert me.is_connected
    async with AgentClient(url, "ann", secret_file=tmp_path / "secret", leave=True):
        pass
    with pytest.raises(errors.Unauthenticated):
        async with AgentClient(url, "ann", invite=code):
            pass


async def test_group_with_password(served: Served) -> None:
    async with agent(served, "ann", group="crew", password=PASSWORD) as me:
        assert me.group == "crew"
    async with agent(served, "ann", password_hash=GROUPS["crew"]["password_hash"]) as me:
        assert me.group == "crew"


async def test_wrong_password_is_refused(served: Served) -> None:
    with pytest.raises(errors.Unauthenticated):
        async with agent(served, "ann", group="crew", password="guess"):
            pass
    assert not served.network.agent_directory()


async def test_an_id_that_is_taken_is_refused(served: Served) -> None:
    async with agent(served, "ann"):
        with pytest.raises(errors.IdTaken, match="'ann' is taken"):
            async with agent(served, "ann"):
                pass


async def test_resumes_with_its_secret_file_of_mode_0600(served: Served, tmp_path: Path) -> None:
    path = tmp_path / "ann.secret"
    async with agent(served, "ann", secret_file=path) as me:
        first = me.secret
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert path.read_text().strip() == first
    assert "ann" in served.network.agent_directory(), "it comes back, so it stays"
    async with agent(served, "bob") as bob:
        await bob.send("chat.one", to="ann")
    async with agent(served, "ann", secret_file=path) as me:
        assert me.secret == first
        assert (await me.events().next(5)).event_name == "chat.one"
        await me.unregister()
    assert not path.exists()
    assert not served.network.agent_directory()


async def test_an_agent_that_the_network_forgot_gets_a_new_secret(served: Served, tmp_path: Path) -> None:
    path = tmp_path / "ann.secret"
    async with agent(served, "ann", secret_file=path) as me:
        first = me.secret
    await served.forget_agents()
    async with agent(served, "ann", secret_file=path, leave=True) as me:
        assert me.secret != first
        assert (await me.send("test.ping")).success


async def test_unregister_frees_the_id_and_ends_the_connection(served: Served) -> None:
    async with agent(served, "ann") as me:
        stream = me.events()
        await me.unregister()
        assert [event async for event in stream] == []
        with pytest.raises(errors.Closed):
            await me.send("test.ping")
        async with agent(served, "ann"):
            pass


async def test_close_ends_iterators_and_what_they_have_not_seen_stays_in_the_inbox(
    served: Served, tmp_path: Path
) -> None:
    path = tmp_path / "bob.secret"
    async with agent(served, "ann") as ann:
        async with agent(served, "bob", secret_file=path) as bob:
            mail = bob.events()
            for name in ("chat.one", "chat.two"):
                await ann.send(name, to="bob")
            assert (await mail.next(5)).event_name == "chat.one"
        with pytest.raises(errors.Closed):
            await bob.send("test.ping")
        async with agent(served, "bob", secret_file=path) as bob:
            assert (await bob.events().next(5)).event_name == "chat.two"


async def test_an_event_whose_handling_failed_with_the_program_comes_again(served: Served, tmp_path: Path) -> None:
    path = tmp_path / "bob.secret"

    async def fail() -> None:
        async with agent(served, "bob", secret_file=path) as bob:
            await ann.send("chat.one", to="bob")
            async for _ in bob.events():
                raise RuntimeError("in the middle")

    async with agent(served, "ann") as ann:
        with pytest.raises(RuntimeError, match="in the middle"):
            await fail()
        async with agent(served, "bob", secret_file=path) as bob:
            assert (await bob.events().next(5)).event_name == "chat.one"


async def test_a_handler_may_end_its_event_when_the_client_is_closed(served: Served, tmp_path: Path) -> None:
    path, ended, began = tmp_path / "bob.secret", [], anyio.Event()
    async with agent(served, "ann") as ann:
        async with agent(served, "bob", secret_file=path) as bob:

            @bob.on("chat.*")
            async def work(event: Event) -> None:
                began.set()
                await bob.send("test.ping")
                ended.append(event.event_name)

            for name in ("chat.one", "chat.two"):
                await ann.send(name, to="bob")
            await began.wait()
        assert ended == ["chat.one"]
        async with agent(served, "bob", secret_file=path) as bob:
            assert (await bob.events().next(5)).event_name == "chat.two"


async def test_who_does_not_read_gets_no_more_than_the_credit(served: Served) -> None:
    async with agent(served, "ann") as ann, agent(served, "bob", window=4) as bob:
        mail = bob.events()
        for i in range(20):
            await ann.send("chat.count", {"i": i}, to="bob")
        await bob.send("test.ping")
        assert len(mail._box.queue) == 4
        assert [(await mail.next(5)).payload["i"] for _ in range(20)] == [*range(20)]


async def test_large_payload_and_files(served: Served, tmp_path: Path) -> None:
    path = tmp_path / "model.bin"
    path.write_bytes(bytes(range(256)) * 8192)  # 2 MB
    async with agent(served, "ann") as ann, agent(served, "bob") as bob:
        mail = bob.events()
        large = {"text": "é" * 700_000, "rows": [{"i": i, "x": "y" * 50} for i in range(10_000)], "b": b"z" * 300_000}
        assert (await ann.send("chat.large", large, to="bob")).success
        assert (await mail.next(10)).payload == large
        assert (await ann.send("chat.file", {"name": "model"}, to="bob", files={"data": path})).delivered == 1
        event = await mail.next(10)
        assert event.payload == {"name": "model", "data": path.read_bytes()}
        with pytest.raises(errors.BadUse, match="No such file"):
            await ann.send("chat.file", to="bob", files={"data": tmp_path / "nothing"})
        sent = await ann.request("test.ping", {"i": 1, "large": "x" * 1_500_000})
        assert sent["i"] == 1


async def test_what_is_too_large_for_the_network_is_refused_and_the_client_goes_on(
    served: Served, tmp_path: Path
) -> None:
    path = tmp_path / "huge"
    with path.open("wb") as file:
        file.truncate(65 * 1024 * 1024)
    async with agent(served, "ann") as me:
        refused = await me.send("chat.file", to="ann", files={"data": path})
        assert (refused.success, refused.error) == (False, "too_large")
        with pytest.raises(errors.TooLarge):
            await me.request("chat.file", to="ann", files={"data": path})
        assert (await me.send("test.ping")).success


async def test_network_gone_before_the_first_connect_times_out() -> None:
    with pytest.raises(errors.Unreachable, match="no network answers at"):
        async with AgentClient(f"http://127.0.0.1:{free_port()}", "ann", connect_timeout=0.05):
            pass


async def test_an_address_of_something_else_is_told_at_once(served: Served, tmp_path: Path) -> None:
    url = f"http://127.0.0.1:{served.network.port}/elsewhere"
    with pytest.raises(errors.NotFound):
        async with AgentClient(url, "ann"):
            pass


async def test_a_client_is_for_one_connection(served: Served) -> None:
    me = agent(served, "ann")
    with pytest.raises(errors.Closed, match="use it inside 'async with"):
        await me.send("test.ping")
    async with me:
        pass
    with pytest.raises(errors.BadUse, match="was opened before"):
        async with me:
            pass
