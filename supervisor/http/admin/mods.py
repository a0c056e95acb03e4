"""The operator's routes of mods: load, replace, unload, read logs, divide events among versions."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from starlette.requests import Request
from starlette.responses import Response

from ..answers import Answer, response_answer
from ..bodies import (
    check_keys,
    flag_of,
    flag_query,
    json_body,
    number_query,
    optional_json_body,
    text_of,
    whole_query,
)
from ..streams import LineStream, Write, json_line, next_items
from ..wire import BadBody

if TYPE_CHECKING:
    from ...operations import Operations

MAX_LINES = 100_000  # of a log in one request
MAX_TIMEOUT = 3600.0  # seconds an unload may take

LOAD_KEYS = frozenset({
    "path", "id", "config", "env", "permissions", "speak_for", "limits", "restart",
    "delivery", "max_attempts", "durable", "checkpoint_every",
    "probation", "reload", "workers", "partition_by", "overlap", "aliases", "watch", "audience",
    "version", "paths", "python", "launch", "requires", "optional",
})  # fmt: skip
_RELOAD_KEYS = frozenset({"path", "config"})
_AUDIENCE_KEYS = frozenset({"percent", "groups", "agents", "everyone"})


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
        return Answer({"crashes": self._network.get_crashes(request.query_params.get("mod"))})

    # -- load, replace, unload

    async def load(self, request: Request) -> Response:
        body = await json_body(request)
        check_keys(body, LOAD_KEYS)
        path, mod_id = text_of(body, "path"), text_of(body, "id")
        if path is None:
            raise BadBody("path: missing; give a mod_path such as 'modvisor.mods.workspace.wiki'")
        entry = _entry(body)
        return response_answer(await self._network.load_mod(path, entry.pop("config", None), mod_id=mod_id, **entry))

    async def reload(self, request: Request) -> Response:
        body = await optional_json_body(request)
        check_keys(body, _RELOAD_KEYS)
        config = body.get("config")
        if config is not None and not isinstance(config, dict):
            raise BadBody(f"config: expected an object, got {type(config).__name__}")
        return response_answer(await self._network.reload_mod(_mod(request), text_of(body, "path"), config))

    async def swap(self, request: Request) -> Response:
        body = await json_body(request)
        check_keys(body, LOAD_KEYS | {"alias"})
        path, mod_id = text_of(body, "path"), text_of(body, "id")
        if path is None:
            raise BadBody("path: missing; give the mod_path of the new mod")
        alias = flag_of(body, "alias")
        return response_answer(
            await self._network.swap_mod(_mod(request), path, mod_id=mod_id, alias=alias, **_entry(body))
        )

    async def restart(self, request: Request) -> Response:
        return response_answer(await self._network.restart_mod(_mod(request)))

    async def unload(self, request: Request) -> Response:
        timeout = number_query(request, "timeout", None, 0.0, MAX_TIMEOUT)
        cascade = flag_query(request, "cascade")
        return response_answer(await self._network.unload_mod(_mod(request), timeout=timeout, cascade=cascade))

    # -- audiences of versions

    async def audience(self, request: Request) -> Response:
        return response_answer(self._network.get_audience(_mod(request)))

    async def change_audience(self, request: Request) -> Response:
        body = await json_body(request)
        check_keys(body, _AUDIENCE_KEYS)
        everyone = flag_of(body, "everyone")
        audience = {key: value for key, value in body.items() if key != "everyone"}
        return response_answer(await self._network.set_audience(_mod(request), everyone=everyone, **audience))

    async def promote(self, request: Request) -> Response:
        return response_answer(await self._network.promote_mod(_mod(request)))

    async def rollback(self, request: Request) -> Response:
        return response_answer(await self._network.rollback_mod(_mod(request)))

    # -- logs

    async def log(self, request: Request) -> Response:
        mod = _mod(request)
        lines = whole_query(request, "lines", 100, 0, MAX_LINES) or 0
        self._network.check_has_log(mod)
        if not flag_query(request, "follow"):
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
