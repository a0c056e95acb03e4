"""Discovery of agents, and the delegation of tasks between them."""

from __future__ import annotations

from .steps import Kept, Send, Step

_TASK = {"task_id": Kept("task")}

DISCOVERY: list[Step] = [
    Send("alice", "discovery.agents.list", {}, unordered=("agents",)),
    Send("bob", "discovery.capabilities.set", {"capabilities": {"skills": ["prose", "poems"], "busy": False}}),
    Send("bob", "discovery.capabilities.set", {"capabilities": "all"}),
    Send("alice", "discovery.capabilities.get", {"agent_id": "bob"}),
    Send("alice", "discovery.capabilities.get", {"agent_id": "zoe"}),
    Send("alice", "discovery.capabilities.get", {}),
    Send("alice", "discovery.agents.search", {"filter": {"skills": ["poems", "songs"]}}),
    Send("alice", "discovery.agents.search", {"filter": {"skills": ["poems"], "busy": True}}),
    Send(
        "alice",
        "discovery.agents.list",
        {"filter": {"busy": False}},
        to="mod:openagents.mods.discovery.agent_discovery",
    ),
]

DELEGATION: list[Step] = [
    Send(
        "alice",
        "task.delegate",
        {"assignee_id": "bob", "description": "a poem", "payload": {"lines": 4}, "timeout_seconds": 3600},
        keep={"task": "task_id"},
    ),
    Send("alice", "task.delegate", {"assignee_id": "bob"}),
    Send("alice", "task.delegate", {"assignee_id": "bob", "description": "x", "timeout_seconds": -1}),
    Send("carol", "task.accept", _TASK),  # not its task
    Send("bob", "task.accept", {"task_id": "none"}),
    Send("bob", "task.accept", _TASK),
    Send("bob", "task.accept", _TASK),
    Send("bob", "task.report", {**_TASK, "progress": {"message": "two lines", "data": {"lines": 2}}}),
    Send("carol", "task.get", _TASK),
    Send("bob", "task.complete", {**_TASK, "result": {"text": "roses"}}),
    Send("bob", "task.fail", {**_TASK, "error": "too late"}),
    Send("alice", "task.get", _TASK),
    Send("alice", "task.delegate", {"assignee_id": "carol", "description": "a song"}, keep={"song": "task_id"}),
    Send("carol", "task.reject", {"task_id": Kept("song"), "reason": "no voice"}),
    Send("alice", "task.delegate", {"assignee_id": "bob", "description": "a play"}, keep={"play": "task_id"}),
    Send("alice", "task.cancel", {"task_id": Kept("play")}),
    Send("bob", "task.report", {"task_id": Kept("play"), "progress": {}}),
    Send(
        "alice",
        "task.route",
        {"description": "more poems", "required_capabilities": {"skills": ["poems"]}},
        keep={"routed": "task_id"},
    ),
    Send("bob", "task.fail", {"task_id": Kept("routed"), "error": "no ink"}),
    Send("alice", "task.route", {"description": "x", "required_capabilities": {"skills": ["flying"]}}),
    Send(
        "alice",
        "task.route",
        {"description": "y", "required_capabilities": {"skills": ["flying"]}, "fallback_assignee_id": "carol"},
    ),
    Send("alice", "task.route", {"description": "z"}),
    Send("alice", "task.list", {"filter": {"role": "delegated_by_me", "status": ["failed", "completed"]}}),
    Send("bob", "task.list", {"filter": {"role": "assigned_to_me"}, "limit": 2}),
]

STEPS = DISCOVERY + DELEGATION
