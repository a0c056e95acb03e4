"""Exclusive workers of a node die with its lease: the kernel kills them, whatever is stopped, and however they were started."""

from __future__ import annotations

import asyncio
import os
import select
import signal
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from time import process_time
from typing import Any

import psutil
import pytest

from modvisor.supervisor import AgentNetwork
from modvisor.supervisor.process.launch import Launch
from modvisor.supervisor.process.launcher import make_launcher
from modvisor.supervisor.process.leases import Leases, boottime
from tests import warm
from tests.conftest import child_pids, open_files, until
from tests.processes.conftest import Marked

pytestmark = [pytest.mark.anyio, pytest.mark.skipif(sys.platform != "linux", reason="needs the kernel's timers")]

WriteMod = Callable[..., str]
MakeNetwork = Callable[..., AgentNetwork]

MANY = 200
LONG = 600.0  # seconds of a lease that no test outlives

# Writes the time of CLOCK_BOOTTIME into its storage again and again, as long as it lives.
STAMPS = """
    import asyncio, mmap, os, struct, subprocess, sys, time
    from modvisor.mods import BaseMod, EventResponse, mod_event_handler

    class Stamps(BaseMod):
        def activate(self):
            with open(self.context.storage_path / "stamp", "wb+") as file:
                file.truncate(8)
                self.page = mmap.mmap(file.fileno(), 8)
            self.task = asyncio.get_running_loop().create_task(self.stamp())

        async def stamp(self):
            while True:
                self.page[:] = struct.pack("=d", time.clock_gettime(time.CLOCK_BOOTTIME))
                await asyncio.sleep(0.002)

        @mod_event_handler("stamps.start")
        async def start(self, event):
            subprocess.Popen(["/bin/sleep", "1000"], start_new_session=True)
            return EventResponse(True)
"""

# A node whose lease is renewed as long as the supervisor runs. It notes the latest deadline where the test reads it.
NODE = """
import asyncio, mmap, os, struct, sys
from modvisor.supervisor import AgentNetwork, Event
from modvisor.supervisor.process.launch import Launch
from modvisor.supervisor.process.launcher import make_launcher
from modvisor.supervisor.process.leases import Leases, boottime

TTL = 1.0

async def main():
    with open("deadline", "wb+") as file:
        file.truncate(8)
        page = mmap.mmap(file.fileno(), 8)
    network = AgentNetwork.from_config({"network": {"name": "n", "storage": "state"}}, base_dir=".")
    await network.initialize()
    leases = Leases()
    await leases.begin(boottime() + 20)  # counts if the keeper is stopped before it reads a shorter one
    mods = network._parts.mods
    mods.lease_by(lambda config: leases if config.mod_id == "stamps" else None)
    for mod_id in ("stamps", "free"):
        assert (await network.load_mod("./stamps", mod_id=mod_id)).success
        assert (await network.process_event(Event("stamps.start", "agent:a", f"mod:{mod_id}"))).success
    async def renew():
        while True:
            deadline = boottime() + TTL
            page[:] = struct.pack("=d", deadline)
            leases.extend(deadline)
            await asyncio.sleep(TTL / 4)
    task = asyncio.create_task(renew())
    await asyncio.sleep(0)
    pids = [network.get_loaded_mods()[mod_id]["pid"] for mod_id in ("stamps", "free")]
    print(*pids, mods._shared.launcher._guardian.pid, leases.keeper, flush=True)
    await task

asyncio.run(main())
"""


class Death:
    """The moment at which a process that is no child of ours ends, told by its pidfd."""

    def __init__(self, pid: int) -> None:
        self.fd = os.pidfd_open(pid)

    def is_over(self, timeout: float = 0.0) -> bool:
        poll = select.poll()
        poll.register(self.fd, select.POLLIN)
        return bool(poll.poll(1000 * timeout))


@pytest.fixture
def deaths() -> Iterator[Callable[[int], Death]]:
    made: list[Death] = []

    def make(pid: int) -> Death:
        made.append(Death(pid))
        return made[-1]

    yield make
    for death in made:
        os.close(death.fd)


def stamp(file: Path) -> float:
    return struct.unpack("=d", file.read_bytes())[0]


@pytest.fixture
def node(tmp_path: Path, write_mod: WriteMod, marked: Marked) -> Iterator[tuple[int, list[int]]]:
    """A node in a process of its own: its pid, and the pids that it prints."""
    write_mod("stamps", STAMPS)
    environ = {"PATH": "/usr/bin:/bin", **marked.variable}
    with warm.Popen([sys.executable, "-c", NODE], stdout=subprocess.PIPE, env=environ, cwd=tmp_path) as popen:
        assert popen.stdout is not None
        yield popen.pid, list(map(int, popen.stdout.readline().split()))
        for pid in marked.alive():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
        popen.kill()


