"""The run itself: three machines, agents at work, faults by plan, and what came of it."""

from __future__ import annotations

import asyncio
import json
import signal
import statistics
import textwrap
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import httpx

from .agents import Member, Target
from .audit import Away, Sent, audit
from .hosts import Faults, Hosts, cut
from .machines import NATS, SECRET, Machine, send
from .schedule import CUT, KILL_NODE, KILL_SERVER, STOP, Act, plan

MACHINES = 3
START = 60.0  # seconds within which all serves
SETTLES = 20.0  # seconds for the last durable events

MODS: dict[str, dict[str, Any]] = {
    "ledger": {"durable": True},
    "desk": {},
    "shelf": {"durable": True, "partition_by": "payload.key", "placement": {"copies": 3}},
    "board": {"partition_by": "payload.key", "placement": {"copies": 3}},
    "clock": {"placement": {"copies": "all"}},
    "bell": {"placement": {"copies": "all"}},
}
"""Run once, in three copies that share the events by key, and on all nodes; two of each, one durable where that goes."""

EXCLUSIVE = frozenset(mod for mod, entry in MODS.items() if entry.get("placement", {}).get("copies") != "all")


@dataclass
class Summary:
    """What a run came to."""

    agents: int
    rate: float
    seconds: float
    seed: int
    acts: list[dict[str, Any]] = field(default_factory=list)
    sent: int = 0
    moves: int = 0
    p50_ms: float = 0.0
    p99_ms: float = 0.0
    takeovers: int = 0
    takeover_p50: float = 0.0
    takeover_p99: float = 0.0
    takeovers_by: dict[str, list[float]] = field(default_factory=dict)
    """What had gone wrong last -> seconds of each takeover."""
    found: dict[str, Any] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)


async def run(hosts: Hosts, folder: Path, agents: int, rate: float, seconds: float, seed: int) -> Summary:
    """Start three machines, have agents work, and let go wrong what the seed says."""
    summary = Summary(agents, rate, seconds, seed)
    diary = folder / "diary"
    diary.touch()
    network = _network_file(hosts, folder, diary)
    machines = [Machine(hosts, host, folder / f"machine{host.number}", network) for host in hosts.hosts[1:]]
    try:
        await _started(machines)
        members = _members(machines, agents)
        acts = plan(seed, MACHINES, seconds, have_wires=hosts.have_wires)
        await _work(hosts, machines, members, acts, rate, seconds, summary)
        await _judge(members, diary, summary)
    finally:
        for machine in machines:
            await machine.end()
    return summary


def _network_file(hosts: Hosts, folder: Path, diary: Path) -> Path:
    servers = [f"nats://{host.address}:{NATS}" for host in hosts.hosts[1:]]
    entries = [
        {"path": "./scribe", "id": mod, "sandbox": "off", "config": {"diary": str(diary)}, **entry}
        for mod, entry in MODS.items()
    ]
    text = f"""
        network: {{name: nodes, insecure: true, storage: state}}
        cluster: {{servers: {json.dumps(servers)}, secret: {json.dumps(SECRET)}, wait: true}}
        mods: {json.dumps(entries)}
    """
    file = folder / "network.yaml"
    file.write_text(textwrap.dedent(text))
    (folder / "mods").symlink_to(Path(__file__).with_name("mods"))
    return file


async def _started(machines: list[Machine]) -> None:
    for machine in machines:
        machine.write_server([other.host for other in machines if other is not machine])
        await machine.start_server()
    for machine in machines:
        await machine.start_node()
    async with asyncio.timeout(START), httpx.AsyncClient() as client:
        for machine in machines:
            while not await _is_ready(client, machine):
                if machine.node is None or machine.node.returncode is not None:
                    raise RuntimeError(f"{machine.name} has ended; its log says why")
                await asyncio.sleep(0.2)


async def _is_ready(client: httpx.AsyncClient, machine: Machine) -> bool:
    try:
        return (await client.get(f"{machine.url}/readyz")).status_code == 200
    except httpx.TransportError:
        return False


