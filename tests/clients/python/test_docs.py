"""What docs/clients.md and the client's README show works as it stands there."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import pytest

import modvisor_client
from modvisor_client import AgentClient, errors
from modvisor_client.sync import AgentClient as SyncClient
from tests import warm
from tests.http.serving import Served

pytestmark = pytest.mark.anyio

ROOT = Path(__file__).parents[3]
PAGES = {name: (ROOT / name).read_text() for name in ("docs/clients.md", "clients/python/README.md")}


def blocks(page: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", PAGES[page], re.DOTALL)


async def run(program: str, served: Served) -> str:
    """Run an example of the docs at this network's port. Return what it prints."""
    program = program.replace("127.0.0.1:8700", f"127.0.0.1:{served.network.port}")
    done = await anyio.to_thread.run_sync(lambda: warm.run([sys.executable, "-c", program], timeout=30))
    assert (done.stderr, done.returncode) == ("", 0)
    return done.stdout


@pytest.mark.slow
async def test_whole_programs_run(served: Served) -> None:
    whole = [block for page in PAGES for block in blocks(page) if "127.0.0.1" in block]
    printed = [await run(program, served) for program in whole]
    assert printed == ["Home 1\n", "alice hello\n", "alice hello\n"]


async def test_the_other_examples_are_what_the_client_has(served: Served) -> None:
    """Each is put into a coroutine, with the agents that it names."""
    parts = [block for block in blocks("docs/clients.md") if "127.0.0.1" not in block]
    assert len(parts) == 3
    url = f"http://127.0.0.1:{served.network.port}"
    async with AgentClient(url, "alice") as alice, AgentClient(url, "bob") as bob:
        await in_a_coroutine(parts[0], alice=alice, bob=bob)
        async with anyio.create_task_group() as tasks:
            for part in parts[1:]:
                tasks.start_soon(lambda part=part: in_a_coroutine(part, me=bob))
            assert (await alice.send("wiki.page.seen", {"path": "home", "text": "hi"}, to="bob")).delivered == 1
            assert (await alice.send("chat.message", {"text": "hi"}, to="bob")).delivered == 1
            await bob.unregister()


async def in_a_coroutine(source: str, **names: Any) -> None:
    body = "\n".join(f"    {line}" for line in source.splitlines())
    exec(compile(f"async def example():\n{body}\n", "docs/clients.md", "exec"), names)
    await names["example"]()


def test_the_names_in_the_docs_exist() -> None:
    text = PAGES["docs/clients.md"].split("## TypeScript")[0].split("## Python")[1]
    arguments = set(AgentClient.__init__.__annotations__)
    table = text.split("### Sending")[0]
    named = {word for row in table.splitlines() if row.startswith("| `") for word in re.findall(r"`(\w+)`", row)}
    assert arguments - {"url", "agent_id", "return"} <= named
    for name in re.findall(r"\| `([A-Z]\w+)` \|", text):
        assert issubclass(getattr(errors, name), modvisor_client.ModvisorClientError)
    for name in re.findall(r"`(?:await )?(?:me\.)?(\w+)\(", text):
        assert hasattr(AgentClient, name) or name in ("check", "next", "async", "with"), name


def test_the_face_without_a_loop_has_all_of_the_other_one() -> None:
    def public(kind: type) -> set[str]:
        return {name for name in dir(kind) if not name.startswith("_")}

    told_by_the_link = {"welcomed", "delivered", "lost_events", "ended"}
    assert public(AgentClient) - told_by_the_link <= public(SyncClient)