@pytest.mark.parametrize("stopped", ["supervisor", "tree"])
def test_an_exclusive_worker_dies_at_the_deadline_whoever_is_stopped(
    tmp_path: Path, node: tuple[int, list[int]], marked: Marked, deaths: Callable[[int], Death], stopped: str
) -> None:
    supervisor, (worker, free, _guardian, keeper) = node
    ended, spared = deaths(worker), deaths(free)
    tree = [supervisor] if stopped == "supervisor" else [supervisor, *(marked.alive() - {supervisor})]
    for pid in tree:
        os.kill(pid, signal.SIGSTOP)
    while stopped == "tree" and psutil.Process(keeper).status() != "stopped":
        assert not ended.is_over(0.001)
    deadline = stamp(tmp_path / "deadline")

    assert ended.is_over(30)  # while everybody is stopped still
    assert boottime() >= deadline
    assert stamp(tmp_path / "state" / "mods" / "stamps" / "stamp") < deadline + 0.1, "it worked on after the margin"
    assert not spared.is_over(), "a mod that is not exclusive goes on"


def test_all_that_an_exclusive_mod_started_dies_too_if_its_warden_runs(
    node: tuple[int, list[int]], deaths: Callable[[int], Death]
) -> None:
    supervisor, (worker, *_) = node
    (child,) = psutil.Process(worker).children()
    left = deaths(child.pid)
    os.kill(supervisor, signal.SIGSTOP)
    assert left.is_over(30)


def test_a_stopped_guardian_ends_nothing(
    node: tuple[int, list[int]], deaths: Callable[[int], Death], tmp_path: Path
) -> None:
    _, (worker, _free, guardian, _keeper) = node
    ended = deaths(worker)
    os.kill(guardian, signal.SIGSTOP)
    first = stamp(tmp_path / "deadline")
    while stamp(tmp_path / "deadline") < first + 2:  # the lease of that time is over twice
        assert not ended.is_over(0.05)


# -- in this process: however a worker was started


@pytest.fixture
async def leases() -> Any:
    leases = Leases()
    await leases.begin(boottime() + LONG)
    yield leases
    await leases.close()


def lease_all(network: AgentNetwork, leases: Leases) -> None:
    assert network._parts is not None
    network._parts.mods.lease_by(lambda config: leases if config.mod_id.startswith("leased") else None)


async def pid_of(network: AgentNetwork, mod_id: str) -> int:
    return network.get_loaded_mods()[mod_id]["pid"]


async def running(make_network: MakeNetwork, leases: Leases, **network: Any) -> AgentNetwork:
    made = make_network(network)
    await made.initialize()
    lease_all(made, leases)
    return made


@pytest.mark.parametrize(
    "how",
    [
        pytest.param({}, id="forked"),
        pytest.param({"launch": "exec"}, id="exec"),
        pytest.param({"python": sys.executable}, id="another Python"),
    ],
)
async def test_a_worker_is_held_however_it_is_started(
    make_network: MakeNetwork, write_mod: WriteMod, leases: Leases, deaths: Callable[[int], Death], how: dict[str, Any]
) -> None:
    network = await running(make_network, leases)
    path = write_mod("stamps", STAMPS)
    loaded = await network.load_mod(path, mod_id="leased", **how)
    assert loaded.success, loaded.message
    assert (await network.load_mod(path, mod_id="free")).success
    ended, spared = deaths(await pid_of(network, "leased")), deaths(await pid_of(network, "free"))
    leases.end()
    assert ended.is_over(30)
    assert not spared.is_over()


async def test_a_spare_is_held_from_the_moment_that_it_becomes_the_mod(
    make_network: MakeNetwork, write_mod: WriteMod, leases: Leases, deaths: Callable[[int], Death]
) -> None:
    network = await running(make_network, leases, spares=2)
    await until(lambda: network.get_network_stats()["spares"]["waiting"] == 2)
    assert (await network.load_mod(write_mod("stamps", STAMPS), mod_id="leased")).success
    assert network.get_network_stats()["spares"]["taken"] == 1
    ended = deaths(await pid_of(network, "leased"))
    leases.end()
    assert ended.is_over(30)


async def test_an_end_by_the_lease_says_so(make_network: MakeNetwork, write_mod: WriteMod, leases: Leases) -> None:
    network = await running(make_network, leases)
    assert (await network.load_mod(write_mod("stamps", STAMPS), mod_id="leased")).success
    leases.end()
    await until(lambda: bool(network.get_crashes("leased")))
    (report, *_) = network.get_crashes("leased")
    assert (report["cause"], report["detail"]) == ("lease_lost", "the lease of its node ended")


