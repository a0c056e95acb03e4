"""`network.mods`: the loaded mods by path, each as a view of what runs in its own process."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ..config import ModConfig
from .core import Core
from .unknown import Named

STATE_TIMEOUT = 1.0  # seconds that `get_state` may block the program


class ModView(Named):
    """A loaded mod as a program sees it.

    Attributes:
        mod_name: its path.
        mod_id: its id, the last part of the path unless it has another one.
        config: a copy of what the mod was given as its config.
    """

    def __init__(self, core: Core, config: ModConfig) -> None:
        self._core = core
        self.mod_name = config.path
        self.mod_id = config.mod_id
        self.config = dict(config.config)

    def get_state(self, timeout: float = STATE_TIMEOUT) -> Any:
        """Return what the mod's own ``get_state()`` says now; empty for a mod without one.

        The mod is asked in its process, and nothing else of this program runs until it has
        answered.

        Args:
            timeout: seconds to wait at most.

        Raises:
            TimeoutError: the mod has not answered in time.
            ModvisorError: it is not loaded any more, does not serve, or gives no state that can travel.
        """
        state = self._core.show_state(self.mod_id, timeout)
        return {} if state is None else state

    def __repr__(self) -> str:
        return f"<mod {self.mod_id} ({self.mod_name})>"


class Mods(Mapping[str, ModView]):
    """The loaded mods by path, in load order."""

    def __init__(self, core: Core) -> None:
        self._core = core

    def __getitem__(self, mod_path: str) -> ModView:
        for config in self._core.serving():
            if config.path == mod_path:
                return ModView(self._core, config)
        raise KeyError(mod_path)

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys(config.path for config in self._core.serving()))

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __repr__(self) -> str:
        return repr(dict(self))
