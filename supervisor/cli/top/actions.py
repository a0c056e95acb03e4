"""What an operator does with a mod: what it will do, in a sentence, and how the network is asked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..client.client import Client, segment
from ..terminal.exits import CliError

PATIENCE = 5.0  # seconds for a plan; without an answer the sentence that is written here is shown


@dataclass(frozen=True, slots=True)
class Action:
    """An action on a mod.

    Attributes:
        name: as in `modvisor NAME MOD`; ``doing``: while it is under way.
        plan: what it will do, for networks that do not tell themselves.
    """

    name: str
    doing: str
    method: str
    path: str
    plan: str


ACTIONS = {
    action.name: action
    for action in (
        Action(
            "reload", "reloading", "POST", "/mods/{}/reload",
            "A new process with the mod's files as they are now takes over. Events wait a moment, none is lost. "
            "If the new process fails, the old one stays.",
        ),
        Action(
            "restart", "restarting", "POST", "/mods/{}/restart",
            "A new process of the version that was last good takes over. A mod that is down comes back.",
        ),
        Action(
            "unload", "unloading", "DELETE", "/mods/{}",
            "The mod finishes the events that it handles, and its process ends. Its events go to other mods, or to nobody.",
        ),
    )
}  # fmt: skip


def plan_of(client: Client, action: Action, mod: str) -> str:
    """Return what an action will do, as the network says it."""
    try:
        found = client.get(f"/mods/{segment(mod)}/plan", timeout=PATIENCE, do=action.name)
    except CliError:
        return action.plan
    return str(found.get("text") or action.plan)


def done(client: Client, action: Action, mod: str) -> tuple[bool, str]:
    """Do it. Return whether that worked, and what happened."""
    body: Any = {} if action.method == "POST" else None
    try:
        answer = client.request(action.method, action.path.format(segment(mod)), body=body)
    except CliError as error:
        return False, str(error)
    return True, str(answer.get("message") or f"{action.name} of {mod} is done")


def under_way(client: Client) -> list[dict[str, Any]]:
    """Return what the network has under way; nothing if it does not say."""
    try:
        return client.get("/progress", timeout=PATIENCE)["under_way"]
    except CliError:
        return []
