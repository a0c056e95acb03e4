"""Attacks on the network itself: forged requests over the mod's own pipe."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from modvisor.mods import Event

Context = Any
Forgery = Callable[[Context, dict[str, Any]], Awaitable[str]]

FORGERIES: dict[str, dict[str, Forgery]] = {}


def _sent(name: str, source: str | None, to: str | None, **payload: Any) -> Forgery:
    """Return a way that sends an event as the mod's SDK does, in the name of another."""

    async def send(context: Context, _aim: dict[str, Any]) -> str:
        return _granted(await context.send_event(Event(name, source, to, payload=payload)))

    return send


def _forged(**fields: Any) -> Forgery:
    """Return a way that sends an event over the pipe itself, with fields that only the network may set."""

    async def send(context: Context, _aim: dict[str, Any]) -> str:
        event = {"event_name": "victim.who", "destination_id": "mod:victim", "payload": {}, **fields}
        answer = await context._pipe.request("send_event", {"event": event, "cause": None})
        if answer.get("success") and answer["data"] == ["mod:attacker", context.mod_id]:
            raise PermissionError(f"the network set the fields right: {answer['data']}")
        data = answer.get("data")
        if answer.get("success") and data[1].removeprefix("mod:") == context.mod_id and data[0] == data[1]:
            raise PermissionError(f"the network set the fields right: {data}")
        return _granted(answer)

    return send


def _granted(answer: Any) -> str:
    """Return the answer as text if it grants what was asked; raise what it refuses."""
    success, error, message, data = (
        (answer.get(key) for key in ("success", "error", "message", "data"))
        if isinstance(answer, dict)
        else (answer.success, answer.error, answer.message, answer.data)
    )
    if not success:
        raise PermissionError(f"{error}: {message}")
    return f"granted: {data}"


FORGERIES["speaks_in_the_name_of_others"] = {
    "of the network": _sent("victim.who", "system:system", "mod:victim"),
    "of a sibling": _sent("victim.who", "mod:victim", "mod:victim"),
    "of an agent": _sent("victim.who", "agent:alice", "mod:victim"),
    "by a forged via": _forged(via="mod:victim"),
    "by a forged source": _forged(source_id="mod:victim"),
    "by a forged secret": _forged(source_id="agent:alice", secret="guessed"),
}

FORGERIES["commands_the_network"] = {
    "to load a mod": _sent("system.mod.load", None, None, mod_path="./victim", mod_id="other"),
    "to unload a sibling": _sent("system.mod.unload", None, None, mod_id="victim"),
    "to read an agent's inbox": _sent("system.poll_messages", None, None, agent_id="alice"),
    "to remove an agent": _sent("system.kick_agent", None, None, agent_id="alice"),
    "to make an agent": _sent("system.register_agent", None, None, agent_id="eve"),
    "by a forged source": _sent("system.mod.list", "system:system", None),
}


async def forged(context: Context, known: dict[str, Any], names: list[str]) -> dict[str, dict[str, dict[str, str]]]:
    """Try these attacks. Return what each way got, or why it failed."""
    results = {}
    for name in names:
        got, failed = {}, {}
        for way, forgery in FORGERIES[name].items():
            try:
                got[way] = await forgery(context, known)
            except Exception as error:  # noqa: BLE001 - it is told
                failed[way] = f"{type(error).__name__}: {error}"
        results[name] = {"got": got, "failed": failed}
    return results
