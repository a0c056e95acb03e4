"""The operator's API, version 1: the table of its routes, and the routes of the whole network."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING, Any

from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import Response

from ....ipc import __version__
from ...agents import Scope
from ...config import ConfigError
from ...fleet import Changes
from ..access.sessions import Sessions
from ..content.as_json import BadBody
from ..content.bodies import json_body
from ..content.failures import BROKEN_FILE_STATUS
from ..probes import Probes
from ..routes.answers import Answer, delete, failure, get, json_app, post, response_body
from . import spec
from .agents import AgentRoutes
from .events import EventRoutes
from .forgetting import ForgetRoute
from .invites import InviteRoutes
from .letters import LetterRoutes
from .links import LinkRoutes
from .live import LiveRoutes, LiveView
from .mods import ModRoutes
from .nodes import NodeRoutes
from .payloads import Readers
from .tokens import TokenRoutes

if TYPE_CHECKING:
    from ...operations import Operations

V1 = "/admin/v1"

READ, OPERATE, ADMIN = Scope.READ, Scope.OPERATE, Scope.ADMIN


def admin_app(
    network: Operations,
    stopping: asyncio.Event | None = None,
    sessions: Sessions | None = None,
    view: LiveView | None = None,
    probes: Probes | None = None,
) -> Starlette:
    """Make the application that the operator talks to.

    Args:
        stopping: set when the server stops, which ends streams.
        sessions: who is logged in to the dashboard.
        view: what those see who follow the network.
        probes: those of all servers.
    """
    stopping = stopping or asyncio.Event()
    whole, mods = NetworkRoutes(network), ModRoutes(network, stopping)
    readers = Readers(network)
    events, letters = EventRoutes(network, stopping, readers), LetterRoutes(network, readers)
    invites, tokens = InviteRoutes(network), TokenRoutes(network)
    links, live = (
        LinkRoutes(network, Sessions() if sessions is None else sessions),
        LiveRoutes(network, stopping, view or LiveView(network)),
    )
    agents, nodes = AgentRoutes(network), NodeRoutes(network)
    # A mod may be named by its path, and './name' has a slash.
    mod, letter = f"{V1}/mods/{{mod:path}}", f"{V1}/dead-letters/{{letter}}"
    return json_app(
        [
            get(f"{V1}/status", whole.status, spec.STATUS, READ),
            get(f"{V1}/stats", whole.stats, spec.FIGURES, READ),
            get(f"{V1}/live", live.live, spec.LIVE, READ),
            get(f"{V1}/progress", whole.progress, spec.PROGRESS, READ),
            get(f"{V1}/mods", mods.list, spec.MODS, READ),
            get(f"{V1}/mods/available", mods.available, spec.AVAILABLE, READ),
            post(f"{V1}/mods", mods.load, spec.LOAD, ADMIN),
            post(f"{mod}/reload", mods.reload, spec.RELOAD, OPERATE),
            post(f"{mod}/swap", mods.swap, spec.SWAP, ADMIN),
            post(f"{mod}/restart", mods.restart, spec.RESTART, OPERATE),
            get(f"{mod}/plan", mods.plan, spec.PLAN, READ),
            get(f"{mod}/log", mods.log, spec.LOG, READ),
            delete(mod, mods.unload, spec.UNLOAD, OPERATE),
            get(f"{V1}/crashes", mods.crashes, spec.CRASHES, READ),
            get(f"{V1}/events", events.watch, spec.WATCH, READ),
            get(f"{V1}/events/{{event:path}}/way", events.way, spec.WAY, READ),
            post(f"{V1}/events", events.send, spec.SEND, OPERATE),
            post(f"{V1}/events/batch", events.send_batch, spec.BATCH, OPERATE),
            get(f"{mod}/audience", mods.audience, spec.AUDIENCE, READ),
            post(f"{mod}/audience", mods.change_audience, spec.CHANGE_AUDIENCE, OPERATE),
            post(f"{mod}/promote", mods.promote, spec.PROMOTE, OPERATE),
            post(f"{mod}/rollback", mods.rollback, spec.ROLLBACK, OPERATE),
            get(mod, mods.show, spec.ONE_MOD, READ),  # behind the others: a path may have slashes
            get(f"{V1}/agents", agents.list, spec.AGENTS, READ),
            get(f"{V1}/agents/{{agent}}", agents.show, spec.AGENT, READ),
            post(f"{V1}/agents/{{agent}}/kick", agents.kick, spec.KICK, OPERATE),
            get(f"{V1}/channels", agents.channels, spec.CHANNELS, READ),
            get(f"{V1}/groups", agents.groups, spec.GROUPS, READ),
            get(f"{V1}/audit", agents.audit, spec.AUDIT, READ),
            get(f"{V1}/dead-letters", letters.list, spec.LETTERS, READ),
            delete(f"{V1}/dead-letters", letters.remove_some, spec.REMOVE_LETTERS, OPERATE),
            get(letter, letters.show, spec.LETTER, READ),
            delete(letter, letters.remove, spec.REMOVE_LETTER, OPERATE),
            post(f"{letter}/replay", letters.replay, spec.REPLAY, OPERATE),
            get(f"{V1}/invites", invites.list, spec.INVITES, ADMIN),
            post(f"{V1}/invites", invites.create, spec.INVITE, ADMIN),
            delete(f"{V1}/invites/{{invite}}", invites.revoke, spec.REVOKE_INVITE, ADMIN),
            get(f"{V1}/tokens", tokens.list, spec.TOKENS, ADMIN),
            post(f"{V1}/tokens", tokens.create, spec.TOKEN, ADMIN),
            delete(f"{V1}/tokens/{{token}}", tokens.revoke, spec.REVOKE_TOKEN, ADMIN),
            post(f"{V1}/links", links.create, spec.LINK, ADMIN),
            get(f"{V1}/cluster", nodes.cluster, spec.CLUSTER, READ),
            post(f"{V1}/nodes/{{node}}/drain", nodes.drain, spec.DRAIN, ADMIN),
            post(f"{V1}/agents/{{agent}}/forget", ForgetRoute(network).forget, spec.FORGET, ADMIN),
            post(f"{V1}/backup", whole.backup, spec.BACKUP, ADMIN),
            post(f"{V1}/reconfigure", whole.reconfigure, spec.RECONFIGURE, ADMIN),
            post(f"{V1}/shutdown", whole.shutdown, spec.SHUTDOWN, ADMIN),
            *(probes or Probes(network)).of_operator(),
        ]
    )


class NetworkRoutes:
    """What the operator sees of the whole network and does with it."""

    def __init__(self, network: Operations) -> None:
        self._network = network

    async def status(self, request: Request) -> Response:
        network, config = self._network, self._network.config
        stats = network.get_network_stats()
        return Answer(
            {
                "name": config.name,
                "network_id": config.network_id,
                **({} if config.node is None else {"node": config.node}),
                "pid": os.getpid(),
                "version": __version__,
                "host": config.host,
                "port": network.port,
                "tls": config.tls is not None,
                "uptime_seconds": stats["uptime_seconds"],
                "started_at": stats["started_at"],
                "storage": str(config.storage),
                "config_file": None if config.file is None else str(config.file),
                "mods": [
                    {"mod_id": mod["mod_id"], "state": mod["state"]} for mod in network.get_loaded_mods().values()
                ],
                "agents": stats["agent_count"],
            }
        )

    async def stats(self, request: Request) -> Response:
        node = spec.NODE.of(request)
        if (everywhere := self._network.look_everywhere(node)) is not None:
            return Answer(await everywhere.stats(node))
        return Answer(self._network.get_network_stats())

    async def progress(self, request: Request) -> Response:
        return Answer({"under_way": self._network.under_way.to_list()})

    async def backup(self, request: Request) -> Response:
        body = await json_body(request)
        spec.BACKUP.check(body)
        path = spec.BACKUP_PATH.of(body)
        if path is None or not os.path.isabs(path) or "\0" in path:
            got = "nothing" if path is None else repr(path)
            raise BadBody(f"path: expected an absolute path on the machine of the network, got {got}")
        size = await self._network.backup(path)
        return Answer({
            "success": True,
            "message": f"the journal was copied to {path}",
            "data": {"path": path, "bytes": size},
        })  # fmt: skip

    async def reconfigure(self, request: Request) -> Response:
        try:
            return Answer(_changes_body(await self._network.read_file_again()))
        except ConfigError as error:
            return _broken_file(error)

    async def shutdown(self, request: Request) -> Response:
        self._network.audit_note("network.shutdown")

        async def stop() -> None:
            self._network.request_stop()

        # In the background: stopping first would end the server before it has written the answer.
        return Answer({"success": True, "message": "the network shuts down"}, background=BackgroundTask(stop))


def _broken_file(error: ConfigError) -> Response:
    problems = [problem.to_dict() for problem in error.problems]
    return failure(error.code, str(error), BROKEN_FILE_STATUS, problems=problems)


def _changes_body(changes: Changes) -> dict[str, Any]:
    done = {
        kind: {mod_id: response_body(response) for mod_id, response in getattr(changes, kind).items()}
        for kind in ("added", "removed", "changed")
    }
    return {
        "success": changes.success,
        "message": _changes_text(changes),
        "data": {
            **done,
            "applied": changes.applied,
            "needs_restart": changes.needs_restart,
            "swapped": changes.swapped,
            **({"elsewhere": changes.elsewhere} if changes.elsewhere else {}),
        },
    }


def _changes_text(changes: Changes) -> str:
    count = sum(map(len, (changes.added, changes.removed, changes.changed)))
    parts = [f"{count} mod{'' if count == 1 else 's'} changed"]
    if not changes.success:
        parts.append("some mods are not as the file says, see 'data'")
    if changes.applied:
        parts.append(f"applied: {', '.join(changes.applied)}")
    if changes.needs_restart:
        parts.append(f"needs a restart of the network: {', '.join(changes.needs_restart)}")
    parts += [f"node {node}: {what}" for node, what in changes.elsewhere.items()]
    return "; ".join(parts)
