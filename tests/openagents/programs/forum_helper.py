"""A forum with an agent that welcomes each new topic. After an example of OpenAgents.

Usage: python forum_helper.py NETWORK.YAML WORKSPACE
"""

import asyncio
import sys

from openagents.sdk.network import AgentNetwork, Event

FORUM = "openagents.mods.workspace.forum"


async def ask(network, agent, name, payload):
    event = Event(
        event_name=name,
        source_id=agent,
        destination_id=f"mod:{FORUM}",
        payload=payload,
        visibility="mod_only",
        relevant_mod=FORUM,
    )
    return await network.process_event(event)


async def welcome_new_topics(network):
    """What the helper does with its inbox: it comments on each topic that another agent created."""
    for event in await network.event_gateway.poll_events("helper"):
        topic = event.payload.get("topic", {})
        print("the helper hears", event.event_name, repr(topic.get("title")))
        if event.event_name == "forum.topic.created":
            text = f"Welcome, {topic['owner_id']}!"
            posted = await ask(
                network,
                "helper",
                "forum.comment.post",
                {"action": "post", "topic_id": topic["topic_id"], "content": text},
            )
            print("the helper comments:", posted.success)


async def main(file, workspace):
    network = AgentNetwork.load(file, workspace_path=workspace)
    assert await network.initialize()
    print("mods:", {path: mod.config for path, mod in network.mods.items()})
    for agent in ("helper", "ada", "grace"):
        registered = await network.register_agent(agent, "http", {"name": agent}, None)
        print("registered", agent, registered.success, registered.data["assigned_group"])

    created = await ask(
        network, "ada", "forum.topic.create", {"action": "create", "title": "Engines", "content": "Do they think?"}
    )
    print("created:", created.success, created.message)
    topic = created.data["topic_id"]
    refused = await ask(network, "ada", "forum.topic.create", {"action": "create", "title": "", "content": "x"})
    print("without a title:", refused.success, refused.message)
    await welcome_new_topics(network)

    vote = {"action": "cast", "target_type": "topic", "target_id": topic, "vote_type": "upvote"}
    for agent in ("grace", "grace"):
        voted = await ask(network, agent, "forum.vote.cast", vote)
        print("vote of", agent, voted.success, voted.message)
    listed = await ask(network, "grace", "forum.topics.list", {"query_type": "list_topics", "limit": 10})
    for each in listed.data["topics"]:
        print(
            "topic", each["title"], "by", each["owner_id"], "votes", each["upvotes"], "comments", each["comment_count"]
        )
    read = await ask(network, "grace", "forum.topic.get", {"query_type": "get_topic", "topic_id": topic})
    print("comments:", [comment["content"] for comment in read.data["comments"]])
    left = await network.unregister_agent("helper")
    print("the helper leaves:", left.success, "helper" in network.topology.agent_group_membership)
    print("stopped:", await network.shutdown())


asyncio.run(main(*sys.argv[1:]))
