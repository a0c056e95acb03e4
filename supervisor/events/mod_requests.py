"""What workers ask of the core. A worker is a stranger: everything it says is checked, and said in its own name."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
from anyio.abc import TaskGroup

from ...ipc import messages
from ...ipc.address import MOD, SYSTEM, parse_address
from ...ipc.errors import Code, FrameTooLarge, InvalidEvent, ModvisorError, Unserializable, shown
from ...ipc.event import Event, EventResponse
from ...ipc.messages import Request
from ...ipc.pipe import HIGH_WATER
from ..agents import AgentRegistry
from ..config import ModConfig
from ..lifecycle import Incarnation, Keeper
from .gateway import Gateway

logger = logging.getLogger("modvisor.mod_requests")

MAX_OPEN = 1000
"""Requests of one worker under way: above the SDK's own limit, so that only a worker that ignores it is refused."""

MAX_OPEN_WEIGHT = 64 * 1024 * 1024
"""Bytes of memory these may take up together (one alone may take more): a thousand events of the largest size are 64 GB."""

REFUSAL = 2.0  # what refusing a request costs, see `Pipe.charge`: twice a notification


class ModRequests:
    """Answers `send_event` and `query` of the workers, each request in a task of its own.

    What is too much is refused with `busy`, and `Pipe.charge`d: a worker that goes on all the same is read more slowly,
    until it waits for its pipe. Reading never stops until a request is answered: the answers that one waits for come over the
    same pipe (of this very worker, where a handler waits for what its own event sets off), and so do those to pings.
    """

    def __init__(
        self,
        tasks: TaskGroup,
        agents: AgentRegistry,
        gateway: Gateway,
        answering: Callable[[ModConfig, str], str] = lambda _mod, destination: destination,
    ) -> None:
        self._answering = answering
        self._tasks = tasks
        self._agents = agents
        self._gateway = gateway
        self._open: dict[Incarnation, dict[int, anyio.CancelScope]] = {}
        self._calls: dict[str, Callable[[Keeper, Incarnation, dict[str, Any]], Awaitable[Any]]] = {
            messages.SEND_EVENT: self._send_event,
            messages.QUERY: self._query,
            messages.CHECKPOINT: self._checkpoint,
        }

    def take(self, keeper: Keeper, incarnation: Incarnation, request: Request) -> None:
        """Called by the pipe with each request; must not block."""
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
            self._open.setdefault(incarnation, {})[request.id] = anyio.CancelScope()
            self._tasks.start_soon(self._answer, call, keeper, incarnation, request)

    def cancel(self, incarnation: Incarnation, request_id: int | None = None) -> None:
        """The worker gave a request up (None: all of them, it is gone): so is what it caused."""
        scopes = self._open.get(incarnation, {})
        if request_id is None:
            for scope in list(scopes.values()):
                scope.cancel()
        elif (scope := scopes.get(request_id)) is not None:
            scope.cancel()

    @staticmethod
    def _too_many(incarnation: Incarnation) -> str:
        if incarnation.pipe.owed > MAX_OPEN:
            return f"{MAX_OPEN} requests of mod {incarnation.mod_id} are under way already"
        return f"requests of mod {incarnation.mod_id} that are under way take up {MAX_OPEN_WEIGHT} bytes already"

    async def _answer(
        self,
        call: Callable[[Keeper, Incarnation, dict[str, Any]], Awaitable[Any]],
        keeper: Keeper,
        incarnation: Incarnation,
        request: Request,
    ) -> None:
        pipe = incarnation.pipe
        scope = self._open[incarnation][request.id]
        try:
            with scope:
                answer = await call(keeper, incarnation, request.params or {})
                if pipe.buffered > HIGH_WATER:
                    await pipe.writable()
                pipe.respond(request.id, answer)
            if scope.cancelled_caught:
                pipe.refuse(request.id, Code.TIMEOUT, "cancelled by the worker")
        except (FrameTooLarge, Unserializable) as error:
            pipe.refuse(request.id, error.code, f"the answer cannot be sent: {error}")
        except ModvisorError as error:
            pipe.refuse(request.id, error.code, str(error))
        except Exception:  # a task of the whole network: whatever a worker sends, it must not end it
            logger.exception("mod %s: its request %s failed", incarnation.mod_id, request.method)
            pipe.refuse(request.id, Code.INTERNAL, "internal error; the log of the network says more")
        finally:
            del self._open[incarnation][request.id]
            if not self._open[incarnation]:
                del self._open[incarnation]

    async def _send_event(self, keeper: Keeper, incarnation: Incarnation, params: dict[str, Any]) -> dict[str, Any]:
        event = Event.from_dict(params.get("event"))
        mod = incarnation.config  # not the keeper's: during a swap a worker of another mod may speak already
        own = f"{MOD}:{mod.name}"
        event.source_id = event.source_id or own
        if event.source_id != own and not self._may_speak_for(mod, event.source_id):
            raise ModvisorError(
                f"mod {mod.mod_id} sent an event as {event.source_id!r}; it may only speak as {own} "
                "(grant others with 'speak_for' in its config)",
                code=Code.FORBIDDEN,
            )
        if event.destination_id is not None and event.destination_id.startswith(f"{MOD}:"):
            event.destination_id = self._answering(mod, event.destination_id)
        event.via, event.secret, event.source_agent_group, event.attempt = own, None, None, 1
        cause = incarnation.in_flight.origin(params.get("cause"))
        keeper.counters.events_out += 1
        response: EventResponse = await self._gateway.from_mod(event, mod, cause)
        return response.to_dict()

    async def _checkpoint(self, keeper: Keeper, incarnation: Incarnation, params: dict[str, Any]) -> None:
        version = params.get("version")
        if "state" not in params or not isinstance(version, str):
            raise InvalidEvent("checkpoint: expected {state: anything, version: text}")
        await keeper.take_checkpoint(incarnation, params["state"], version[:64])

    @staticmethod
    def _may_speak_for(mod: ModConfig, source_id: str) -> bool:
        source, allowed = parse_address(source_id), mod.speak_for
        if source.role == SYSTEM:  # the network's own name is nobody else's, whatever a config says
            return False
        return not allowed.isdisjoint({str(source), f"{source.role}:*", "*"})

    async def _query(self, _keeper: Keeper, _incarnation: Incarnation, params: dict[str, Any]) -> Any:
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
