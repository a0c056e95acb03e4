"""`BaseMod`: the base class of every mod, with the methods that the network calls in its life."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from .context import ModContext


class BaseMod:
    """Base class of every mod. Subclass it once per mod and mark handlers with `mod_event_handler`.

    The network calls, in this order: the constructor (no arguments), `initialize`, `set_state`
    (after a reload), `activate`, `check_ready`, then handlers at any time. At the end it calls
    `get_state`, `deactivate` (before another incarnation serves) and `shutdown`.

    Each method may be a plain function or a coroutine function. The methods above run on the thread
    of the mod's event loop, and so do ``async def`` handlers. Plain ``def`` handlers run in
    threads, several at once, so that a slow handler does not hold up the others.

    Attributes:
        config: the mapping given as ``config`` in the network file or to ``load_mod``. Set before
            `initialize`.
        context: what a mod may ask of its network, see `ModContext`. Set before `initialize`.
        version: the mod's version (PEP 440), shown in stats and handed to `set_state`.
        description: one sentence for lists.
        config_schema: a JSON Schema that ``config`` must follow, checked before `initialize`. It may
            stand in the mod.yaml instead. It needs the library of ``modvisor[schema]``.
        requires, optional: mods that this mod needs, or uses when they are loaded, such as
            ``["messaging>=2,<3"]``. Write these two, and version and description, as literals: the network reads
            them from the source before it runs anything.
    """

    version: ClassVar[str] = "0.0.0"
    description: ClassVar[str] = ""
    requires: ClassVar[Sequence[str]] = ()
    optional: ClassVar[Sequence[str]] = ()
    config_schema: ClassVar[dict[str, Any] | None] = None

    config: dict[str, Any]
    context: ModContext

    def initialize(self) -> Any:
        """Prepare: read the config, open what two processes may share.

        Return False (or raise) to refuse. During a reload the old incarnation still serves while
        this runs. Open in `activate` what only one process may hold: a port, a lock, a cache of
        stored data.
        """
        return True

    def activate(self) -> Any:
        """Open what only one process may hold, and start to serve.

        Return False (or raise) to refuse.
        """
        return True

    def deactivate(self) -> Any:
        """Release what `activate` opened: another incarnation is about to serve.

        No event is in flight. If the new incarnation fails, now or within its probation, the
        network calls `set_state` with the newest state and then `activate` again. A mod that
        overrides `activate` but not `deactivate` cannot be activated twice: the network starts its
        old version anew instead.
        """

    def check_ready(self) -> Any:
        """Return once the mod can handle events, or False (or raise) to refuse.

        This is the place to wait for a warm cache or a connection.
        """
        return True

    def shutdown(self) -> Any:
        """Close everything. No event is in flight, and the process ends after this."""

    def get_state(self) -> Any:
        """Return the state for the next incarnation: plain data (msgpack types), or None."""
        return None

    def set_state(self, state: Any, from_version: str) -> Any:
        """Take over the state that `get_state` of the old incarnation returned.

        Return False (or raise) to refuse: the network then gives up the reload, and the old
        incarnation keeps serving.

        Args:
            from_version: the version of the old incarnation.
        """

    def on_dependency(self, mod_id: str, what: str) -> Any:
        """Learn that a mod in ``requires`` or ``optional`` came, left or was replaced.

        The network calls this for each such mod when this mod starts to serve, and then at every
        change, one call after the other. Events arrive meanwhile. In an ``async def``, ask the
        other mod with ``await self.context.request(f"mod:{mod_id}", …)``.

        Args:
            mod_id: the mod's id. While it was never loaded, the name in ``requires`` or
                ``optional``.
            what: ``ready``; ``away`` after an unload, or while the mod restarts after a crash;
                ``reloaded`` when another process of the mod, perhaps of another version, serves.
        """

    def merge_state(self, states: list[Any], from_version: str) -> Any:
        """Return one state made of the states of all ``workers``, when their number changes."""
        raise NotImplementedError(
            "the number of workers cannot change: the mod does not define merge_state() and split_state()"
        )

    def split_state(self, state: Any, count: int) -> list[Any]:
        """Split the result of `merge_state` into one state for each of ``count`` workers, in order.

        `modvisor.mods.partition_of` returns the index of the worker that a key belongs to.
        """
        raise NotImplementedError(
            "the number of workers cannot change: the mod does not define merge_state() and split_state()"
        )
