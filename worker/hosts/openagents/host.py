"""Makes a `Guest` of a mod class of OpenAgents."""

from __future__ import annotations

from typing import ClassVar

from openagents.sdk.base_mod import BaseMod as TheirBaseMod

from ....ipc.manifest import OPENAGENTS
from ....ipc.messages import Notification
from ....mods.base import BaseMod
from ....mods.handlers import Handler
from .. import Place
from .guest import Guest, guest_class


class OpenAgentsHost:
    """Implements `Host`."""

    framework: ClassVar[str | None] = OPENAGENTS

    def __init__(self, cls: type[TheirBaseMod], place: Place) -> None:
        self._guest_class = guest_class(cls)
        self.mod_class: type[BaseMod] = self._guest_class
        self._place = place
        self._guest: Guest

    def make(self) -> BaseMod:
        self._guest = guest = self._guest_class()
        guest.settle(self._place)
        return guest

    def handlers(self) -> list[Handler]:
        """Return one handler: their mod asks its own handlers."""
        return [Handler("*", "process_event", self._guest.handle, is_async=True, observe=False)]

    def patterns(self) -> tuple[str, ...]:
        return self._guest.patterns

    def note(self, notification: Notification) -> None:
        self._guest.note(notification)
