"""The network behind the face: one of ours, which also shows its agents and mods."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from ...ipc import messages
from ...ipc.blocking import request_now
from ...ipc.errors import Code, ModvisorError
from ..agents import Agent, AgentRegistry
from ..config import ModConfig
from ..lifecycle import State
from ..network import AgentNetwork

T = TypeVar("T")


class Core(AgentNetwork):
    """A network whose agents, channels and mods can be read and changed without waiting."""

    @property
    def agents(self) -> AgentRegistry | None:
        """The registered agents; None unless the network runs."""
        return None if self._parts is None else self._parts.agents

    def agent(self, agent_id: str) -> Agent:
        """Return a registered agent. Raises `ModvisorError`: not_running or no_such_agent."""
        return self._agent(agent_id)

    def change(self, change: Callable[[AgentRegistry], T]) -> T:
        """Change agents or channels now. What cannot be kept on disk is taken back, and logged there.

        Raises:
            What ``change`` raises; ModvisorError: not_running.
        """
        agents = self._running().agents
        result, saved = agents.begin(lambda: change(agents))
        if saved is not None:
            saved.add_done_callback(_seen)
        return result

    def serving(self) -> Iterator[ModConfig]:
        """Return the configs of the mods that are loaded, in load order. A mod that failed to start is not."""
        if self._parts is not None:
            yield from (mod.config for mod in self._parts.mods if mod.state not in _GONE)

    def show_state(self, mod_id: str, seconds: float) -> Any:
        """Return what the mod's ``get_state()`` says now. This blocks the event loop meanwhile.

        Raises:
            ModvisorError: the mod does not serve, or why it gives no state.
            TimeoutError: it has not answered in time.
        """
        (worker, *_) = self._loaded_workers(mod_id)
        if worker.incarnation is None:
            raise ModvisorError(f"mod {mod_id} does not serve right now", code=Code.MOD_AWAY)
        return request_now(worker.incarnation.pipe, messages.SHOW_STATE, {}, seconds)


_GONE = frozenset({State.STARTING, State.FAILED, State.STOPPED})


def _seen(saved: asyncio.Future[None]) -> None:
    """Take note of an error that the journal has logged; else asyncio would log it again."""
    if not saved.cancelled():
        saved.exception()
