"""``modvisor agent forget ID``: delete what a network keeps of an agent, whether it runs or not."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from ..client.client import segment
from ..client.connect import connect
from ..settings import Settings
from ..terminal.exits import CliError, ExitCode
from ..terminal.output import Output, printable

COUNTED = {
    "inbox": "events in its inbox",
    "channels": "memberships of channels",
    "invites": "invites",
    "dead_letters": "dead letters",
    "answers": "remembered answers",
    "reports": "crash reports without its id from now on",
}


def forget(settings: Settings, agent_id: str) -> None:
    client, output, told = connect(settings), Output(as_json=settings.json), "mods were told to forget it"
    try:
        answer = client.post(f"/agents/{segment(agent_id)}/forget")
    except CliError as error:
        storage = client.target.storage
        if error.code is not ExitCode.NO_NETWORK or storage is None:
            raise
        answer, told = _forget_at_rest(settings, agent_id, storage, error), "no network runs, so no mod was told"
    output.document(answer, lambda: print(printable(_told(answer))))
    output.note(f"the audit still names it, and so may backups, logs, and what mods keep; {told}")


def _forget_at_rest(settings: Settings, agent_id: str, storage: Path, nobody: CliError) -> dict[str, Any]:
    """Delete it from the journal that a network has left, and from its cluster. Inboxes of one machine end with the network."""
    from ....ipc.address import check_agent_id
    from ..at_rest.audited import audited, owned_journal
    from ..client.target import audit_config

    with owned_journal(storage, nobody) as (state, journal, kept):
        check_agent_id(agent_id)
        config = audit_config(settings, "how the audit is kept, which records this")
        keep_head = journal.keep_audit_head

        async def forget_it() -> Any:
            in_cluster = await _forget_in_cluster(settings, agent_id)
            here = await journal.forget_agent(agent_id)
            return here if in_cluster is None else here + in_cluster

        forgotten = audited(
            state.root, config, kept.audit_head, forget_it, "agent.forget", agent_id, keep_head=keep_head
        )
    if forgotten.is_empty:
        raise CliError(ExitCode.FAILED, f"nothing is kept of an agent {agent_id!r}")
    data = {"agent_id": agent_id, "inbox": 0, **asdict(forgotten)}
    return {"success": True, "message": f"agent {agent_id} is forgotten", "data": data}


async def _forget_in_cluster(settings: Settings, agent_id: str) -> Any:
    """Delete what the cluster of the network file keeps; None: there is none."""
    from ...config import load_config

    config = load_config(settings.network_file, node=settings.named_node)
    if config.cluster is None:
        return None
    from ...cluster.moving.moving import forget_at_rest

    return await forget_at_rest(config, agent_id)


def _told(answer: dict[str, Any]) -> str:
    data = answer["data"]
    counts = [f"{data[key]} {words}" for key, words in COUNTED.items() if data[key]]
    if data["registered"]:
        counts.insert(0, "its registration")
    lines = [f"{answer['message']}: {', '.join(counts) or 'nothing else was kept'}"]
    if data["waiting"]:
        lines.append(f"{data['waiting']} events that it sent wait for mods, and are deleted when they are answered")
    return "\n".join(lines)
