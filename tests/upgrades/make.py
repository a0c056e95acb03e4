"""`PYTHON -m tests.upgrades.make FOLDER`: fill a fixture's `state/` with what the installed modvisor leaves behind.

Run once per release, by the interpreter of that release, from a folder that holds the fixture's
`network.yaml` and `mods/`. The network kills itself while its mod handles a durable event.
"""

import asyncio
import os
import signal
import sys
from pathlib import Path

from modvisor.supervisor import AgentNetwork, Event


async def main(folder: Path) -> None:
    network = AgentNetwork.load(folder / "network.yaml")
    await network.initialize()
    registered = await network.register_agent("alice", metadata={"name": "Alice"})
    (folder / "alice.secret").write_text(registered.data["secret"])
    for channel in ("general", "dev"):
        await network.process_event(
            Event("system.add_channel_member", "agent:alice", payload={"channel": channel, "agent_id": "alice"})
        )
    page = {"path": "home", "title": "Home", "content": "written by the version before"}
    await network.load_mod("modvisor.mods.workspace.wiki")
    await network.process_event(Event("wiki.page.create", "agent:alice", payload=page))
    await network.load_mod("./counter", mod_id="fragile", max_attempts=1, restart={"max_restarts": 0})
    await network.process_event(Event("count.die", "agent:alice", "mod:fragile", payload={"why": "a dead letter"}))
    for _ in range(3):
        await network.process_event(Event("count.up", "agent:alice", "mod:counter"))
    asyncio.create_task(network.process_event(Event("count.stop", "agent:alice", "mod:counter")))  # noqa: RUF006
    while not (folder / "state" / "mods" / "counter" / "stopped").exists():
        await asyncio.sleep(0.01)
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
