"""Answers the requests of workers.

A worker is a stranger: whatever it asks is checked, and done in its own name.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from anyio.abc import TaskGroup

from ...ipc import messages
from ...ipc.address import MOD, SYSTEM, parse_address
from ...ipc.errors import Code, FrameTooLarge, InvalidEvent, ModvisorError, Unserializable, shown
from ...ipc.event import Event
from ...ipc.messages import Request
from ...ipc.pipe import HIGH_WATER
from ...ipc.usual import Sent
from ..agents import AgentRegistry
from ..calls import Crew
from ..config import ModConfig
from ..journal import FileStore
from ..lifecycle import Incarnation, Keeper
from .file_requests import FileRequests
from .gateway import Gateway
from .mirror_requests import MirrorRequests

logger = logging.getLogger("modvisor.mod_requests")

MAX_OPEN = 1000
"""Open requests of one worker. The SDK's own limit is lower: only a worker that ignores it is
refused."""

MAX_OPEN_WEIGHT = 64 * 1024 * 1024
"""Bytes of memory that the open requests of one worker may take up together; a single request may
take more.

Without it, a thousand events of the largest size would take 64 GB."""

REFUSAL = 2.0  # what a refused request costs (see `Pipe.charge`): twice a notification


_Call = Callable[[Keeper, Incarnation, Any], Awaitable[Any]]  # with the params of the request


class ModRequests:
    """Answers the requests of all workers, each in a task of its own.

    A worker with too many open requests is refused with `busy` and charged (`Pipe.charge`): a
    worker that goes on all the same is read more slowly, until it waits for its pipe. Reading never
    stops altogether. The answer that a request waits for may come over the same pipe, when a
    handler waits for what its own event sets off; and so do the answers to pings.

    Args:
        files: keeps what mods put into ``context.files``.
        answering: for a mod and the ``mod:ID`` that it asked for, the ``mod:ID`` to ask instead.
    """

    def __init__(
        self,
        tasks: TaskGroup,
        agents: AgentRegistry,
        gateway: Gateway,
        answering: Callable[[ModConfig, str], str] = lambda _mod, destination: destination,
        files: FileStore | None = None,
    ) -> None:
        self._answering = answering
        self._crew = Crew(tasks)
        self._crew.gather()  # it stays: requests come as long as the network runs
        self._agents = agents
        self._gateway = gateway
        self._open: dict[Incarnation, dict[int, asyncio.Task[None]]] = {}
        self._mirrors = MirrorRequests(agents)
        # Each runs until its first wait in the order in which the requests came: a mod that lets an
        # agent join a channel and then sends to the channel counts on it.
        self._calls: dict[str, _Call] = {
            messages.SEND_EVENT: self._send_event,
            messages.CHANNEL: self._mirrors.channel,
            messages.MIRROR: self._mirrors.mirror,
            messages.QUERY: self._query,
            messages.CHECKPOINT: self._checkpoint,
        }
        if files is not None:
            self._calls[messages.FILES] = FileRequests(files).answer

    def take(self, keeper: Keeper, incarnation: Incarnation, request: Request) -> None:
        """Take a request from the pipe. Must not block."""
        call = self._calls.get(request.method)
        pipe = incarnation.pipe
        if call is None:
            pipe.charge(REFUSAL)
            pipe.refuse(request.id, Code.PROTOCOL_ERROR, f"unknown method {shown(request.method)}")
        elif incarnation.is_resting:
            pipe.charge(REFUSAL)
            pipe.refuse(request.id, Code.MOD_AWAY, f"another incarnation of mod {incarnation.mod_id} serves now")
        elif pipe.owed > MAX_OPEN or (pipe.owed_weight > MAX_OPEN_WEIGHT and pipe.owed > 1):
            pipe.charge(REFUSAL)
            pipe.refuse(request.id, Code.BUSY, self._too_many(incarnation))
        else:
            mine = self._open.setdefault(incarnation, {})
            mine[request.id] = self._crew.start(self._answer, call, keeper, incarnation, request, mine)

    def cancel(self, incarnation: Incarnation, request_id: int | None = None) -> None:
        """Cancel a request that the worker gave up, and what it caused.

        None: all requests of a worker that is gone.
        """
        if request_id is None:
            self._mirrors.forget(incarnation)
        mine, loop = self._open.get(incarnation, {}), asyncio.get_running_loop()
        for each in list(mine) if request_id is None else [request_id]:
            if (task := mine.pop(each, None)) is not None:
                loop.call_soon(task.cancel)  # when it has begun, so that it answers
        self._forget(incarnation, mine)

    def _forget(self, incarnation: Incarnation, mine: dict[int, asyncio.Task[None]]) -> None:
        if not mine and self._open.get(incarnation) is mine:
            del self._open[incarnation]

    @staticmethod
    def _too_many(incarnation: Incarnation) -> str:
        if incarnation.pipe.owed > MAX_OPEN:
            return f"mod {incarnation.mod_id} has {MAX_OPEN} open requests already"
        return f"the open requests of mod {incarnation.mod_id} take up {MAX_OPEN_WEIGHT} bytes already"

    async def _answer(
        self,
        call: _Call,
        keeper: Keeper,
        incarnation: Incarnation,
        request: Request,
        mine: dict[int, asyncio.Task[None]],
    ) -> None:
        """Answer a request, one of ``mine``: the open requests of its worker that it has not given up."""
        pipe = incarnation.pipe
        try:
            answer = await call(keeper, incarnation, request.params)
            if pipe.buffered > HIGH_WATER:
                await pipe.writable()
            pipe.respond(request.id, answer)
        except asyncio.CancelledError:
            if request.id in mine:  # the network ends
                raise
            pipe.refuse(request.id, Code.TIMEOUT, "cancelled by the worker")
        except (FrameTooLarge, Unserializable) as error:
            pipe.refuse(request.id, error.code, f"the answer cannot be sent: {error}")
        except ModvisorError as error:
            pipe.refuse(request.id, error.code, str(error))
        except Exception:  # nothing that a worker sends may end the network's task group
            logger.exception("mod %s: its request %s failed", incarnation.mod_id, request.method)
            pipe.refuse(request.id, Code.INTERNAL, "internal error; the network's log has the traceback")
        finally:
            mine.pop(request.id, None)
            self._forget(incarnation, mine)

    async def _send_event(self, keeper: Keeper, incarnation: Incarnation, params: Any) -> dict[str, Any]:
        if type(params) is Sent:  # checked as it was read
            event, cause = params.event, params.cause
        else:
            params = params or {}
            event, cause = Event.from_dict(params.get("event")), params.get("cause")
        mod = incarnation.config  # during a swap the keeper's config is that of another mod
        own = f"{MOD}:{mod.name}"
        event.source_id = event.source_id or own
        if event.source_id != own and not self._may_speak_for(mod, event.source_id):
            raise ModvisorError(
                f"mod {mod.mod_id} sent an event as {event.source_id!r}, but may only speak as {own}; "
                "grant it more with 'speak_for' in its config",
                code=Code.FORBIDDEN,
            )
        if event.destination_id is not None and event.destination_id.startswith(f"{MOD}:"):
            event.destination_id = self._answering(mod, event.destination_id)
        event.via, event.secret, event.source_agent_group, event.attempt = own, None, None, 1
        keeper.counters.events_out += 1
        response = await self._gateway.from_mod(event, mod, incarnation.in_flight.origin(cause))
        return response.to_dict()

    async def _checkpoint(self, keeper: Keeper, incarnation: Incarnation, params: Any) -> None:
        params = params or {}
        version = params.get("version")
        if "state" not in params or not isinstance(version, str):
            raise InvalidEvent("checkpoint: expected {state: anything, version: text}")
        await keeper.take_checkpoint(incarnation, params["state"], version[:64])

    @staticmethod
    def _may_speak_for(mod: ModConfig, source_id: str) -> bool:
        if mod.host is not None and source_id == f"{MOD}:{mod.path}":  # what its framework calls it
            return True
        source, allowed = parse_address(source_id), mod.speak_for
        if source.role == SYSTEM:  # no config can grant the network's own name
            return False
        return not allowed.isdisjoint({str(source), f"{source.role}:*", "*"})

    async def _query(self, _keeper: Keeper, _incarnation: Incarnation, params: Any) -> Any:
        params = params or {}
        match params.get("what"):
            case "agents":
                return [
                    {"agent_id": agent.agent_id, "metadata": agent.metadata, "group": agent.group}
                    for agent in self._agents
                ]
            case "channels":
                return self._agents.channels()
            case "members":
                channel = params.get("channel")
                if not isinstance(channel, str):
                    raise InvalidEvent("query members: 'channel' must be text")
                return self._agents.channel_members(channel) or []
            case "groups":
                return self._agents.members_of_groups()
        raise InvalidEvent(
            f"query: unknown subject {shown(params.get('what'))}; expected agents, channels, members or groups"
        )
