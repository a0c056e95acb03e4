"""The wiki and the project mod."""

from __future__ import annotations

from .steps import Kept, Send, Step

TEMPLATES = {
    "report": {"name": "Report", "description": "a report", "agent_groups": ["developers"], "context": "be short"},
    "lonely": {"name": "Lonely", "agent_groups": []},
}

_PAGE = {"page_path": "guides/start", "title": "Start", "wiki_content": "first words", "tags": ["new"]}
_PROJECT = {"project_id": Kept("project")}

WIKI: list[Step] = [
    Send("alice", "wiki.page.create", {**_PAGE, "category": "guides"}),
    Send("alice", "wiki.page.create", _PAGE),  # it exists
    Send("alice", "wiki.page.create", {"page_path": "no title"}),
    Send("bob", "wiki.page.get", {"page_path": "guides/start"}),
    Send("bob", "wiki.page.get", {"page_path": "guides/nowhere"}),
    Send("alice", "wiki.page.edit", {"page_path": "guides/start", "wiki_content": "second words"}),
    Send("bob", "wiki.page.edit", {"page_path": "guides/start", "wiki_content": "not mine"}),
    Send("bob", "wiki.page.get", {"page_path": "guides/start", "version": 1}),
    Send("bob", "wiki.page.get", {"page_path": "guides/start", "version": 9}),
    Send(
        "bob",
        "wiki.page.proposal.create",
        {"page_path": "guides/start", "wiki_content": "better words", "rationale": "clearer"},
        keep={"proposal": "proposal_id"},
    ),
    Send("bob", "wiki.page.proposal.create", {"page_path": "nowhere", "wiki_content": "x", "rationale": "y"}),
    Send("alice", "wiki.proposals.list", {"page_path": "guides/start", "status": "pending"}),
    Send("bob", "wiki.proposals.list", {"status": "pending"}),
    Send("bob", "wiki.proposal.resolve", {"proposal_id": Kept("proposal"), "action": "approve"}),
    Send("alice", "wiki.proposal.resolve", {"proposal_id": Kept("proposal"), "action": "approve", "comments": "yes"}),
    Send("alice", "wiki.proposal.resolve", {"proposal_id": Kept("proposal"), "action": "reject"}),
    Send("alice", "wiki.proposal.resolve", {"proposal_id": "none", "action": "approve"}),
    Send("bob", "wiki.page.create", {"page_path": "notes", "title": "Notes", "wiki_content": "grüße, 你好"}),
    Send("carol", "wiki.pages.list", {"limit": 10}, unordered=("pages",)),
    Send("carol", "wiki.pages.search", {"query": "words"}, unordered=("pages",)),
    Send("carol", "wiki.page.history", {"page_path": "guides/start", "limit": 2}),
    Send("alice", "wiki.page.revert", {"page_path": "guides/start", "target_version": 1}),
    Send("bob", "wiki.page.revert", {"page_path": "guides/start", "target_version": 1}),
    Send("alice", "wiki.page.get", {"page_path": "guides/start"}),
]

PROJECT: list[Step] = [
    Send("alice", "project.template.list", {}),
    Send("alice", "project.start", {"template_id": "none", "goal": "x"}),
    Send(
        "alice",
        "project.start",
        {"template_id": "report", "goal": "write it", "name": "First", "collaborators": ["carol"]},
        keep={"project": "project_id"},
        unordered=("authorized_agents",),
    ),
    Send("bob", "project.start", {"template_id": "lonely", "goal": "alone"}, keep={"alone": "project_id"}),
    Send("alice", "project.start", {"template_id": "report", "goal": "one too many"}),
    Send("alice", "project.get", {"project_id": Kept("project")}, unordered=("authorized_agents",)),
    Send("alice", "project.list", {}, unordered=("authorized_agents",)),
    Send("bob", "project.list", {"status": "running"}),
    Send("alice", "project.message.send", {**_PROJECT, "content": {"text": "hello"}}),
    Send("alice", "project.message.send", {"project_id": "none", "content": {}}),
    Send("alice", "project.global_state.set", {**_PROJECT, "key": "step", "value": {"n": 1}}),
    Send("carol", "project.global_state.set", {**_PROJECT, "key": "step", "value": 2}),
    Send("carol", "project.global_state.get", {**_PROJECT, "key": "step"}),
    Send("bob", "project.global_state.get", {**_PROJECT, "key": "step"}),  # denied
    Send("alice", "project.global_state.list", _PROJECT),
    Send("alice", "project.global_state.delete", {**_PROJECT, "key": "step"}),
    Send("carol", "project.agent_state.set", {**_PROJECT, "key": "mood", "value": "good"}),
    Send("carol", "project.agent_state.get", {**_PROJECT, "key": "mood"}),
    Send("alice", "project.agent_state.get", {**_PROJECT, "key": "mood", "agent_id": "carol"}),
    Send("carol", "project.agent_state.list", _PROJECT),
    Send("carol", "project.agent_state.delete", {**_PROJECT, "key": "mood"}),
    Send("alice", "project.artifact.set", {**_PROJECT, "key": "draft", "value": "a" * 2000}),
    Send("carol", "project.artifact.get", {**_PROJECT, "key": "draft"}),
    Send("carol", "project.artifact.list", _PROJECT),
    Send("carol", "project.artifact.delete", {**_PROJECT, "key": "draft"}),
    Send("alice", "project.unheard.of", {}),
    Send("alice", "project.complete", {**_PROJECT, "summary": "done"}),
    Send("bob", "project.stop", {"project_id": Kept("alone"), "reason": "tired"}),
    Send("bob", "project.complete", _PROJECT),
]

STEPS = WIKI + PROJECT
