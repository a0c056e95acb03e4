"""The operator's routes of mods: load, replace, unload, read logs, divide events among versions."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from starlette.requests import Request
from starlette.responses import Response

from ...agents import Scope
from ...fleet import Everywhere
from ..access.gate import still_in
from ..content.bodies import json_body, optional_json_body
from ..routes.answers import Answer, response_answer
from ..routes.params import check_known
from ..routes.streams import LineStream, Write, json_line, next_items
from .scopes import check_scope
from .spec import (
    ALIAS,
    CASCADE,
    CHANGE_AUDIENCE,
    CONFIG,
    DO,
    EVERYONE,
    FOLLOW,
    ID,
    LINES,
    LOAD,
    MOVED_PATH,
    NEW_PATH,
    NODE,
    OF_MOD,
    PATH,
    PLAN,
    RELOAD,
    SWAP,
    TIMEOUT,
)

if TYPE_CHECKING:
    from ...operations import Operations


class ModRoutes:
    """The routes `/mods`. MOD in a path is the id or the path of a mod.

    In the routes of audiences, MOD may also be a family, the common name of several versions.
    """

    def __init__(self, network: Operations, stopping: asyncio.Event) -> None:
        self._network = network
        self._stopping = stopping

    async def list(self, request: Request) -> Response:
        node = NODE.of(request)
        if (everywhere := self._network.look_everywhere(node)) is not None:
            return Answer(await everywhere.mods(node))
        return Answer({"mods": list(self._network.get_network_stats()["mods"].values())})

    async def available(self, request: Request) -> Response:
        return Answer({"mods": await self._network.available_mods()})

    async def show(self, request: Request) -> Response:
        mod, node = self._named(request)
        if (everywhere := self._network.look_everywhere(node)) is not None:
            return Answer(await everywhere.mod(mod, node))
        return Answer(await self._network.describe_mod(mod))

    async def plan(self, request: Request) -> Response:
        check_known(request, *PLAN.query)
        if self._network.everywhere is not None:
            return Answer(await self._network.everywhere.plan(self._mod(request), DO.of(request) or ""))
        return Answer(self._network.plan_for(self._mod(request), DO.of(request) or "").to_dict())

    async def crashes(self, request: Request) -> Response:
        mod, node = OF_MOD.of(request), NODE.of(request)
        if (everywhere := self._network.look_everywhere(node)) is not None:
            mod, node = (None, node) if mod is None else everywhere.named(mod, node)
            return Answer(await everywhere.crashes(mod, node))
        return Answer({"crashes": self._network.get_crashes(mod)})

    def _named(self, request: Request) -> tuple[str, str | None]:
        """Return the mod that a path names, by its id, its path or a row of a page, and the node to look at."""
        mod, node = request.path_params["mod"], NODE.of(request)
        everywhere = self._network.everywhere
        return (mod, node) if everywhere is None else everywhere.named(mod, node)

    def _mod(self, request: Request) -> str:
        """Return the mod that a command is for. It is for the mod on all nodes that run it."""
        return self._named(request)[0]

    # -- load, replace, unload

    async def load(self, request: Request) -> Response:
        body = await json_body(request)
        LOAD.check(body)
        path, mod_id = PATH.of(body), ID.of(body)
        entry = _entry(body)
        return response_answer(await self._network.load_mod(path, entry.pop("config", None), mod_id=mod_id, **entry))

    async def reload(self, request: Request) -> Response:
        body = await optional_json_body(request)
        RELOAD.check(body)
        path, config = MOVED_PATH.of(body), CONFIG.of(body)
        if path is not None or config is not None:
            check_scope(self._network, request, Scope.ADMIN, "a reload with another path or config")
        return response_answer(await self._network.reload_mod(self._mod(request), path, config))

    async def swap(self, request: Request) -> Response:
        body = await json_body(request)
        SWAP.check(body)
        path, mod_id, alias = NEW_PATH.of(body), ID.of(body), ALIAS.of(body)
        return response_answer(
            await self._network.swap_mod(self._mod(request), path, mod_id=mod_id, alias=alias, **_entry(body))
        )

    async def restart(self, request: Request) -> Response:
        return response_answer(await self._network.restart_mod(self._mod(request)))

    async def unload(self, request: Request) -> Response:
        timeout, cascade = TIMEOUT.of(request), CASCADE.of(request)
        return response_answer(await self._network.unload_mod(self._mod(request), timeout=timeout, cascade=cascade))

    # -- audiences of versions

    async def audience(self, request: Request) -> Response:
        return response_answer(self._network.get_audience(self._mod(request)))

    async def change_audience(self, request: Request) -> Response:
        body = await json_body(request)
        CHANGE_AUDIENCE.check(body)
        everyone = EVERYONE.of(body)
        audience = {key: value for key, value in body.items() if key != "everyone"}
        return response_answer(await self._network.set_audience(self._mod(request), everyone=everyone, **audience))

    async def promote(self, request: Request) -> Response:
        return response_answer(await self._network.promote_mod(self._mod(request)))

    async def rollback(self, request: Request) -> Response:
        return response_answer(await self._network.rollback_mod(self._mod(request)))

    # -- logs

    async def log(self, request: Request) -> Response:
        (mod, node), lines = self._named(request), LINES.of(request)
        if (everywhere := self._network.look_everywhere(node)) is not None:
            return await self._log_everywhere(request, everywhere, mod, lines, node)
        self._network.check_has_log(mod)
        if not FOLLOW.of(request):
            past = self._network.mod_log(mod, lines)
            return Response(b"".join(map(_log_line, past)), media_type=LineStream.media_type)

        async def follow(write: Write) -> None:
            with self._network.follow_log(mod) as queue:
                # No await between these two: no line is missed, and none comes twice.
                past = self._network.mod_log(mod, lines)
                await write(map(_log_line, past))
                while True:
                    await write(map(_log_line, await next_items(queue)))

        return LineStream(follow, self._stopping, still_in(request))

    async def _log_everywhere(
        self, request: Request, everywhere: Everywhere, mod: str, lines: int, node: str | None
    ) -> Response:
        """Return the log of a mod on all nodes; each line says which node wrote it."""
        if not FOLLOW.of(request):
            past = await everywhere.log(mod, lines, node)
            if not past and not self._is_loaded(mod):
                self._network.check_has_log(mod)
            return Response(b"".join(_node_line(*each) for each in past), media_type=LineStream.media_type)

        async def follow(write: Write) -> None:
            async with everywhere.follow_log(mod, node) as queue:
                past = await everywhere.log(mod, lines, node)
                await write(_node_line(*each) for each in past)
                seen = set(past)
                while True:
                    new = [each for each in await next_items(queue) if each not in seen]
                    await write(_node_line(*each) for each in new)

        return LineStream(follow, self._stopping, still_in(request))

    def _is_loaded(self, mod: str) -> bool:
        """Return whether a mod, by id or path, or the worker ``wiki#1``, is loaded on any node."""
        named = (mod, mod.partition("#")[0])
        return any(
            each["mod_id"] in named or each["mod_path"] == mod for each in self._network.get_loaded_mods().values()
        )


def _node_line(node: str, line: str) -> bytes:
    return json_line({"line": line, "node": node}, lambda error: {"line": None, "node": node, "error": str(error)})


def _entry(body: dict[str, Any]) -> dict[str, Any]:
    """Return what a load or a swap says of the mod's entry. A null key is a missing key."""
    return {key: value for key, value in body.items() if key not in ("path", "id", "alias") and value is not None}


def _log_line(line: str) -> bytes:
    return json_line({"line": line}, lambda error: {"line": None, "error": str(error)})
