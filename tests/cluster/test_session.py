"""The session of a node: kept while it can be renewed, lost in time, and begun again; with real servers and processes."""

from __future__ import annotations

import asyncio
import os
import signal
import struct
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from modvisor.supervisor.cluster.link.errors import NameTaken, Taken
from modvisor.supervisor.cluster.link.link import Link
from modvisor.supervisor.cluster.nodes.session import Session
from modvisor.supervisor.process.leases import boottime
from tests import warm
from tests.conftest import until
from tests.processes.conftest import Marked
from tests.processes.test_leases import STAMPS, Death

from .conftest import Linked
from .servers import SECRET, Servers

pytestmark = [pytest.mark.anyio, pytest.mark.skipif(sys.platform != "linux", reason="needs the kernel's timers")]

Joined = Callable[..., Awaitable[Session]]
WriteMod = Callable[..., str]


@pytest.fixture
async def session_of(linked: Linked) -> AsyncIterator[Callable[..., Awaitable[Session]]]:
    """Make the session of a node, which has not joined: `await session_of(servers, "a", lease=2.0)`."""
    made: list[Session] = []

    async def make(servers: Servers, node: str = "a", **config: Any) -> Session:
        link: Link = await linked(servers, node, **config)
        made.append(Session(link, link.config, "1.2.3"))
        return made[-1]

    yield make
    for session in made:
        await session.leave()


@pytest.fixture
async def joined(session_of: Joined) -> Joined:
    async def join(servers: Servers, node: str = "a", **config: Any) -> Session:
        session = await session_of(servers, node, **config)
        await session.join()
        return session

    return join


async def test_nodes_see_one_another_come_tell_and_leave(servers: Servers, joined: Joined) -> None:
    a = await joined(servers, "a.1", labels=("gpu",))
    b = await joined(servers, "b")
    await until(lambda: set(a.nodes) == set(b.nodes) == {"a.1", "b"})
    seen = b.nodes["a.1"]
    assert (seen.session, seen.labels, seen.version) == (a.id, ("gpu",), "1.2.3")
    assert a.id is not None
    assert a.id.startswith("a.1/")

    told: list[bool] = []
    b.listeners.append(lambda: told.append(True))
    a.describe(soon=True, load=0.5)
    await until(lambda: b.nodes["a.1"].value.get("load") == 0.5)
    assert b.nodes["a.1"].session == a.id
    assert told

    await a.leave()
    await until(lambda: "a.1" not in b.nodes)
    assert a.id is None


async def test_a_session_is_renewed_and_renewals_are_no_news(servers: Servers, joined: Joined) -> None:
    session, news = await joined(servers, lease=1.0), []
    first, held = session.deadline, session.id
    await until(lambda: session.nodes["a"].value["session"] is not None)
    session.listeners.append(lambda: news.append(True))
    await until(lambda: session.deadline > first + 1.0)  # longer than one TTL
    assert session.id == held
    assert not news


async def test_a_second_node_of_one_name_is_refused_and_the_first_goes_on(
    servers: Servers, joined: Joined, session_of: Joined
) -> None:
    first = await joined(servers)
    second = await session_of(servers)
    with pytest.raises(NameTaken, match=r"another node of the network is named 'a'.*--node NAME"):
        await second.join()
    assert first.id is not None
    assert second.id is None


