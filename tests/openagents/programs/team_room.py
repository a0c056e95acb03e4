"""A room for a team: groups with passwords, authenticated messages, subscriptions and channels.

Usage: python team_room.py PORT WORKSPACE
"""

import asyncio
import hashlib
import sys

from openagents.models.network_config import AgentGroupConfig, ModConfig, NetworkConfig, TransportConfigItem
from openagents.sdk.network import AgentNetwork, Event

MESSAGING = "openagents.mods.workspace.messaging"
PASSWORD = hashlib.sha256(b"tea at five").hexdigest()


async def post(network, agent, secret, text):
    """Post to the channel general, as an agent from outside would: with its secret."""
    event = Event(
        event_name="thread.channel_message.post",
        source_id=agent,
        destination_id="channel:general",
        payload={"channel": "general", "content": {"text": text}, "message_type": "channel_message"},
        secret=secret,
    )
    return await network.process_external_event(event)


async def main(port, workspace):
    config = NetworkConfig(
        name="TeamRoom",
        node_id="team-room",
        default_agent_group="visitors",
        agent_groups={
            "team": AgentGroupConfig(password_hash=PASSWORD, description="The team", metadata={"floor": 3}),
        },
        transports=[TransportConfigItem(type="http", config={"host": "127.0.0.1", "port": int(port)})],
        mods=[ModConfig(name=MESSAGING, config={"default_channels": [{"name": "general", "description": "All"}]})],
    )
    network = AgentNetwork.create_from_config(config, workspace_path=workspace)
    assert await network.initialize()
    secrets = {}
    for agent, password in (("ada", PASSWORD), ("grace", PASSWORD), ("guest", None)):
        registered = await network.register_agent(
            agent_id=agent, transport_type="http", metadata={"name": agent}, certificate=None, password_hash=password
        )
        secrets[agent] = registered.data["secret"]
        print(agent, registered.success, network.topology.agent_group_membership[agent])
    twice = await network.register_agent("ada", "http", {}, None)
    wrong = await network.register_agent("mallory", "http", {}, None, password_hash="0" * 64, requested_group="team")
    print("twice:", twice.success, "wrong password:", wrong.success, "mallory" in network.topology.agent_registry)

    said = await post(network, "ada", secrets["ada"], "Good morning")
    print("said:", said.success)
    print("without a secret:", (await post(network, "ada", None, "I am Ada")).success)
    print("with another's:", (await post(network, "ada", secrets["guest"], "I am Ada")).success)
    for agent in sorted(secrets):
        for event in await network.event_gateway.poll_events(agent):
            print(agent, "hears", event.event_name, "from", event.source_id, event.payload["content"], event.secret)

    subscription = network.event_gateway.subscribe("grace", ["tea.*"])
    network.event_gateway.create_channel("kitchen")
    for agent in ("grace", "guest"):
        network.event_gateway.add_channel_member("kitchen", agent)
    print("in the kitchen:", network.event_gateway.get_channel_members("kitchen"))
    for name in ("tea.ready", "cake.ready"):
        event = Event(event_name=name, source_id="ada", destination_id="channel:kitchen", payload={"for": "all"})
        print(name, (await network.event_gateway.process_event(event)).success, event.source_agent_group)
    for agent in ("grace", "guest"):
        heard = await network.event_gateway.poll_events(agent)
        print(agent, "hears", [(event.event_name, event.source_agent_group) for event in heard])
    print("unsubscribed:", network.event_gateway.unsubscribe(subscription.subscription_id))
    network.event_gateway.remove_channel_member("kitchen", "guest")
    print("in the kitchen:", network.event_gateway.get_channel_members("kitchen"))

    stats = network.get_network_stats()
    print("groups:", stats["groups"])
    for group in stats["group_config"]:
        print("  ", group["name"], group["agent_count"], group["has_password"], group["metadata"])
    print("team:", stats["group_config"][0]["description"])
    print("mods:", [(mod["name"], mod["enabled"]) for mod in stats["mods"]], stats["dynamic_mods"]["count"])
    print("secrets:", network.secret_manager.get_agent_count(), network.secret_manager.has_secret("mallory"))
    print("ada's:", network.secret_manager.validate_secret("ada", secrets["ada"]))
    await network.unregister_agent("ada")
    print(
        "after she left:",
        network.secret_manager.validate_secret("ada", secrets["ada"]),
        sorted(network.topology.agent_registry),
    )
    print("stopped:", await network.shutdown())


asyncio.run(main(*sys.argv[1:]))
