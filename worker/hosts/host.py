"""The seam between a worker and the kind of mod that it runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

from ...ipc.errors import Code, ModvisorError
from ...ipc.messages import Notification
from ...ipc.pipe import Pipe
from ...mods.base import BaseMod
from ...mods.context import ModContext
from ...mods.handlers import Handler


class LoadFailed(ModvisorError):
    """A mod that cannot be loaded.

    If its own code failed, ``details`` has ``where`` (file:line) and ``traceback``.
    """

    code = Code.IMPORT_FAILED


Failure = Callable[[str, BaseException], LoadFailed]


@dataclass(frozen=True, slots=True)
class Place:
    """Where a mod is put: what the core said when it asked the worker to load it.

    Attributes:
        mod_path: as the mod's entry names it.
        failed: returns the failure of a step of the mod's own code, for which the step and the
            exception are given. It says where in the mod's files that was.
    """

    pipe: Pipe
    mod_path: str
    network_id: str
    config: dict[str, Any]
    context: ModContext
    failed: Failure


class Host(Protocol):
    """Makes a `BaseMod` of a mod class of one kind, for `life` to live with.

    Attributes:
        framework: what `Manifest.host` says of such mods; None: they are modvisor's own.
        mod_class: the class of what `make` returns. It has the name of the mod's class.
    """

    framework: ClassVar[str | None]
    mod_class: type[BaseMod]

    def __init__(self, cls: type, place: Place) -> None: ...

    def make(self) -> BaseMod:
        """Call the constructor. Its config and context are set when this returns."""
        ...

    def handlers(self) -> list[Handler]:
        """Return the handlers of the mod that was made, checked."""
        ...

    def patterns(self) -> tuple[str, ...]:
        """Return the patterns that the core routes by. Call this after initialize()."""
        ...

    def note(self, notification: Notification) -> None:
        """Take a notification of the core that `life` does not know."""
        ...


Kind = type[Host]