def _members(machines: list[Machine], agents: int) -> list[Member]:
    urls = [machine.url for machine in machines]
    targets = [Target(mod, bool(entry.get("durable"))) for mod, entry in MODS.items()]
    return [
        Member(f"agent{number}", urls[number % len(urls) :] + urls[: number % len(urls)], targets, number)
        for number in range(agents)
    ]


async def _work(
    hosts: Hosts,
    machines: list[Machine],
    members: list[Member],
    acts: list[Act],
    rate: float,
    seconds: float,
    summary: Summary,
) -> None:
    begins = time.monotonic()
    gap = len(members) / rate
    async with asyncio.TaskGroup() as tasks:
        for member in members:
            tasks.create_task(member.work(gap, lambda: time.monotonic() > begins + seconds))
        for act in acts:
            await asyncio.sleep(max(0.0, begins + act.at - time.monotonic()))
            summary.acts.append({**asdict(act), "began": boottime()})
            await _act(hosts, machines, act)
    summary.moves = sum(member.moves - 1 for member in members)


async def _act(hosts: Hosts, machines: list[Machine], act: Act) -> None:
    """Do it, and mend it when its time is over."""
    machine = machines[act.host - 1]
    if act.kind in CUT:
        hosts.set_faults(_faults(act, [other.host.number for other in machines if other is not machine]))
        await asyncio.sleep(act.lasts)
        hosts.set_faults({})
    elif act.kind in STOP:
        stopped = {
            "stop supervisor": lambda: [machine.supervisor],
            "stop guardian": lambda: [machine.guardian()],
            "stop tree": machine.tree,
        }[act.kind]()
        send(stopped, signal.SIGSTOP)
        await asyncio.sleep(act.lasts)
        send(stopped, signal.SIGCONT)
    elif act.kind == KILL_NODE:
        await machine.kill_node()
        await asyncio.sleep(act.lasts)
        await machine.start_node()
    elif act.kind == KILL_SERVER:
        await machine.kill_server()
        await asyncio.sleep(act.lasts)
        await machine.start_server()


def _faults(act: Act, others: list[int]) -> Faults:
    return {
        "cut": lambda: cut(act.host, others, fault={"loss": 1.0}),
        "cut one way": lambda: cut(act.host, others, fault={"loss": 1.0}, back=False),
        "delay": lambda: cut(act.host, others, fault={"delay": 0.2}),
        "loss": lambda: cut(act.host, others, fault={"loss": 0.2}),
    }[act.kind]()


async def _judge(members: list[Member], diary: Path, summary: Summary) -> None:
    sent = [event for member in members for event in member.sent]
    found = audit(sent, _lines(diary), EXCLUSIVE)
    ends = time.monotonic() + SETTLES
    while found.lost and time.monotonic() < ends:  # what was accepted may still wait for its mod
        await asyncio.sleep(1)
        found = audit(sent, _lines(diary), EXCLUSIVE)
    summary.sent = len(sent)
    summary.found = asdict(found)
    _measure(sent, found.away, summary)
    told = {
        f"{len(found.lost)} accepted durable events were lost": found.lost,
        f"{len(found.repeated)} events were handled twice as first attempts": found.repeated,
        f"{len(found.two_holders)} times an older holder wrote after a newer one": found.two_holders,
        f"plain events failed without a reason: {found.unreasoned}": found.unreasoned,
        f"only {found.answered} of {len(sent)} events were answered": found.answered < len(sent) * 0.5,
    }
    summary.problems += [text for text, is_so in told.items() if is_so]


def _lines(diary: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in diary.read_text().splitlines()]


def _measure(sent: list[Sent], away: list[Away], summary: Summary) -> None:
    times = sorted(event.seconds * 1000 for event in sent if event.outcome == "answered")
    if times:
        summary.p50_ms, summary.p99_ms = statistics.median(times), times[len(times) * 99 // 100]
    seconds = sorted(each.seconds for each in away)
    summary.takeovers = len(seconds)
    if seconds:
        summary.takeover_p50, summary.takeover_p99 = statistics.median(seconds), seconds[len(seconds) * 99 // 100]
    for each in away:
        acts = [act["kind"] for act in summary.acts if act["began"] <= each.since + each.seconds]
        summary.takeovers_by.setdefault(acts[-1] if acts else "nothing", []).append(each.seconds)


def boottime() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)