async def test_without_a_lease_an_exclusive_mod_does_not_start(
    make_network: MakeNetwork, write_mod: WriteMod, leases: Leases
) -> None:
    network = await running(make_network, leases)
    leases.end()
    refused = await network.load_mod(write_mod("stamps", STAMPS), mod_id="leased")
    assert refused.error == "lease_lost"
    assert "holds no lease" in refused.message
    assert not network.get_loaded_mods()


async def test_a_keeper_that_is_killed_takes_its_mods_with_it_and_they_come_back(
    make_network: MakeNetwork, write_mod: WriteMod, leases: Leases, deaths: Callable[[int], Death]
) -> None:
    network = await running(make_network, leases)
    over: list[bool] = []
    leases.on_over = lambda: over.append(True)
    assert (await network.load_mod(write_mod("stamps", STAMPS), mod_id="leased")).success
    first, keeper = await pid_of(network, "leased"), leases.keeper
    assert keeper is not None
    ended = deaths(first)
    os.kill(keeper, signal.SIGKILL)
    assert ended.is_over(30)
    await until(lambda: network.get_loaded_mods()["leased"]["state"] == "ready" and leases.keeper not in (None, keeper))
    assert await pid_of(network, "leased") != first
    again = deaths(await pid_of(network, "leased"))
    assert not over, "the lease itself goes on"
    leases.end()
    assert again.is_over(30)


async def test_the_end_at_the_deadline_is_told_once(leases: Leases) -> None:
    over = asyncio.Event()
    leases.on_over = over.set
    leases.extend(boottime() - 1)
    await asyncio.wait_for(over.wait(), 30)
    assert leases.deadline == 0.0
    assert leases.keeper is None


async def test_nothing_is_left_of_a_lease(make_network: MakeNetwork, write_mod: WriteMod) -> None:
    before, children = open_files(), child_pids()
    leases = Leases()
    await leases.begin(boottime() + LONG)
    network = await running(make_network, leases)
    assert (await network.load_mod(write_mod("stamps", STAMPS), mod_id="leased")).success
    await network.shutdown()
    await leases.close()
    assert open_files() == before
    assert child_pids() == children


# -- without a cluster

COUNTED = """
import asyncio, sys
from modvisor.supervisor import AgentNetwork

async def main():
    config = {"network": {"name": "n", "storage": "state"}, "mods": [{"path": "./stamps"}]}
    async with AgentNetwork.from_config(config, base_dir=".") as network:
        print([name for name in sys.modules if name.endswith(".leases") or name.startswith("modvisor.supervisor.cluster")])

asyncio.run(main())
"""


def test_without_a_cluster_nothing_of_it_is_imported(tmp_path: Path, write_mod: WriteMod) -> None:
    write_mod("stamps", STAMPS)
    command = [sys.executable, "-c", COUNTED]
    done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=tmp_path, timeout=30)
    assert done.stdout == "[]\n"


async def test_a_held_worker_costs_one_descriptor_and_one_that_is_not_held_none(
    make_network: MakeNetwork, write_mod: WriteMod, leases: Leases
) -> None:
    network = await running(make_network, leases)
    path, counts = write_mod("stamps", STAMPS), []
    for mod_id in ("free", "other", "leased"):
        before = len(open_files())
        assert (await network.load_mod(path, mod_id=mod_id)).success
        counts.append(len(open_files()) - before)
    assert counts[1] + 1 == counts[2]


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_two_hundred_workers_live_and_die_by_one_lease(
    tmp_path: Path, leases: Leases, tell: Callable[[str], None]
) -> None:
    launcher, workers = make_launcher(tmp_path), []
    try:
        for _ in range(MANY):
            workers.append(worker := await launcher.launch(Launch(lambda _data: None)))
            await leases.hold(worker, lambda: None)
        keeper, own = psutil.Process(leases.keeper), 0.0
        before = nanoseconds(keeper.pid)
        for _ in range(MANY):
            begin = process_time()
            leases.extend(boottime() + LONG)
            own += process_time() - begin
            await until(lambda: keeper.status() == psutil.STATUS_SLEEPING)  # it has read the deadline
        keepers = nanoseconds(keeper.pid) - before
        os.kill(keeper.pid, signal.SIGKILL)
        begin = boottime()
        exits = await asyncio.gather(*(asyncio.shield(worker.exited) for worker in workers))
        tell(
            f"{MANY} leased workers: a renewal costs {1e6 * own / MANY:.0f} µs here, {keepers / MANY / 1000:.0f} µs in the "
            f"keeper; all are dead and reported {1000 * (boottime() - begin):.0f} ms after it"
        )
        assert all(exit.signal == signal.SIGKILL for exit in exits)
    finally:
        await launcher.close()
        for worker in workers:
            worker.sock.close()


def nanoseconds(pid: int) -> int:
    """Return how long a process has run."""
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0])
