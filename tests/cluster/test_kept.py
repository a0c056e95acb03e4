"""What a node of a cluster keeps in JetStream: the contract of the journal, and what only a cluster must hold."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import anyio
import pytest
from nats.js.errors import APIError

from modvisor.ipc.errors import Code, ModvisorError
from modvisor.supervisor.cluster.kept.fenced import EXPECTED, EXPECTED_OF, Conflict
from modvisor.supervisor.cluster.kept.journal import ClusterJournal
from modvisor.supervisor.cluster.link import Link, LinkDown, NoQuorum
from modvisor.supervisor.cluster.link.wire import Wire
from modvisor.supervisor.cluster.nodes.stores import stores
from tests.journal.kept_contract import CONFIG, Kept, KeptContract, event, letter

from .conftest import Linked
from .servers import Servers

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(60)]

_files = count()


@asynccontextmanager
async def journal_of(link: Link, folder: Path, token: int | None, **config: int) -> AsyncIterator[ClusterJournal]:
    """The journal of a node that holds all mods with this token."""
    journal = ClusterJournal(folder / f"{next(_files)}.db", replace(CONFIG, **config), link, lambda _: token)
    await asyncio.to_thread(journal.open)
    async with asyncio.timeout(40):
        await joined(journal)
    try:
        yield journal
    finally:
        await journal.leave()
        await asyncio.to_thread(journal.close)


async def joined(journal: ClusterJournal) -> None:
    while True:
        try:
            return await journal.join()
        except NoQuorum:  # servers that elect their leaders
            await asyncio.sleep(0.05)


class TestClusterJournal(KeptContract):
    @pytest.fixture(autouse=True)
    def parts(self, servers: Servers, linked: Linked, tmp_path: Path) -> None:
        self._link = lambda: linked(servers, "a")
        self._folder = tmp_path
        self._tokens = count(1)

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[Kept]:
        async with journal_of(await self._link(), self._folder, next(self._tokens)) as journal:
            yield journal


class TestLocalMod(KeptContract):
    """A mod that runs on all nodes keeps its events in the file of each node."""

    @pytest.fixture(autouse=True)
    def parts(self, servers: Servers, linked: Linked, tmp_path: Path) -> None:
        self._link = lambda: linked(servers, "a")
        self._file = tmp_path / "network.db"

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[Kept]:
        journal = ClusterJournal(self._file, CONFIG, await self._link(), lambda _: None)
        await asyncio.to_thread(journal.open)
        await journal.join()
        try:
            yield journal
        finally:
            await journal.leave()
            await asyncio.to_thread(journal.close)


async def test_the_next_holder_goes_on_with_a_higher_attempt(servers: Servers, linked: Linked, tmp_path: Path) -> None:
    async with journal_of(await linked(servers, "a"), tmp_path, 1) as first:
        number = await first.accept("work", event(1), "agent:alice/1")
        assert [each.attempt for each in await first.pending("work")] == [1]
        async with journal_of(await linked(servers, "b"), tmp_path, 2) as second:
            (found,) = await second.pending("work")
            assert (found.seq, found.attempt, found.record.attempt) == (number, 2, 2)
            second.charge(number, found.record._replace(attempt=3))
            async with journal_of(await linked(servers, "c"), tmp_path, 3) as third:
                assert [each.attempt for each in await third.pending("work")] == [4]


async def test_an_older_holder_is_refused_whatever_it_writes(servers: Servers, linked: Linked, tmp_path: Path) -> None:
    async with (
        journal_of(await linked(servers, "a"), tmp_path, 1) as old,
        journal_of(await linked(servers, "b"), tmp_path, 2) as new,
    ):
        number = await old.accept("work", event(1))
        await old.save_checkpoint("work", "old", 1)
        await new.pending("work")
        await new.save_checkpoint("work", "new", 2)
        old.answered(number, b"too late")
        for write in (
            old.accept("work", event(2)),
            old.save_checkpoint("work", "old", 3),
            old.bury(letter(1), seq=number),
        ):
            with pytest.raises(ModvisorError, match="runs on another node by now") as refused:
                await write
            assert refused.value.code == Code.MOD_AWAY
        assert [each.event.payload["n"] for each in await new.pending("work")] == [1]
        checkpoint = await new.checkpoint("work")
        assert checkpoint is not None
        assert checkpoint.version == "new"
        assert await new.letter_heads() == []
        new.answered(number, b"in time")


async def test_what_an_older_holder_has_stored_in_time_is_there_for_the_next_one(
    servers: Servers, linked: Linked, tmp_path: Path
) -> None:
    """It hears nothing of its large checkpoint until the next one has the mod: it must not take the file away."""
    async with (
        journal_of(await linked(servers, "a"), tmp_path, 1, checkpoint_bytes=1_000_000) as old,
        journal_of(await linked(servers, "b"), tmp_path, 2) as new,
    ):
        fenced = (await old.log.of("work")).fenced
        send = fenced._send

        async def taken_over_then(*arguments: Any) -> int:
            fenced._send = send  # type: ignore[method-assign]
            await send(*arguments)
            await new.log.of("work")
            raise NoQuorum("the servers did not answer in time")

        fenced._send = taken_over_then  # type: ignore[method-assign]
        with pytest.raises(ModvisorError, match="runs on another node by now"):
            await old.save_checkpoint("work", "old", bytes(300_000))
        checkpoint = await new.checkpoint("work")
        assert checkpoint is not None
        assert checkpoint.state == bytes(300_000)


async def test_a_node_that_was_shut_out_cannot_begin_again(servers: Servers, linked: Linked, tmp_path: Path) -> None:
    async with (
        journal_of(await linked(servers, "a"), tmp_path, 2) as new,
        journal_of(await linked(servers, "b"), tmp_path, 1) as old,
    ):
        await new.accept("work", event(1))
        with pytest.raises(ModvisorError, match="fencing token 2") as refused:
            await old.pending("work")
        assert refused.value.code == Code.MOD_AWAY


async def test_a_mod_that_is_not_held_accepts_nothing(servers: Servers, linked: Linked, tmp_path: Path) -> None:
    async with journal_of(await linked(servers, "a"), tmp_path, 0) as journal:
        with pytest.raises(ModvisorError, match="not held by this node") as refused:
            await journal.accept("work", event(1))
        assert refused.value.code == Code.MOD_AWAY


async def test_dead_letters_are_seen_on_every_node(servers: Servers, linked: Linked, tmp_path: Path) -> None:
    async with (
        journal_of(await linked(servers, "a"), tmp_path, 1) as a,
        journal_of(await linked(servers, "b"), tmp_path, 0) as b,
    ):
        number = await a.bury(letter(1))
        await until(lambda: b.letters._heads)
        assert [head.letter_id for head in await b.letter_heads()] == [number]
        assert [each.stats()["dead_letters"] for each in (a, b)] == [1, 1]
        found = await b.dead_letter(number)
        assert found is not None
        assert found.reason == "reason 1"
        assert await b.forget_dead_letters(letter_id=number) == 1
        await until(lambda: not a.letters._heads)
        assert await a.letter_heads() == []


async def test_letters_whose_time_is_over_are_counted_no_more(servers: Servers, linked: Linked, tmp_path: Path) -> None:
    async with journal_of(await linked(servers, "a"), tmp_path, 1, dead_letter_age=1000) as journal:
        await journal.bury(replace(letter(1), at=time.time() - 2000))
        await journal.bury(letter(2))
        assert journal.stats()["dead_letters"] == 1
        assert len(journal.letters._heads) == 1, "they take no memory either"


async def test_an_event_is_not_kept_whose_sender_gave_up_as_it_was_stored(
    servers: Servers, linked: Linked, tmp_path: Path
) -> None:
    async with journal_of(await linked(servers, "a"), tmp_path, 1) as journal:
        log = await journal.log.of("work")
        write, sending = log.fenced.write, []

        def given_up_then(*puts: Any, **more: Any) -> Any:
            begun = write(*puts, **more)
            begun.done.add_done_callback(lambda _: sending[0].cancel())
            return begun

        log.fenced.write = given_up_then  # type: ignore[method-assign]
        sending.append(asyncio.create_task(journal.accept("work", event(1))))
        with pytest.raises(asyncio.CancelledError):
            await sending[0]
        log.fenced.write = write  # type: ignore[method-assign]
        await journal.accept("work", event(2))
        async with journal_of(await linked(servers, "b"), tmp_path, 2) as other:
            assert [each.event.payload["n"] for each in await other.pending("work")] == [2]


async def test_events_of_a_mod_that_has_moved_away_take_no_room(
    servers: Servers, linked: Linked, tmp_path: Path
) -> None:
    tokens = {"work": 1, "other": 2}
    config = replace(CONFIG, durable_events=1)
    journal = ClusterJournal(tmp_path / "n.db", config, await linked(servers, "a"), lambda name: tokens[name])
    await journal.join()
    await journal.accept("work", event(1))
    with pytest.raises(ModvisorError, match=r"journal\.durable_events"):
        await journal.accept("other", event(2))
    tokens["work"] = 0
    assert journal.log.pending_counts() == {}
    await journal.accept("other", event(2))
    assert journal.log.pending_counts() == {"other": 1}
    await journal.leave()


async def test_an_event_larger_than_the_servers_take_is_refused(
    servers: Servers, linked: Linked, tmp_path: Path
) -> None:
    link = await linked(servers, "a")
    journal = ClusterJournal(tmp_path / "n.db", replace(CONFIG, durable_bytes=10_000_000), link, lambda _: 1)
    await journal.join()
    with pytest.raises(ModvisorError, match="max_payload") as refused:
        await journal.accept("work", event(1, 1_100_000))
    assert refused.value.code == Code.TOO_LARGE
    assert await journal.pending("work") == []
    await journal.leave()


@pytest.mark.slow
async def test_without_quorum_nothing_is_half_done(three_servers: Servers, linked: Linked, tmp_path: Path) -> None:
    """Two of three servers stop while events are accepted. Each was accepted, or its sender was told why not."""
    async with journal_of(await linked_soon(linked, three_servers, "a"), tmp_path, 1) as journal:
        await journal.accept("work", event(0))
        for server in three_servers.all[1:]:
            server.stop()
        with pytest.raises(ModvisorError) as refused:
            await journal.accept("work", event(1))
        assert refused.value.code == Code.CLUSTER_DOWN
        for server in three_servers.all[1:]:
            server.cont()
        await accepted(journal, 2)
        await journal.log.opened("work").fenced.flush()  # type: ignore[union-attr]
        async with journal_of(await linked_soon(linked, three_servers, "b"), tmp_path, 2) as other:
            assert [each.event.payload["n"] for each in await other.pending("work")] == [0, 2]


async def test_what_was_sent_by_a_lost_connection_and_given_up_is_not_stored_later(
    servers: Servers, linked: Linked, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that stands still has the event when its connection is lost, and hands it on after it was refused."""
    link, late = await linked(servers, "a"), await linked(servers, "b")
    sent: list[tuple[Any, ...]] = []
    call, send = Wire.call, Wire.send

    def held(wire: Wire, *message: Any) -> None:
        sent.append(message)

    async def slow(wire: Wire, subject: str, data: bytes, headers: Any = None, **more: Any) -> Any:
        if wire is not link or not subject.endswith(".fence.e"):
            return await call(wire, subject, data, headers, **more)
        sent.append((subject, data, "", headers))
        monkeypatch.setattr(Wire, "send", send)
        monkeypatch.setattr(Wire, "call", refusing)
        link.connection().lose("the test says so")
        raise LinkDown("the connection was lost", was_sent=True)

    async def refusing(wire: Wire, subject: str, *more: Any, **options: Any) -> Any:
        if wire is link and subject.endswith(".fence.e"):
            monkeypatch.setattr(Wire, "call", call)
            raise APIError(code=503, err_code=10023, description="insufficient resources")
        return await call(wire, subject, *more, **options)

    async with journal_of(link, tmp_path, 1) as journal:
        await journal.accept("work", event(0))
        monkeypatch.setattr(Wire, "send", held)
        monkeypatch.setattr(Wire, "call", slow)
        with pytest.raises(ModvisorError, match="space"):
            await journal.accept("work", event(1))
        for subject, data, _, headers in sent:
            late.send(subject, data, "", headers)
        await late.connection().flush()
        await journal.accept("work", event(2))
        async with journal_of(late, tmp_path, 2) as other:
            assert [each.event.payload["n"] for each in await other.pending("work")] == [0, 2]


