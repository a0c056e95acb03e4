"""What is under way in a network can be seen from outside the request, and ends with it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from modvisor.supervisor import AgentNetwork
from modvisor.supervisor.progress import UnderWay, tell, tell_step, teller
from tests.conftest import until

pytestmark = pytest.mark.anyio

SLOW_START = """
    from pathlib import Path
    import anyio
    from modvisor.mods import BaseMod, EventResponse, mod_event_handler

    class Slow(BaseMod):
        version = "1.0"

        async def initialize(self):
            go = Path(self.config["go"])
            while not go.exists():
                await anyio.sleep(0.01)
"""


def shown(under_way: UnderWay) -> list[tuple[Any, ...]]:
    return [tuple(work[key] for key in ("what", "on", "stage", "done", "total")) for work in under_way.to_list()]


async def test_a_request_is_there_until_it_ends_however_it_ends() -> None:
    under_way = UnderWay()
    with suppress(ZeroDivisionError), under_way.begun("mod.reload", "wiki"):
        tell("worker 2 of 4", 1, 4)
        tell_step("draining")
        assert shown(under_way) == [("mod.reload", "wiki", "worker 2 of 4: draining", 1, 4)]
        tell("worker 3 of 4", 2, 4)
        assert shown(under_way) == [("mod.reload", "wiki", "worker 3 of 4", 2, 4)]
        raise ZeroDivisionError
    assert under_way.to_list() == []
    tell("nobody's")
    teller()(1, 2)


async def test_requests_beside_each_other_do_not_mix_and_threads_tell_of_their_own() -> None:
    under_way = UnderWay()
    told, over = asyncio.Event(), asyncio.Event()

    async def request(name: str) -> None:
        with under_way.begun("mod.load", name):
            tell(f"of {name}")
            thread = threading.Thread(target=teller(), args=(len(name), 10))
            thread.start()
            thread.join()
            told.set()
            await over.wait()

    async with asyncio.TaskGroup() as tasks:
        for name in ("a", "bb"):
            tasks.create_task(request(name))
        await told.wait()
        await asyncio.sleep(0)
        assert shown(under_way) == [("mod.load", "a", "of a", 1, 10), ("mod.load", "bb", "of bb", 2, 10)]
        over.set()


async def test_a_rolling_reload_tells_which_worker_it_is_at(
    tmp_path: Path, write_mod: Callable[..., str], make_network: Callable[..., AgentNetwork]
) -> None:
    go = tmp_path / "go"
    go.touch()
    write_mod("slow", SLOW_START)
    network = make_network(mods=[{"path": "./slow", "workers": 2, "config": {"go": str(go)}}])
    await network.initialize()
    go.unlink()
    reload = asyncio.create_task(network.reload_mod("slow"))
    begun = ("mod.reload", "slow", "worker 1 of 2: starting the new process", 0, 2)
    await until(lambda: shown(network.under_way) == [begun])
    go.touch()
    assert (await reload).success
    assert network.under_way.to_list() == []


async def test_a_backup_counts_the_pages(tmp_path: Path, network: AgentNetwork) -> None:
    seen: list[tuple[int, int | None]] = []
    under_way = network.under_way

    class Watched(dict[int, Any]):
        def __delitem__(self, number: int) -> None:  # at the end: the last that was told
            seen.append((self[number].done, self[number].total))
            super().__delitem__(number)

    under_way._works = Watched()
    await network.backup(tmp_path / "copy.db")
    ((done, total),) = seen
    assert total is not None
    assert 0 < done == total