NODE = """
import asyncio, os, signal, sys
from modvisor.supervisor.cluster.link.link import Link
from modvisor.supervisor.cluster.nodes.session import Session
from modvisor.supervisor import AgentNetwork, Event
from modvisor.supervisor.config import ClusterConfig
from modvisor.supervisor.config.values.env import EnvValue

async def main():
    url, network_id, secret = sys.argv[1:]
    config = ClusterConfig(servers=(url,), node="a", network=network_id, secret=EnvValue(literal=secret))
    link = Link(config, network_id, "a")
    await link.open()
    session = Session(link, config)
    await session.join()
    session.on_lost.append(lambda why: print("lost", flush=True))
    network = AgentNetwork.from_config({"network": {"name": "n", "storage": "state"}}, base_dir=".")
    await network.initialize()
    network._parts.mods.lease_by(lambda config: session.leases)
    assert (await network.load_mod("./stamps")).success
    first = session.id
    print(network.get_loaded_mods()["stamps"]["pid"], flush=True)
    while session.id in (None, first):
        await asyncio.sleep(0.01)
    print("again", flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""


@pytest.fixture
def start_node(tmp_path: Path, write_mod: WriteMod, marked: Marked, network_id: str, servers: Servers) -> Any:
    """Start node `a` in a process of its own, with an exclusive mod."""
    write_mod("stamps", STAMPS)
    started: list[Any] = []

    def start() -> tuple[Any, int]:
        command = [sys.executable, "-c", NODE, servers.urls[0], network_id, SECRET]
        environ = {"PATH": "/usr/bin:/bin", **marked.variable}
        popen = warm.Popen(command, stdout=subprocess.PIPE, env=environ, cwd=tmp_path)
        started.append(popen)
        assert popen.stdout is not None
        return popen, int(popen.stdout.readline())

    yield start
    for popen in started:
        popen.kill()
        popen.__exit__(None, None, None)


@pytest.mark.parametrize("stopped", ["supervisor", pytest.param("tree", marks=pytest.mark.slow)])
async def test_others_see_a_stopped_node_go_after_its_exclusive_mod_is_dead_and_it_joins_again(
    tmp_path: Path, servers: Servers, joined: Joined, marked: Marked, start_node: Any, stopped: str
) -> None:
    witness = await joined(servers, "b")
    node, worker = await asyncio.to_thread(start_node)
    death = Death(worker)
    await until(lambda: "a" in witness.nodes)
    gone: list[tuple[bool, float]] = []
    witness.listeners.append(lambda: "a" in witness.nodes or gone.append((death.is_over(), boottime())))
    tree = marked.alive() if stopped == "tree" else {node.pid}
    for pid in tree:
        os.kill(pid, signal.SIGSTOP)
    await until(lambda: bool(gone), 30)
    assert gone[0][0], "the mod was alive when another node could have started it"
    (last,) = struct.unpack("=d", (tmp_path / "state" / "mods" / "stamps" / "stamp").read_bytes())
    assert last < gone[0][1]
    os.close(death.fd)

    for pid in tree:
        if pid != worker:
            os.kill(pid, signal.SIGCONT)
    assert await asyncio.to_thread(node.stdout.readline) == "lost\n"
    assert await asyncio.to_thread(node.stdout.readline) == "again\n"
    await until(lambda: "a" in witness.nodes)


@pytest.mark.slow
async def test_a_node_that_was_killed_takes_its_name_again_when_its_session_has_ended(
    servers: Servers, joined: Joined, start_node: Any
) -> None:
    node, _worker = await asyncio.to_thread(start_node)
    node.kill()
    again = await joined(servers, "a")  # waits
    assert again.id is not None
    await until(lambda: again.nodes["a"].session == again.id)


async def test_a_node_without_servers_loses_its_session_and_joins_again(own_server: Servers, joined: Joined) -> None:
    session = await joined(own_server, lease=1.0)
    first, reasons = session.id, []
    session.on_lost.append(lambda why: reasons.append((why, session.id, session.leases.keeper)))
    own_server[0].stop()
    await until(lambda: bool(reasons), 30)
    assert len(reasons) == 1
    why, held, keeper = reasons[0]
    assert "not renewed in time" in why
    assert (held, keeper) == (None, None), "nothing can be started under it any more"
    own_server[0].cont()
    await until(lambda: session.id is not None, 30)
    assert session.id != first
    assert len(reasons) == 1


async def test_a_renewal_whose_answer_was_lost_ends_nothing(servers: Servers, joined: Joined) -> None:
    session = await joined(servers, lease=1.0)
    held, bucket = session.id, session._bucket
    assert bucket is not None
    sent = boottime()
    await bucket.update("a", session._numbered(sent), session._revision, ttl=1.0)  # nobody notes the new revision
    await until(lambda: session.deadline > sent + 1.0)
    assert session.id == held


async def test_a_renewal_that_is_refused_because_the_one_before_it_is_under_way_ends_nothing(
    servers: Servers, joined: Joined, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A leader without a quorum refuses the second of two renewals, and reads out what was stored before both."""
    session = await joined(servers, lease=1.0)
    held, bucket, reasons, refused = session.id, session._bucket, list[str](), list[dict[str, Any]]()
    session.on_lost.append(reasons.append)
    assert bucket is not None
    update = bucket.update

    async def refuse_two(key: str, value: dict[str, Any], revision: int, *, ttl: float | None = None) -> int:
        if len(refused) < 2:
            refused.append(value)
            raise Taken("it has another revision")
        return await update(key, value, revision, ttl=ttl)

    await until(lambda: session.nodes["a"].value["renewal"] > 1)
    monkeypatch.setattr(bucket, "update", refuse_two)
    await until(lambda: len(refused) == 2 and session.nodes["a"].value["renewal"] > refused[1]["renewal"])
    assert (session.id, reasons) == (held, [])


async def test_another_node_that_has_taken_the_key_ends_the_session_at_once(servers: Servers, joined: Joined) -> None:
    session = await joined(servers, lease=2.0)
    reasons: list[str] = []
    session.on_lost.append(reasons.append)
    bucket = await session._link.bucket("nodes")
    await bucket.put("a", {**session._value, "instance": "another", "renewal": 1})
    await until(lambda: bool(reasons))
    assert reasons == ["another node has taken its name"]


async def test_who_has_lost_its_key_ends_at_once(servers: Servers, joined: Joined) -> None:
    session = await joined(servers, lease=2.0)
    first, reasons = session.id, []
    session.on_lost.append(reasons.append)
    bucket = await session._link.bucket("nodes")
    await bucket.delete("a")
    await until(lambda: bool(reasons))
    assert reasons == ["its key is gone"]
    await until(lambda: session.id not in (None, first))
