"""The operator's API, versioned: status, mods, events, logs, stop. Who may use it is decided where it is served."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING, Any

import anyio
import anyio.to_thread
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import Response

from ...ipc import __version__
from ...ipc.address import check_mod_id
from ...ipc.errors import Code, ModvisorError, Unserializable
from ...ipc.event import Event, EventResponse
from ...ipc.topic import check_pattern, matches
from ..config import ConfigError, load_config
from ..fleet import Changes
from .answers import Answer, delete, failure, get, json_app, post, render_response, response_answer, response_body
from .audience_api import AudienceApi
from .batch import operator_event, process_batch
from .bodies import check_keys, flag_query, json_body, number_query, optional_json_body, text_of, whole_query
from .letters_api import LettersApi
from .streams import LineStream, Write, drain, json_line
from .wire import BadBody

if TYPE_CHECKING:
    from ..operations import Operations

MAX_LINES = 100_000  # of a log in one request
MAX_CONCURRENCY = 1000  # events of one batch at once
MAX_TIMEOUT = 3600.0  # seconds an unload may take
MAX_LIMIT = 10**12

_LOAD_KEYS = frozenset({
    "path", "id", "config", "env", "permissions", "speak_for", "limits", "restart",
    "delivery", "max_attempts", "durable", "checkpoint_every",
    "probation", "reload", "workers", "partition_by", "aliases", "watch", "audience", "version", "paths", "python", "launch",
    "requires", "optional",
})  # fmt: skip
_BATCH_KEYS = frozenset({"events", "concurrency", "in_order"})
_SECRETS = frozenset({"secret", "password_hash"})


def admin_app(network: Operations, stopping: asyncio.Event | None = None) -> Starlette:
    """The application the operator talks to. ``stopping`` is set when the server stops, so that streams end."""
    api = _AdminApi(network, stopping or asyncio.Event())
    v1 = "/admin/v1"
    return json_app(
        [
            get(f"{v1}/status", api.status),
            get(f"{v1}/stats", api.stats),
            get(f"{v1}/mods", api.list_mods),
            get(f"{v1}/mods/available", api.available_mods),
            post(f"{v1}/mods", api.load_mod),
            # A mod may be named by its path, and './name' has a slash.
            post(f"{v1}/mods/{{mod:path}}/reload", api.reload_mod),
            post(f"{v1}/mods/{{mod:path}}/swap", api.swap_mod),
            post(f"{v1}/mods/{{mod:path}}/restart", api.restart_mod),
            get(f"{v1}/mods/{{mod:path}}/log", api.mod_log),
            delete(f"{v1}/mods/{{mod:path}}", api.unload_mod),
            get(f"{v1}/crashes", api.crashes),
            get(f"{v1}/events", api.watch_events),
            post(f"{v1}/events", api.send_event),
            post(f"{v1}/events/batch", api.send_events),
            *AudienceApi(network).routes(v1),
            *LettersApi(network).routes(v1),
            post(f"{v1}/backup", api.backup),
            post(f"{v1}/reconfigure", api.reconfigure),
            post(f"{v1}/shutdown", api.shutdown),
        ]
    )


class _AdminApi:
    def __init__(self, network: Operations, stopping: asyncio.Event) -> None:
        self._network = network
        self._stopping = stopping
        self._reconfiguring = anyio.Lock()

    # -- looking

    async def status(self, request: Request) -> Response:
        network, config = self._network, self._network.config
        stats = network.get_network_stats()
        return Answer(
            {
                "name": config.name,
                "network_id": config.network_id,
                "pid": os.getpid(),
                "version": __version__,
                "host": config.host,
                "port": network.port,
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
        return Answer(self._network.get_network_stats())

    async def list_mods(self, request: Request) -> Response:
        return Answer({"mods": list(self._network.get_network_stats()["mods"].values())})

    async def available_mods(self, request: Request) -> Response:
        return Answer({"mods": await self._network.available_mods()})

    async def mod_log(self, request: Request) -> Response:
        mod = request.path_params["mod"]
        lines = whole_query(request, "lines", 100, 0, MAX_LINES) or 0
        self._check_has_log(mod)
        if not flag_query(request, "follow"):
            past = self._network.mod_log(mod, lines)
            return Response(b"".join(map(_log_line, past)), media_type=LineStream.media_type)

        async def follow(write: Write) -> None:
            with self._network.follow_log(mod) as queue:
                # Nothing is awaited between these two: no line is missed, and none is there twice.
                past = self._network.mod_log(mod, lines)
                await write(map(_log_line, past))
                while True:
                    await write(map(_log_line, await drain(queue)))

        return LineStream(follow, self._stopping)

    def _check_has_log(self, mod: str) -> None:
        """Raises `ModvisorError` unless the mod is loaded or has left a log; its name must not lead out of the folder."""
        loaded = self._network.get_loaded_mods()
        if mod.partition("#")[0] in loaded or any(mod == other["mod_path"] for other in loaded.values()):
            return
        name, _, worker = mod.partition("#")  # wiki#1: one of several workers
        if not worker.isdecimal():
            name = mod
        if check_mod_id(name) and not self._network.state_dir.log_file(mod).exists():
            raise ModvisorError(f"no mod {mod!r} is loaded, and none has left a log", code=Code.NO_SUCH_MOD, mod=mod)

    # -- mods

    async def load_mod(self, request: Request) -> Response:
        body = await json_body(request)
        check_keys(body, _LOAD_KEYS)
        path, mod_id = text_of(body, "path"), text_of(body, "id")
        if path is None:
            raise BadBody("path: missing; give a mod_path such as 'modvisor.mods.workspace.wiki'")
        given = {key: value for key, value in body.items() if key not in ("path", "id") and value is not None}
        return response_answer(await self._network.load_mod(path, given.pop("config", None), mod_id=mod_id, **given))

    async def unload_mod(self, request: Request) -> Response:
        timeout = number_query(request, "timeout", None, 0.0, MAX_TIMEOUT)
        cascade = flag_query(request, "cascade")
        mod = request.path_params["mod"]
        return response_answer(await self._network.unload_mod(mod, timeout=timeout, cascade=cascade))

    async def restart_mod(self, request: Request) -> Response:
        return response_answer(await self._network.restart_mod(request.path_params["mod"]))

    async def crashes(self, request: Request) -> Response:
        return Answer({"crashes": self._network.get_crashes(request.query_params.get("mod"))})

    async def reload_mod(self, request: Request) -> Response:
        body = await optional_json_body(request)
        check_keys(body, frozenset({"path", "config"}))
        config = body.get("config")
        if config is not None and not isinstance(config, dict):
            raise BadBody(f"config: expected an object, got {type(config).__name__}")
        path = text_of(body, "path")
        return response_answer(await self._network.reload_mod(request.path_params["mod"], path, config))

    async def swap_mod(self, request: Request) -> Response:
        body = await json_body(request)
        check_keys(body, _LOAD_KEYS | {"alias"})
        path, mod_id, alias = text_of(body, "path"), text_of(body, "id"), body.get("alias", False)
        if path is None:
            raise BadBody("path: missing; give the mod_path of the mod that is to come")
        if not isinstance(alias, bool):
            raise BadBody(f"alias: expected true or false, got {type(alias).__name__}")
        more = {key: value for key, value in body.items() if key not in ("path", "id", "alias") and value is not None}
        mod = request.path_params["mod"]
        return response_answer(await self._network.swap_mod(mod, path, mod_id=mod_id, alias=alias, **more))

    # -- events

    async def send_event(self, request: Request) -> Response:
        event = operator_event(await json_body(request))
        response = await self._network.process_event(event)
        named = {"event_id": event.event_id, "event_name": event.event_name}
        return Answer(render_response({**response_body(response), **named}))

    async def send_events(self, request: Request) -> Response:
        body = await json_body(request)
        check_keys(body, _BATCH_KEYS)
        events, concurrency, in_order = body.get("events"), body.get("concurrency", 64), body.get("in_order", True)
        if not isinstance(events, list):
            raise BadBody("events: expected an array of events")
        if type(concurrency) is not int or not 1 <= concurrency <= MAX_CONCURRENCY:
            raise BadBody(f"concurrency: expected a whole number from 1 to {MAX_CONCURRENCY}")
        if type(in_order) is not bool:
            raise BadBody("in_order: expected true or false")
        results = await process_batch(events, self._network.process_event, concurrency=concurrency, in_order=in_order)
        return Answer({"results": results})

    async def watch_events(self, request: Request) -> Response:
        pattern = check_pattern(request.query_params.get("pattern", "*"))
        limit = whole_query(request, "limit", None, 1, MAX_LIMIT)

        async def watch(write: Write) -> None:
            left = limit
            with self._network.tap() as queue:
                await write([b'{"listening":true}\n'])
                while left is None or left > 0:
                    seen = [pair for pair in await drain(queue) if matches(pattern, pair[0].event_name)][:left]
                    left = None if left is None else left - len(seen)
                    if seen:
                        await write(_event_line(event, response) for event, response in seen)

        return LineStream(watch, self._stopping)

    # -- the network

    async def reconfigure(self, request: Request) -> Response:
        file = self._network.config.file
        if file is None:
            return failure(Code.CONFLICT, "the network was not started from a file, so there is none to read again")
        async with self._reconfiguring:
            try:
                config = await anyio.to_thread.run_sync(load_config, file)
            except ConfigError as error:
                problems = [
                    {"file": problem.file, "line": problem.line, "key": problem.key, "message": problem.message}
                    for problem in error.problems
                ]
                return failure(error.code, str(error), 422, problems=problems)
            changes = await self._network.reconfigure(config)
        return Answer(_changes_body(changes))

    async def backup(self, request: Request) -> Response:
        body = await json_body(request)
        check_keys(body, frozenset({"path"}))
        path = text_of(body, "path")
        if path is None or not os.path.isabs(path) or "\0" in path:
            got = "nothing" if path is None else repr(path)
            raise BadBody(f"path: expected an absolute path on the machine of the network, which writes it, got {got}")
        size = await self._network.backup(path)
        return Answer({
            "success": True,
            "message": f"the journal was copied to {path}",
            "data": {"path": path, "bytes": size},
        })  # fmt: skip

    async def shutdown(self, request: Request) -> Response:
        async def stop() -> None:
            self._network.request_stop()

        # After the answer has been written, or nobody would be left to write it.
        return Answer({"success": True, "message": "the network shuts down"}, background=BackgroundTask(stop))


def _changes_body(changes: Changes) -> dict[str, Any]:
    done = {
        kind: {mod_id: response_body(response) for mod_id, response in getattr(changes, kind).items()}
        for kind in ("added", "removed", "changed")
    }
    count = sum(map(len, done.values()))
    message = "1 mod changed" if count == 1 else f"{count} mods changed"
    if not changes.success:
        message += "; not every mod is as the file says"
    return {"success": changes.success, "message": message, "data": {**done, "needs_restart": changes.needs_restart}}


def _log_line(line: str) -> bytes:
    return json_line({"line": line}, lambda error: {"line": None, "error": str(error)})


def _event_line(event: Event, response: EventResponse) -> bytes:
    """One finished event for whoever watches; secrets are left out, for what is watched ends up in files."""
    shown = {"event": event.to_dict(), "response": response.to_dict()}
    if event.event_name == "system.register_agent":
        shown["event"]["payload"] = _masked(event.payload)
        shown["response"]["data"] = _masked(response.data)

    def unwritable(error: Unserializable) -> dict[str, Any]:
        named = {"event_id": event.event_id, "event_name": event.event_name, "source_id": event.source_id}
        return {"event": named, "response": {"success": response.success}, "error": str(error)}

    return json_line(shown, unwritable)


def _masked(data: Any) -> Any:
    if not isinstance(data, dict):
        return data
    return {key: "***" if key in _SECRETS and value else value for key, value in data.items()}
