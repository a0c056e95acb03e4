"""`StoreMod`: what the bundled mods do alike when they start and end."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol, TypeVar

from .. import BaseMod
from .announce import Announcer


class Closable(Protocol):
    """What `StoreMod.open` opens, such as the tables of a mod."""

    def close(self) -> None: ...


S = TypeVar("S", bound=Closable)


class StoreMod(BaseMod):
    """A mod that keeps its data in one database file and may announce what changes.

    Call `open` in `activate`; `shutdown` closes the file. A subclass names `BaseMod` as a base too:
    `modvisor mods` reads a mod's file without importing it, and looks for that name.

    Attributes:
        clock: returns the time, Unix seconds. Tests replace it.
        announce: sends announcements in the background. It is there after `open`.
    """

    clock: Callable[[], float] = staticmethod(time.time)
    announce: Announcer
    _store: Closable | None = None  # None until `open`, so also when `initialize` refused to start

    def open(self, file_name: str, store: Callable[[Path], S], destination: str | None = None) -> S:
        """Open the database in this mod's folder and get ready to announce.

        Args:
            store: returns the store, given the path of the file; usually the class of the store.
            destination: where announcements go, see `Announcer`.
        """
        self.announce = Announcer(self.context, destination)
        self._store = opened = store(self.context.storage_path / file_name)
        return opened

    async def shutdown(self) -> None:
        if self._store is not None:
            await self.announce.close()
            self._store.close()
