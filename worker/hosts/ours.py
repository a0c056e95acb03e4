"""Mods of modvisor: their class is what the worker runs."""

from __future__ import annotations

from typing import ClassVar

from ...ipc.messages import Notification
from ...mods.base import BaseMod
from ...mods.handlers import Handler, collect_handlers
from .host import Place


class OurHost:
    """Implements `Host`."""

    framework: ClassVar[str | None] = None

    def __init__(self, cls: type[BaseMod], place: Place) -> None:
        self.mod_class = cls
        self._place = place

    def make(self) -> BaseMod:
        self._mod = mod = self.mod_class()
        mod.config = self._place.config
        mod.context = self._place.context
        return mod

    def handlers(self) -> list[Handler]:
        self._handlers = collect_handlers(self._mod)
        return self._handlers

    def patterns(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(handler.pattern for handler in self._handlers if not handler.observe))

    def note(self, notification: Notification) -> None:
        """Ignore what only other kinds of mods ask for."""
