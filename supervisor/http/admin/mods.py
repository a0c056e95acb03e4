"""The operator's routes of mods: load, replace, unload, read logs, divide events among versions."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from starlette.requests import Request
from starlette.responses import Response

from ...agents import Scope
from ..answers import Answer, response_answer
from ..bodies import json_body, optional_json_body
from ..streams import LineStream, Write, json_line, next_items
from .scopes import check_scope
from .spec import (
    ALIAS,
    CASCADE,
    CHANGE_AUDIENCE,
    CONFIG,
    EVERYONE,
    FOLLOW,
    ID,
    LINES,
    LOAD,
    MOVED_PATH,
    NEW_PATH,
    OF_MOD,
    PATH,
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
        return Answer({"mods": list(self._network.get_network_stats()["mods"].values())})

    async def available(self, request: Request) -> Response:
        return Answer({"mods": await self._network.available_mods()})

    async def crashes(self, request: Request) -> Response:
        return Answer({"crashes": self._network.get_crashes(OF_MOD.of(request))})

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
        return response_answer(await self._network.reload_mod(_mod(request), path, config))

    async def swap(self, request: Request) -> Response:
        body = await json_body(request)
        SWAP.check(body)
        path, mod_id, alias = NEW_PATH.of(body), ID.of(body), ALIAS.of(body)
        return response_answer(
            await self._network.swap_mod(_mod(request), path, mod_id=mod_id, alias=alias, **_entry(body))
        )

    async def restart(self, request: Request) -> Response:
        return response_answer(await self._network.restart_mod(_mod(request)))

    async def unload(self, request: Request) -> Response:
        timeout, cascade = TIMEOUT.of(request), CASCADE.of(request)
        return response_answer(await self._network.unload_mod(_mod(request), timeout=timeout, cascade=cascade))

    # -- audiences of versions

    async def audience(self, request: Request) -> Response:
        return response_answer(self._network.get_audience(_mod(request)))

    async def change_audience(self, request: Request) -> Response:
        body = await json_body(request)
        CHANGE_AUDIENCE.check(body)
        everyone = EVERYONE.of(body)
        audience = {key: value for key, value in body.items() if key != "everyone"}
        return response_answer(await self._network.set_audience(_mod(request), everyone=everyone, **audience))

    async def promote(self, request: Request) -> Response:
        return response_answer(await self._network.promote_mod(_mod(request)))

    async def rollback(self, request: Request) -> Response:
        return response_answer(await self._network.rollback_mod(_mod(request)))

    # -- logs

    async def log(self, request: Request) -> Response:
        mod = _mod(request)
        lines = LINES.of(request)
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

        return LineStream(follow, self._stopping)


def _mod(request: Request) -> str:
    return request.path_params["mod"]


def _entry(body: dict[str, Any]) -> dict[str, Any]:
    """Return what a load or a swap says of the mod's entry. A null key is a missing key."""
    return {key: value for key, value in body.items() if key not in ("path", "id", "alias") and value is not None}


def _log_line(line: str) -> bytes:
    return json_line({"line": line}, lambda error: {"line": None, "error": str(error)})