async def test_what_cannot_be_looked_up_for_a_moment_fails_no_batch(
    servers: Servers, linked: Linked, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with journal_of(await linked(servers, "a"), tmp_path, 1) as journal:
        await journal.accept("work", event(0))
        fenced = journal.log.opened("work").fenced  # type: ignore[union-attr]
        newest, asked = fenced.newest, list[str]()

        async def once_down(subject: str) -> Any:
            asked.append(subject)
            if len(asked) == 1:
                raise LinkDown("the connection was lost")
            return await newest(subject)

        monkeypatch.setattr(fenced, "newest", once_down)
        there = {EXPECTED: "1", EXPECTED_OF: f"{fenced.root}.other.e"}
        refused = fenced.write(fenced.put("other.e", 1, there))
        lasting = fenced.write(fenced.put("mine.e", 2), is_lasting=True)
        with pytest.raises(Conflict):
            await refused.done
        await lasting.done
        assert len(asked) == 2


async def test_what_still_waits_at_the_end_is_told(own_server: Servers, linked: Linked, tmp_path: Path) -> None:
    async with journal_of(await linked(own_server, "a"), tmp_path, 1) as journal:
        await journal.accept("work", event(0))
        fenced = journal.log.opened("work").fenced  # type: ignore[union-attr]
        own_server[0].stop()
        try:
            under_way = fenced.write(fenced.put("one.e", 1), is_lasting=True)
            while not under_way.is_sent:
                await asyncio.sleep(0)
            waits = fenced.write(fenced.put("two.e", 2), is_lasting=True)
            await fenced.close()
            for write in (under_way, waits):
                with pytest.raises(NoQuorum, match="this node ends"):
                    await write.done
        finally:
            own_server[0].cont()


@pytest.mark.slow
async def test_a_server_that_is_killed_loses_no_accepted_event(
    three_servers: Servers, linked: Linked, tmp_path: Path
) -> None:
    async with journal_of(await linked_soon(linked, three_servers, "a"), tmp_path, 1) as journal:
        sending = [asyncio.ensure_future(journal.accept("work", event(n))) for n in range(2)]
        await asyncio.gather(*sending)
        three_servers[0].kill()
        try:
            await accepted(journal, 2)
            journal.answered((await journal.pending("work"))[0].seq, b"done")
        finally:
            three_servers[0].restart()
        async with journal_of(await linked_soon(linked, three_servers, "b"), tmp_path, 2) as other:
            assert [each.event.payload["n"] for each in await other.pending("work")] == [1, 2]


@pytest.mark.slow
async def test_a_copy_that_is_behind_is_named_with_its_server(
    three_servers: Servers, linked: Linked, tmp_path: Path
) -> None:
    link = await linked_soon(linked, three_servers, "a")
    await link.bucket("claims")

    async def claims() -> dict[str, Any]:
        return next(each for each in await stores(link) if each["store"] == "claims")

    while (found := await claims())["behind"]:  # of a server that a test before has killed
        await anyio.sleep(0)
    assert (found["copies"], found["wanted"], found["error"]) == (3, 3, None)
    other = next(server for server in three_servers.all if server.name != found["leader"] and server.url != link.server)
    other.stop()
    try:
        while not (found := await claims())["behind"]:
            await anyio.sleep(0)
        assert ([copy["server"] for copy in found["behind"]], found["copies"]) == ([other.name], 2)
    finally:
        other.cont()


@pytest.mark.slow
async def test_a_full_store_is_said_and_nothing_is_kept(tmp_path: Path, linked: Linked) -> None:
    servers = Servers(1, tmp_path)
    try:
        servers.jetstream = False
        servers.more.append(f'jetstream {{ store_dir: "{tmp_path}/js", max_mem: 1M, max_file: 200K }}')
        servers.start()
        async with journal_of(await linked(servers, "a"), tmp_path, 1) as journal:
            for n in range(5):
                await journal.accept("work", event(n))
            with pytest.raises(ModvisorError, match="out of space") as refused:
                await fill(journal)
            assert refused.value.code == Code.STORAGE_FULL
            assert [each.event.payload["n"] for each in await journal.pending("work")] == list(range(5))
    finally:
        servers.close()


async def fill(journal: ClusterJournal) -> None:
    for n in range(5, 400):
        journal.answered(await journal.accept("work", event(n, 15_000)), b"x" * 5_000)


async def linked_soon(linked: Linked, servers: Servers, node: str) -> Link:
    """Link to servers that may still elect their leaders."""
    async with asyncio.timeout(40):
        while True:
            with suppress(ModvisorError):
                return await linked(servers, node, timeout=1.0)


async def until(is_so: Callable[[], object]) -> None:
    async with asyncio.timeout(20):
        while not is_so():
            await asyncio.sleep(0.01)


async def accepted(journal: ClusterJournal, n: int) -> int:
    """Send an event until it is accepted, as a sender does."""
    async with asyncio.timeout(40):
        while True:
            try:
                return await journal.accept("work", event(n))
            except ModvisorError:
                await asyncio.sleep(0.05)
