"""`BaseMod`: the life of a mod, and what it finds on itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from .context import ModContext


class BaseMod:
    """Base class of every mod. Subclass it once per mod and mark handlers with `mod_event_handler`.

    The network calls, in this order: the constructor (no arguments), `initialize`, `set_state` (after a reload),
    `activate`, `check_ready`, handlers at any time from then on, `get_state`, `deactivate` (before another incarnation
    serves) and `shutdown` at the end. Each of these may be a plain function or a coroutine function and runs on the thread of
    the mod's event loop; so do ``async def`` handlers. Plain ``def`` handlers run in threads, several at once, so that a slow
    one does not hold up the others.

    Attributes:
        config: the mapping given as ``config`` in the network file or to ``load_mod``. There from `initialize` on.
        context: what a mod may ask of its network, see `ModContext`. There from `initialize` on.
        version: of the mod (PEP 440), shown in stats and handed to `set_state`.
        description: one sentence for lists.
        requires, optional: mods that this one needs, or uses when they are loaded: ``["messaging>=2,<3"]``. Like the two above
            read from the source, before anything runs: write them as literals.
    """

    version: ClassVar[str] = "0.0.0"
    description: ClassVar[str] = ""
    requires: ClassVar[Sequence[str]] = ()
    optional: ClassVar[Sequence[str]] = ()

    config: dict[str, Any]
    context: ModContext

    def initialize(self) -> Any:
        """Prepare: read the config, open what may be open twice. Return False (or raise) to refuse to start.

        During a reload the former incarnation still serves meanwhile: what only one process may hold (a port, a lock, a
        cache of stored data) belongs into `activate`.
        """
        return True

    def activate(self) -> Any:
        """Open what is exclusive and start serving. Return False (or raise) to refuse."""
        return True

    def deactivate(self) -> Any:
        """Let go of what `activate` opened: another incarnation is about to serve. No event is being handled any more.

        `activate` is called again if that one fails after all, now or within its probation; `set_state` before it, with what
        has happened since. A mod that overrides `activate` without this one cannot be activated twice: its former version
        is started anew then.
        """

    def check_ready(self) -> Any:
        """Return once events can be handled: caches are warm, connections stand. Return False (or raise) to refuse."""
        return True

    def shutdown(self) -> Any:
        """Close everything. No event is being handled any more; the process ends after this."""

    def get_state(self) -> Any:
        """What the next incarnation shall know, as plain data (msgpack types). None: nothing."""
        return None

    def set_state(self, state: Any, from_version: str) -> Any:
        """Take over what `get_state` of the former incarnation (of version ``from_version``) returned.

        Return False (or raise) to refuse: a reload is given up then, and the former incarnation goes on serving.
        """

    def on_dependency(self, mod_id: str, what: str) -> Any:
        """A mod that this one ``requires``, or uses (``optional``), has come, gone, or become another.

        Called for each of them when this mod begins to serve, and at every change, one call after the other; events go on
        meanwhile. Ask the mod with ``await self.context.request(f"mod:{mod_id}", …)``, from an ``async def``.

        Args:
            mod_id: of the mod; of one that has not been there yet, the name by which it is required.
            what: ``ready``; ``away``: unloaded, or on its way back after a crash; ``reloaded``: another process of it, perhaps
                of another version, serves in the place of the former one.
        """

    def merge_state(self, states: list[Any], from_version: str) -> Any:
        """Of a mod with several ``workers``, whose number changes: one state of what `get_state` of each has returned."""
        raise NotImplementedError("the number of workers cannot change: merge_state() and split_state() are not there")

    def split_state(self, state: Any, count: int) -> list[Any]:
        """What `merge_state` returned, in parts for ``count`` workers, in order: `modvisor.mods.partition_of` says whose a
        key is."""
        raise NotImplementedError("the number of workers cannot change: merge_state() and split_state() are not there")
