"""A network that starts empty, and whose operator loads and unloads mods while it runs.

Usage: python mods_on_demand.py PORT WORKSPACE
"""

import asyncio
import sys

from openagents.models.network_config import NetworkConfig, TransportConfigItem
from openagents.sdk.network import AgentNetwork, Event

WIKI = "openagents.mods.workspace.wiki"
CACHE = "openagents.mods.core.shared_cache"


def overview(network):
    stats = network.get_network_stats()
    dynamic = stats["dynamic_mods"]
    print("loaded:", sorted(dynamic["loaded"]), dynamic["count"], "agents:", sorted(stats["agents"]))
    for mod_id in sorted(dynamic["details"]):
        details = dynamic["details"][mod_id]
        print("  ", details["mod_id"], details["mod_path"], details["loaded_at"] > 0)


async def write_page(network, path):
    event = Event(
        event_name="wiki.page.create",
        source_id="editor",
        destination_id=f"mod:{WIKI}",
        payload={"page_path": path, "title": path.title(), "wiki_content": "About it."},
    )
    return await network.process_event(event)


async def main(port, workspace):
    config = NetworkConfig(
        name="OnDemand",
        node_id="on-demand",
        transports=[TransportConfigItem(type="http", config={"host": "127.0.0.1", "port": int(port)})],
    )
    network = AgentNetwork.create_from_config(config, workspace_path=workspace)
    assert await network.initialize()
    print(network.network_name, network.network_id, network.is_running)
    await network.register_agent("editor", "http", {}, None)
    overview(network)

    loaded = await network.load_mod(WIKI, config={"max_page_content_length": 1000})
    print("wiki:", loaded.success, loaded.data["mod_id"], loaded.data["mod_path"])
    print("again:", (await network.load_mod(WIKI)).success)
    print("nowhere:", (await network.load_mod("openagents.mods.workspace.nowhere")).success)
    overview(network)

    for path in ("engines", "looms"):
        written = await write_page(network, path)
        print("page", path, written.success, written.data["version"])
    view = network.mods[WIKI]
    print(view.mod_name, view.config)
    state = view.get_state()
    print("state:", state["total_pages"], sorted(state["pages"]))

    through_events = await network.process_event(
        Event(event_name="system.mod.load", source_id="system:system", payload={"mod_path": CACHE})
    )
    print("cache:", through_events.success, CACHE in network.mods)
    kept = await network.process_event(
        Event(
            event_name="shared_cache.create",
            source_id="editor",
            payload={"value": "42", "mime_type": "text/plain", "allowed_agent_groups": []},
        )
    )
    asked = await network.process_event(
        Event(event_name="shared_cache.get", source_id="editor", payload={"cache_id": kept.data["cache_id"]})
    )
    print("kept:", kept.success, asked.data["value"], asked.data["created_by"])

    for _ in range(3):
        print("cycle:", (await network.unload_mod(CACHE)).success, (await network.load_mod(CACHE)).success)
    print("unloaded:", (await network.unload_mod(WIKI)).success, (await network.unload_mod(WIKI)).success)
    print("gone:", WIKI in network.mods, sorted(network.get_loaded_mods()))
    overview(network)
    print("stopped:", await network.shutdown(), network.is_running)


asyncio.run(main(*sys.argv[1:]))
