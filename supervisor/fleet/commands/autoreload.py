"""Hot reload: saving a mod's files reloads the mod, and starts it when it is down.

`sources.file_watch` reports which files changed, `sources.saved_files` decides what that means, and
a reload follows as if an operator had asked for it. While the watched folders change, a save can be
missed, so each mod's files are looked at afterwards.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import anyio
import anyio.to_thread
from anyio.abc import TaskGroup

from ....ipc.errors import Code
from ....ipc.event import EventResponse
from ...config import ModConfig
from ...lifecycle import COMING_BACK, Keeper, State
from ...sources import (
    HOW_TO_INSTALL,
    CodePlace,
    Decision,
    Digests,
    Seen,
    SourceFiles,
    can_watch,
    changed_files,
    changes_in,
    code_place,
    decide,
    files_read,
    look_at_files,
    made_of,
    mark_unsure,
    touched_files,
)
from ..mods.workers import Mod, WorkerGroup
from .commands import ModCommands

logger = logging.getLogger("modvisor.watch")

GRACE = 0.1
"""Seconds in which a vanished file may come back: git and some editors remove and rewrite files."""

AGAIN = 1.0
"""Seconds until the retry of a reload that failed for a passing reason, such as a slow handler."""

FLURRY = 20, 10.0
"""After so many reloads within so many seconds the next one waits: the mod writes its own files."""

_PASSING = frozenset({"drain", "switch"})  # steps of a reload
_GONE = frozenset({Code.NO_SUCH_MOD, Code.NOT_RUNNING})  # the mod was unloaded meanwhile


@dataclass(frozen=True, slots=True)
class Saved:
    """A save, and the reload that followed.

    Attributes:
        files: the files that differ from the last try.
        response: to the reload.
        at: Unix seconds.
    """

    mod_id: str
    files: tuple[str, ...]
    response: EventResponse
    at: float = field(default_factory=time.time)


class _WatchedMod:
    """A mod whose files are watched.

    Attributes:
        sources: the files that the serving version reported.
        number: of the serving incarnation, if it reported no files.
        running: the files that run now.
        tried: the files at the last failed reload; None if none has failed since.
        may_miss: a failed reload may have missed a module, so folders of modules are watched too.
        read: the files that failed reloads have read; a mend may be in one that does not run yet.
        before: the files when the reload under way began.
        seen: the files at the last look.
        saved: the reported files that no look has covered yet.
        to_look: a look is due, although no file was reported.
        is_busy: a task acts on its saves.
        reloads: when the newest reloads began, loop time.
        last_told: the failure that listeners know already.
    """

    def __init__(self, mod: Mod, place: CodePlace) -> None:
        self.mod = mod
        self.place = place
        self.path = mod.config.path
        self.sources: SourceFiles | None = None
        self.number: int | None = None
        self.running: Digests = {}
        self.tried: Digests | None = None
        self.may_miss = False
        self.read: set[str] = set()
        self.before: Digests | None = None
        self.seen = Seen({}, {}, {}, {}, frozenset())
        self.saved: set[str] = set()
        self.to_look = False
        self.is_busy = False
        self.reloads: deque[float] = deque(maxlen=FLURRY[0])
        self.last_told: str | None = None
        self._looking = anyio.Lock()

    @property
    def mod_id(self) -> str:
        return self.mod.mod_id

    @property
    def is_up(self) -> bool:
        return self.mod.incarnation is not None or self.mod.state in COMING_BACK

    @property
    def is_settled(self) -> bool:
        """Whether it is known which files it runs, or that it runs none."""
        return self.sources is not None or self.mod.state is not State.STARTING

    def learn(self) -> None:
        """Take note of the version that serves now."""
        sources, incarnation = self.mod.sources, self.mod.incarnation
        before = self.seen.digests if self.before is None else self.before
        if sources is not None and sources.mod_path == self.path:
            if sources == self.sources:
                return
            is_first, self.sources = self.sources is None, sources
            self.running = made_of(sources.digests, before)
        elif (
            incarnation is not None and incarnation.number != self.number
        ):  # no files are reported yet: assume the files on disk
            is_first, self.number = True, incarnation.number
            self.running = dict(before)
        else:
            return
        # An operator who reverts, or a start from a snapshot, wants an older version than the files
        # say. It stays until the next save.
        is_older = incarnation is not None and incarnation.from_snapshot if is_first else self.before is None
        self.forget_failure()
        self.tried = self.seen.digests if is_older else None

    def forget_failure(self) -> None:
        """Treat the next reload as the first one."""
        self.tried, self.last_told, self.may_miss = None, None, False
        self.read.clear()

    def differing(self) -> tuple[str, ...]:
        """Return the files that differ from the last start or try."""
        now = self.seen.digests
        return tuple(
            changed_files(self.running, now)
            if self.tried is None
            else changed_files(self.tried, {**now, **self.seen.hoped})
        )

    async def look(self, search: Iterable[str]) -> None:
        """Look at the files on disk.

        Args:
            search: the folders in which a missing module may appear.
        """
        async with self._looking:  # looks must not overtake each other
            root = self.place.root or (self.sources.root if self.sources is not None else None)
            files = {*self.place.files, *self.running, *self.read}
            roots = list(search) if self.may_miss else ()
            self.seen = await anyio.to_thread.run_sync(look_at_files, root, files, roots)


class Autoreload:
    """Watches the files of mods while a network runs.

    Args:
        is_wanted: returns whether to watch a mod. Call `noticed` when its answer may have changed.
        tell: called with each save that was acted on.
    """

    def __init__(
        self, commands: ModCommands, is_wanted: Callable[[ModConfig], bool], tell: Callable[[Saved], None]
    ) -> None:
        self._commands = commands
        self._registry = commands.mods
        self._is_wanted = is_wanted
        self._tell = tell
        self._watched: dict[Mod, _WatchedMod] = {}
        self._folders: dict[str, tuple[int, int]] = {}  # the watched ones, by path
        self._gone: set[str] = set()  # watched folders that have vanished; a new one of the same name needs a new watch
        self._stop: anyio.Event | None = None  # ends the current watch
        self._wake = anyio.Event()
        self._warned = False
        self._tasks: TaskGroup

    def noticed(self) -> None:
        """Take stock again, because mods, versions or the choice of watched mods have changed."""
        self._wake.set()

    def files_of(self, mod_id: str) -> list[str] | None:
        """Return the watched files of a mod; None if it is not watched."""
        found = next((watched for watched in self._watched.values() if watched.mod_id == mod_id), None)
        return None if found is None else sorted(found.seen.digests)

    def count_of(self, mod_id: str) -> int | None:
        """Return how many files of a mod are watched; None if it is not watched."""
        files = self.files_of(mod_id)
        return None if files is None else len(files)

    async def run(self) -> None:
        """Watch and reload until cancelled."""
        self._registry.listeners.append(self.noticed)
        try:
            async with anyio.create_task_group() as self._tasks:
                try:
                    while True:
                        self._wake = anyio.Event()
                        try:
                            await self._take_stock()
                            self._follow()
                        except Exception:  # a mistake here must not end the network
                            logger.exception("could not find out which files to watch")
                        await self._wake.wait()
                finally:
                    if self._stop is not None:  # its thread stops for nothing else
                        self._stop.set()
        finally:
            self._registry.listeners.remove(self.noticed)

    # -- what is watched

    async def _take_stock(self) -> None:
        wanted = [
            mod for mod in self._registry if isinstance(mod, Keeper | WorkerGroup) and self._is_wanted(mod.config)
        ]
        if wanted and not can_watch():
            if not self._warned:
                ids = ", ".join(mod.mod_id for mod in wanted)
                logger.warning("the files of %s are not watched: %s", ids, HOW_TO_INSTALL)
            self._warned, wanted = True, []
        self._watched = {mod: self._watched.get(mod) or self._begin(mod) for mod in wanted}
        for mod, watched in list(self._watched.items()):
            if watched.path != mod.config.path:  # the mod was swapped for another one
                watched = self._watched[mod] = self._begin(mod)
            await self._learn(watched)
            if not self._gone.isdisjoint(watched.seen.watched):
                await watched.look(self._registry.own_folders)

    def _begin(self, mod: Mod) -> _WatchedMod:
        return _WatchedMod(mod, code_place(mod.config, self._registry.base_dir, self._registry.search_path))

    async def _learn(self, watched: _WatchedMod) -> None:
        search, before, is_new = self._registry.own_folders, watched.sources, not watched.seen.watched
        if is_new:
            await watched.look(search)
        watched.learn()
        if watched.sources is not before:
            await watched.look(search)  # at the files that it reported
        elif is_new and watched.is_settled and not watched.is_up:  # it failed with the present files
            watched.may_miss, watched.read = True, set(watched.mod.files_read)
            await watched.look(search)
            watched.tried = {**watched.seen.digests, **watched.seen.hoped}

    def _follow(self) -> None:
        """Watch the folders that the mods need now."""
        wanted: dict[str, tuple[int, int]] = {}
        for watched in self._watched.values():
            wanted |= watched.seen.watched
        if wanted == self._folders and not self._gone:
            return
        self._folders, self._gone = wanted, set()
        previous, self._stop = self._stop, anyio.Event() if wanted else None
        if self._stop is not None:
            self._tasks.start_soon(self._listen, list(wanted), self._stop, name="watch")
        if previous is not None:
            previous.set()
        for watched in self._watched.values():  # the previous watch may have had more to report
            self._act_on(watched, look=True)

    async def _listen(self, folders: list[str], stop: anyio.Event) -> None:
        try:
            async for paths in changes_in(folders, stop):
                self._changed(paths)
        except FileNotFoundError:  # a folder vanished just now
            self._gone.update(folders)
            self.noticed()
        except (OSError, RuntimeError) as error:  # the library raises RuntimeError, too
            logger.error(
                "the files of the mods are not watched: %s; allow more watches "
                "(sysctl fs.inotify.max_user_watches, fs.inotify.max_user_instances)", error,
            )  # fmt: skip

    # -- reloading

    def _changed(self, paths: set[str]) -> None:
        if gone := paths & self._folders.keys():
            self._gone |= gone
            self.noticed()
        for watched in self._watched.values():
            if saved := touched_files(paths, watched.seen.names, watched.seen.inner):
                watched.saved |= saved
                self._act_on(watched)

    def _act_on(self, watched: _WatchedMod, *, look: bool = False) -> None:
        watched.to_look = watched.to_look or look
        if not watched.is_busy:
            watched.is_busy = True
            self._tasks.start_soon(self._act, watched, name=f"saves-{watched.mod_id}")

    async def _act(self, watched: _WatchedMod) -> None:
        """Reload a mod until no save is left to act on."""
        was_idle = True
        try:
            while (
                (watched.saved or watched.to_look) and self._watched.get(watched.mod) is watched and watched.is_settled
            ):
                # After a reload only the files count: it may have read what is reported later.
                saved = bool(watched.saved) and was_idle
                decision = await self._decide(watched, saved)
                if decision is Decision.WAIT:
                    await anyio.sleep(GRACE)
                    decision = await self._decide(watched, saved, patient=False)
                if decision is Decision.RELOAD:
                    was_idle = False
                    await self._reload(watched)
        except Exception:  # a mistake here must not end the network
            logger.exception("mod %s: could not act on a save", watched.mod_id)
        finally:
            watched.is_busy = False

    async def _decide(self, watched: _WatchedMod, saved: bool, *, patient: bool = True) -> Decision:
        watched.saved.clear()
        watched.to_look = False
        folders = watched.seen.watched
        await watched.look(self._registry.own_folders)
        if watched.seen.watched != folders:  # a folder has appeared or vanished
            self.noticed()
        seen, is_up = watched.seen, watched.is_up
        if is_up and seen.digests == watched.running:
            watched.forget_failure()
        return decide(
            watched.running, watched.tried, seen.digests, seen.hoped, is_up=is_up, saved=saved, patient=patient
        )

    async def _reload(self, watched: _WatchedMod) -> None:
        await self._slow_down(watched)
        files = watched.differing()
        watched.before, began = watched.seen.digests, time.time()
        tried = {**watched.seen.digests, **watched.seen.hoped}
        try:
            response = await self._commands.reload(watched.mod_id)
            watched.learn()
        finally:
            watched.before = None
        if response.success:
            logger.debug("mod %s was reloaded after a save of %s", watched.mod_id, ", ".join(files) or "its files")
        elif response.error in _GONE:
            return
        elif response.data.get("step") in _PASSING:
            self._tasks.start_soon(self._try_again, watched)
        else:
            await self._failed(watched, tried, began, response)
        if response.success or response.message != watched.last_told:
            watched.last_told = None if response.success else response.message
            self._tell(Saved(watched.mod_id, files, response))

    async def _failed(self, watched: _WatchedMod, tried: Digests, began: float, response: EventResponse) -> None:
        """Note the files of a failed reload, and watch the files and modules that may mend it."""
        watched.read |= set(files_read(response.data))
        watched.tried, watched.may_miss = tried, True
        await watched.look(self._registry.own_folders)
        # This leaves out a file of the package that appeared after the reload began.
        read = {path: found for path, found in watched.seen.digests.items() if path in watched.read}
        others = {path: found for path, found in {**read, **watched.seen.hoped}.items() if path not in tried}
        noted = await anyio.to_thread.run_sync(mark_unsure, others, began)
        watched.tried = {**tried, **noted}
        watched.to_look = watched.to_look or noted != others
        self.noticed()

    async def _try_again(self, watched: _WatchedMod) -> None:
        await anyio.sleep(AGAIN)
        self._act_on(watched, look=True)

    async def _slow_down(self, watched: _WatchedMod) -> None:
        now, (count, seconds) = asyncio.get_running_loop().time(), FLURRY
        if len(watched.reloads) == count and now - watched.reloads[0] < seconds:
            logger.warning("mod %s was saved %d times in %.1f s; does it write its own files?",
                           watched.mod_id, count, now - watched.reloads[0])  # fmt: skip
            await anyio.sleep(seconds)
        watched.reloads.append(now)
