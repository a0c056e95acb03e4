"""Answers the requests of workers that hold a mirror of agents, groups and channels, and change channels.

`agents.mirrors` keeps the mirrors true; here they get their pipes. A worker that does not read its
pipe is ended, like one that does not read its events: what waits for it is bounded.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from ...ipc import messages
from ...ipc.errors import Code, InvalidEvent, ModvisorError, shown
from ...ipc.manifest import OPENAGENTS
from ...ipc.pipe import HIGH_WATER
from ..agents import AgentRegistry, Mirror
from ..config import as_host_says
from ..lifecycle import Incarnation, Keeper
from ..process import Cause

MAX_UNREAD = 32 * 1024 * 1024
"""Bytes of changes that may wait for a worker that does not read its pipe: what a busy network sets
off while a handler blocks the worker's loop for `limits.hang_timeout`, with room to spare."""


class MirrorRequests:
    """Answers `mirror` and `channel`, and tells the workers every change."""

    def __init__(self, agents: AgentRegistry) -> None:
        self._agents = agents
        self._mirrors: dict[Incarnation, _Sent] = {}

    async def mirror(self, _keeper: Keeper, incarnation: Incarnation, _params: dict[str, Any]) -> None:
        """Send all agents, groups and channels to a worker, and every change from then on."""
        if incarnation.pipe.closed is not None:  # it ended before its turn came
            return
        if incarnation in self._mirrors:
            # It costs as much as the network is large, and the worker has it already.
            raise ModvisorError(f"mod {incarnation.mod_id} has a mirror already", code=Code.CONFLICT)
        if incarnation.manifest is None:  # it is loading: only this says what kind of mod it is
            incarnation.config = as_host_says(incarnation.config, OPENAGENTS)
        sent = self._mirrors[incarnation] = _Sent(incarnation)
        mirror = Mirror(self._agents, sent.tell)
        sent.stop = lambda: self._agents.mirrors.remove(mirror)
        self._agents.mirrors.add(mirror)
        try:
            await self._send_all(mirror, incarnation)
        except BaseException:
            self.forget(incarnation)
            raise

    @staticmethod
    async def _send_all(mirror: Mirror, incarnation: Incarnation) -> None:
        pipe = incarnation.pipe
        for pages in mirror.pages():
            for page in pages:
                pipe.notify(messages.MIRROR, page)
            if pipe.closed is not None:
                return
            if not pages[-1]["last"]:
                await asyncio.sleep(0)  # others have their turn
                await pipe.writable()

    def forget(self, incarnation: Incarnation) -> None:
        """Tell nothing more to a worker, for example because its pipe has ended."""
        sent = self._mirrors.pop(incarnation, None)
        if sent is not None:
            sent.stop()

    async def channel(self, keeper: Keeper, incarnation: Incarnation, params: dict[str, Any]) -> None:
        """Change who is in a channel, at once; the answer is sent when it is on disk.

        Until its first wait this runs in the order in which the requests came.
        """
        if "channels" not in incarnation.config.permissions:
            raise ModvisorError(
                f"mod {incarnation.mod_id} may not change channels: it needs the permission 'channels' in its config",
                code=Code.FORBIDDEN,
            )
        if keeper.serving > incarnation.number:  # its shutdown() would remove what its successor took over
            text = f"another incarnation of mod {incarnation.mod_id} serves now"
            raise ModvisorError(text, code=Code.MOD_AWAY)
        await self._agents.kept(self._change(params))

    def _change(self, params: dict[str, Any]) -> Callable[[], object]:
        agents = self._agents
        match params:
            case {"do": "join", "channel": str(channel), "agent_id": str(agent_id)}:
                return lambda: agents.join(channel, agent_id)
            case {"do": "leave", "channel": str(channel), "agent_id": str(agent_id)}:
                return lambda: agents.channel_members(channel) and agents.leave(channel, agent_id)
            case {"do": "close", "channel": str(channel)}:
                return lambda: agents.channel_members(channel) and agents.remove_channel(channel)
        raise InvalidEvent(
            f"channel: expected {{do: join, leave or close, channel: text, agent_id: text}}, got {shown(params)}"
        )


class _Sent:
    """What has been sent of a mirror to one worker.

    Attributes:
        stop: ends the telling.
    """

    def __init__(self, incarnation: Incarnation) -> None:
        self._incarnation = incarnation
        self._unread = 0  # bytes of changes that were written since the worker last had read nearly all
        self.stop: Callable[[], object] = lambda: None

    def tell(self, changes: list[list[Any]]) -> None:
        """Send changes to the worker. This raises nothing: it runs in the middle of what others do."""
        pipe = self._incarnation.pipe
        if (before := pipe.buffered) <= HIGH_WATER:
            self._unread = 0
        try:
            pipe.notify(messages.CHANGES, {"changes": changes})
        except ModvisorError as error:
            self._end(f"a change of agents or channels cannot be sent to it: {error}")
            return
        self._unread += max(0, pipe.buffered - before)
        if self._unread > MAX_UNREAD:
            self._end(f"it does not read its pipe: {self._unread} bytes of changes of agents and channels wait for it")

    def _end(self, why: str) -> None:
        """End a worker whose mirror is no longer true."""
        self.stop()
        self._incarnation.end(why, Cause.PROTOCOL_VIOLATION)
        self._incarnation.kill_now()
