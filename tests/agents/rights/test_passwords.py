"""Passwords that are stored as argon2id: checked beside the loop, a few at once, and counted when they are wrong."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from argon2 import PasswordHasher

from modvisor.ipc.event import Event, EventResponse
from modvisor.supervisor import AgentNetwork
from modvisor.supervisor.agents.rights import passwords as room
from tests.conftest import until

from ..registries import password

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(60)]

Make = Callable[..., AgentNetwork]
QUICK = PasswordHasher(time_cost=1, memory_cost=64, parallelism=1)


def stored(word: str) -> str:
    return QUICK.hash(password(word))


async def register(network: AgentNetwork, agent_id: str, address: str | None = None, **payload: Any) -> EventResponse:
    event = Event("system.register_agent", agent_id, payload={"agent_id": agent_id, **payload})
    return await network.process_external_event(event, address=address)


class Checks:
    """Watches the real checks.

    Attributes:
        count: how many there were.
        most: how many ran at once, at most.
    """

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.count = self.now = self.most = 0
        self.threads: set[int] = set()
        self.hold: threading.Event | None = None
        self._lock, self._verified = threading.Lock(), room._verified
        patch.setattr(room, "_verified", self._watched)

    def _watched(self, *given: str) -> bool:
        with self._lock:
            self.count += 1
            self.now += 1
            self.most = max(self.most, self.now)
            self.threads.add(threading.get_ident())
        if self.hold is not None:
            assert self.hold.wait(10)
        try:
            return self._verified(*given)
        finally:
            with self._lock:
                self.now -= 1


@pytest.fixture
def checks(monkeypatch: pytest.MonkeyPatch) -> Checks:
    return Checks(monkeypatch)


@pytest.fixture
async def network(make_network: Make) -> AgentNetwork:
    network = make_network(
        agent_groups={
            "admins": {"permissions": ["agents"], "password_hash": stored("sesame")},
            "readers": {"password_hash": stored("books")},
            "old": {"password_hash": password("plain")},
        },
        agents={"wrong_passwords": 3},
    )
    await network.initialize()
    return network


async def test_an_agent_joins_with_the_sha_256_that_it_always_sent(network: AgentNetwork, checks: Checks) -> None:
    for agent_id, given, group in (
        ("a", {"password_hash": password("sesame")}, "admins"),
        ("b", {"password_hash": password("books").upper(), "agent_group": "readers"}, "readers"),
        ("c", {"password_hash": password("plain")}, "old"),
        ("d", {"password_hash": password("plain"), "agent_group": "old"}, "old"),
    ):
        response = await register(network, agent_id, **given)
        assert response.data.get("assigned_group") == group, response
    assert threading.get_ident() not in checks.threads, "the loop goes on meanwhile"


@pytest.mark.parametrize("given", [password("wrong"), "sesame", "\ud800", "$argon2id$v=19$m=8,t=1,p=1$YWFhYWFhYWE$YQ"])
async def test_a_wrong_password_is_refused(network: AgentNetwork, given: str) -> None:
    for more in ({}, {"agent_group": "admins"}):
        response = await register(network, "eve", password_hash=given, **more)
        assert response.error == "unauthenticated"
    assert not network.agent_directory()


async def test_what_is_stored_is_no_password(network: AgentNetwork) -> None:
    given = network.config.agent_groups["admins"].password_hash
    assert (await register(network, "eve", password_hash=given, agent_group="admins")).error == "unauthenticated"


async def test_a_password_that_was_right_is_checked_once(network: AgentNetwork, checks: Checks) -> None:
    for number in range(5):
        assert (await register(network, f"a{number}", password_hash=password("sesame"), agent_group="admins")).success
    assert checks.count == 1
    response = await register(network, "eve", password_hash=password("wrong"), agent_group="admins")
    assert (response.error, checks.count) == ("unauthenticated", 2)


async def test_two_checks_run_at_once(network: AgentNetwork, checks: Checks) -> None:
    async with asyncio.TaskGroup() as tasks:
        for number in range(12):
            how = {"password_hash": password(f"wrong{number}"), "agent_group": "admins"}
            tasks.create_task(register(network, f"a{number}", f"192.0.2.{number}", **how))
    assert (checks.count, checks.most <= room.CHECKS) == (12, True)


async def test_many_guesses_at_once_are_no_more_guesses(network: AgentNetwork, checks: Checks) -> None:
    """An address has one check at a time: the next one knows of the wrong password before."""
    how = {"agent_group": "admins", "address": "192.0.2.1"}
    guesses = (register(network, "eve", password_hash=password(f"wrong{number}"), **how) for number in range(8))
    errors = [response.error for response in await asyncio.gather(*guesses)]
    assert (errors.count("unauthenticated"), errors.count("too_many"), checks.count) == (4, 4, 4)
    right = await register(network, "eve", password_hash=password("sesame"), **how)
    assert (right.error, right.data["retry_after"]) == ("too_many", 1)
    assert (await register(network, "ann", "192.0.2.2", password_hash=password("sesame"))).success


async def test_who_would_wait_too_long_is_refused(make_network: Make, checks: Checks) -> None:
    network = make_network(
        agent_groups={"admins": {"password_hash": stored("sesame")}},
        agents={"password_queue": 8, "wrong_passwords": 99},
    )
    await network.initialize()
    checks.hold = threading.Event()
    how = {"password_hash": password("wrong"), "agent_group": "admins"}
    tasks = [asyncio.ensure_future(register(network, "x", "192.0.2.1", **how)) for _ in range(3)]
    tasks += [asyncio.ensure_future(register(network, "x", f"198.51.100.{number}", **how)) for number in range(9)]
    done, _ = await asyncio.wait(tasks, timeout=10, return_when=asyncio.FIRST_COMPLETED)
    errors = {task.result().error for task in done}
    assert errors <= {"too_many", "overloaded"}
    checks.hold.set()
    counted = [response.error for response in await asyncio.gather(*tasks)]
    assert (counted.count("unauthenticated"), counted.count("too_many"), counted.count("overloaded")) == (10, 1, 1)
    passwords = network._parts.agents._passwords if network._parts is not None else None
    assert passwords is not None
    assert (passwords._here, passwords._turns) == ({}, {}), "nothing is kept of those who have gone"


async def test_a_password_that_changes_while_it_is_checked_is_wrong(network: AgentNetwork, checks: Checks) -> None:
    checks.hold = threading.Event()
    how = {"password_hash": password("sesame"), "agent_group": "admins"}
    task = asyncio.ensure_future(register(network, "ann", **how))
    await until(lambda: checks.count == 1)
    groups = network.config.agent_groups
    assert network._parts is not None
    changed = {**groups, "admins": replace(groups["admins"], password_hash=stored("other"))}
    network._parts.agents.use_groups(changed, network.config.agents)
    checks.hold.set()
    assert (await task).error == "unauthenticated"


async def test_two_who_register_an_id_at_once_do_not_share_it(network: AgentNetwork) -> None:
    first, second = await asyncio.gather(
        register(network, "ann", password_hash=password("sesame"), agent_group="admins"),
        register(network, "ann", password_hash=password("books"), agent_group="readers"),
    )
    assert sorted([first.error or "", second.error or ""]) == ["", "id_taken"]


async def test_the_password_of_its_group_retakes_a_live_id(network: AgentNetwork) -> None:
    assert (await register(network, "ann", password_hash=password("sesame"))).success
    assert (await register(network, "ann", password_hash=password("books"))).error == "id_taken"
    assert (await register(network, "ann", password_hash=password("sesame"))).success


def test_argon2_is_imported_with_the_first_check() -> None:
    """A network that nobody joins by password does without it."""
    code = f"""
        import asyncio, sys, tempfile
        from modvisor.supervisor import AgentNetwork, Event

        async def main():
            with tempfile.TemporaryDirectory() as folder:
                config = {{"network": {{"name": "n"}}, "agent_groups": {{"g": {{"password_hash": {stored("sesame")!r}}}}}}}
                async with AgentNetwork.from_config(config, base_dir=folder) as network:
                    async def join(**given):
                        event = Event("system.register_agent", "a", payload={{"agent_id": "a", **given}})
                        return (await network.process_external_event(event)).success, "argon2" in sys.modules
                    print(await join(), await join(password_hash={password("x")!r}))

        asyncio.run(main())
    """
    run = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, timeout=50)
    assert run.stdout.strip() == "(True, False) (False, True)", run.stderr
