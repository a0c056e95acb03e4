"""Hot reload: a save of a mod's files reloads it, and starts it when it is down.

What changed is told by `file_watch`, what it means is decided by `saves`, what is done about it is done by the registry, as if
somebody had asked for it. Whatever is missed while folders are watched anew is found by a look at the files afterwards.
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

from ...ipc.errors import Code
from ...ipc.event import EventResponse
from ..config import ModConfig
from ..lifecycle import COMING_BACK, State
from ..sources import (
    HOW_TO_INSTALL,
    Decision,
    Digests,
    Place,
    Seen,
    SourceFiles,
    changed,
    changes,
    decide,
    files_read,
    is_available,
    look,
    made_of,
    place_of,
    touched,
    unsure,
)
from .commands import ModCommands
from .workers import Mod

logger = logging.getLogger("modvisor.watch")

GRACE = 0.1
"""Seconds in which a file that has vanished may come back: it is removed and written anew by some editors, and by git."""

AGAIN = 1.0
"""Seconds until a reload is tried again that failed for what goes by, such as a handler that did not finish in time."""

FLURRY = 20, 10.0
"""So many reloads within so many seconds, and the next one waits: nobody types as fast, the mod writes its own files."""

_GOES_BY = frozenset({"drain", "switch"})  # steps of a reload
_NOT_OURS = frozenset({Code.NO_SUCH_MOD, Code.NOT_RUNNING})  # it was unloaded meanwhile


@dataclass(frozen=True, slots=True)
class Saved:
    """A save that was acted upon.

    Attributes:
        files: that differ from those of the last try.
        response: of the reload.
    """

    mod_id: str
    files: tuple[str, ...]
    response: EventResponse
    at: float = field(default_factory=time.time)


class _Watched:
    """A mod whose files are watched."""

    def __init__(self, keeper: Mod, place: Place) -> None:
        self.keeper = keeper
        self.place = place
        self.path = keeper.config.path
        self.sources: SourceFiles | None = None  # as the version that serves reported them
        self.number: int | None = None  # of an incarnation that reported none
        self.running: Digests = {}
        self.tried: Digests | None = None  # when it failed last
        self.may_miss = False  # a module that is not there: it failed for a reason of its own
        self.read: set[str] = set()  # by the tries that failed: what is mended may be none of the files it runs
        self.before: Digests | None = None  # the files when the reload under way began
        self.seen = Seen({}, {}, {}, {}, frozenset())
        self.saved: set[str] = set()  # and not acted upon
        self.to_look = False  # though nothing was told
        self.is_busy = False
        self._looking = anyio.Lock()
        self.reloads: deque[float] = deque(maxlen=FLURRY[0])  # loop time
        self.last_told: str | None = None

    @property
    def mod_id(self) -> str:
        return self.keeper.mod_id

    @property
    def is_up(self) -> bool:
        return self.keeper.incarnation is not None or self.keeper.state in COMING_BACK

    @property
    def is_settled(self) -> bool:
        """Whether it can be told by now what it runs, or that it runs nothing."""
        return self.sources is not None or self.keeper.state is not State.STARTING

    def learn(self) -> None:
        """Take note of the version that serves."""
        sources, incarnation = self.keeper.sources, self.keeper.incarnation
        before = self.seen.digests if self.before is None else self.before
        if sources is not None and sources.mod_path == self.path:
            if sources == self.sources:
                return
            is_first, self.sources = self.sources is None, sources
            self.running = made_of(sources.digests, before)
        elif incarnation is not None and incarnation.number != self.number:  # (not yet) reported: what was there
            is_first, self.number = True, incarnation.number
            self.running = dict(before)
        else:
            return
        # An earlier version that somebody brought back (a rollback, a start from the last good one) is what is wanted until
        # the next save, whatever the files say.
        kept = incarnation is not None and incarnation.from_snapshot if is_first else self.before is None
        self.forget_failure()
        self.tried = self.seen.digests if kept else None

    def forget_failure(self) -> None:
        self.tried, self.last_told, self.may_miss = None, None, False
        self.read.clear()

    def differing(self) -> tuple[str, ...]:
        """The files that are other than when it was started last."""
        now = self.seen.digests
        return tuple(
            changed(self.running, now) if self.tried is None else changed(self.tried, {**now, **self.seen.hoped})
        )

    async def look(self, search: Iterable[str]) -> None:
        """At the files as they are."""
        async with self._looking:  # or an older look would be taken for a newer one
            root = self.place.root or (self.sources.root if self.sources is not None else None)
            files = {*self.place.files, *self.running, *self.read}
            roots = list(search) if self.may_miss else ()
            self.seen = await anyio.to_thread.run_sync(look, root, files, roots)


class Autoreload:
    """Watches the files of mods while a network runs.

    Args:
        is_wanted: whether a mod is to be watched; `noticed` is to be called when it may say otherwise than before.
        tell: called with each save that was acted upon.
    """

    def __init__(
        self, commands: ModCommands, is_wanted: Callable[[ModConfig], bool], tell: Callable[[Saved], None]
    ) -> None:
        self._commands = commands
        self._registry = commands.mods
        self._is_wanted = is_wanted
        self._tell = tell
        self._mods: dict[Mod, _Watched] = {}
        self._folders: dict[str, tuple[int, int]] = {}  # that are watched
        self._gone: set[str] = set()  # of these; another of the same name is to be watched anew
        self._stop: anyio.Event | None = None  # of the watch that is on
        self._wake = anyio.Event()
        self._warned = False
        self._tasks: TaskGroup

    def noticed(self) -> None:
        """Something is other than it was: mods, their versions, which of them are watched."""
        self._wake.set()

    def files_of(self, mod_id: str) -> list[str] | None:
        """The files of a mod that are watched; None if it is not."""
        found = next((mod for mod in self._mods.values() if mod.mod_id == mod_id), None)
        return None if found is None else sorted(found.seen.digests)

    def count_of(self, mod_id: str) -> int | None:
        files = self.files_of(mod_id)
        return None if files is None else len(files)

    async def run(self) -> None:
        """Until cancelled."""
        self._registry.listeners.append(self.noticed)
        try:
            async with anyio.create_task_group() as self._tasks:
                try:
                    while True:
                        self._wake = anyio.Event()
                        try:
                            await self._take_stock()
                            self._follow()
                        except Exception:  # a mistake of ours is no reason for the network to end
                            logger.exception("which files are to be watched could not be found out")
                        await self._wake.wait()
                finally:
                    if self._stop is not None:  # its thread hears of nothing else
                        self._stop.set()
        finally:
            self._registry.listeners.remove(self.noticed)

    # -- what is watched

    async def _take_stock(self) -> None:
        wanted = [keeper for keeper in self._registry if self._is_wanted(keeper.config)]
        if wanted and not is_available():
            if not self._warned:
                ids = ", ".join(keeper.mod_id for keeper in wanted)
                logger.warning("the files of %s are not watched: %s", ids, HOW_TO_INSTALL)
            self._warned, wanted = True, []
        self._mods = {keeper: self._mods.get(keeper) or self._begin(keeper) for keeper in wanted}
        for keeper, mod in list(self._mods.items()):
            if mod.path != keeper.config.path:  # it was swapped for another
                mod = self._mods[keeper] = self._begin(keeper)
            await self._learn(mod)
            if not self._gone.isdisjoint(mod.seen.watched):
                await mod.look(self._registry.own_folders)

    def _begin(self, keeper: Mod) -> _Watched:
        return _Watched(keeper, place_of(keeper.config, self._registry.base_dir, self._registry.search_path))

    async def _learn(self, mod: _Watched) -> None:
        search, former, is_new = self._registry.own_folders, mod.sources, not mod.seen.watched
        if is_new:
            await mod.look(search)
        mod.learn()
        if mod.sources is not former:
            await mod.look(search)  # at the files it has come to know
        elif is_new and mod.is_settled and not mod.is_up:  # it has failed with what is there
            mod.may_miss, mod.read = True, set(mod.keeper.files_read)
            await mod.look(search)
            mod.tried = {**mod.seen.digests, **mod.seen.hoped}

    def _follow(self) -> None:
        """Watch the folders as they are wanted by now."""
        wanted: dict[str, tuple[int, int]] = {}
        for mod in self._mods.values():
            wanted |= mod.seen.watched
        if wanted == self._folders and not self._gone:
            return
        self._folders, self._gone = wanted, set()
        former, self._stop = self._stop, anyio.Event() if wanted else None
        if self._stop is not None:
            self._tasks.start_soon(self._listen, list(wanted), self._stop, name="watch")
        if former is not None:
            former.set()
        for mod in self._mods.values():  # all of them: what the former watch had still to tell is lost
            self._act_on(mod, look=True)

    async def _listen(self, folders: list[str], stop: anyio.Event) -> None:
        try:
            async for paths in changes(folders, stop):
                self._changed(paths)
        except FileNotFoundError:  # just now
            self._gone.update(folders)
            self.noticed()
        except (OSError, RuntimeError) as error:  # RuntimeError: of the library's own making
            logger.error(
                "the files of the mods are not watched: %s; the system may allow for more watches "
                "(sysctl fs.inotify.max_user_watches, fs.inotify.max_user_instances)", error,
            )  # fmt: skip

    # -- what is done

    def _changed(self, paths: set[str]) -> None:
        if gone := paths & self._folders.keys():
            self._gone |= gone
            self.noticed()
        for mod in self._mods.values():
            if saved := touched(paths, mod.seen.names, mod.seen.inner):
                mod.saved |= saved
                self._act_on(mod)

    def _act_on(self, mod: _Watched, *, look: bool = False) -> None:
        mod.to_look = mod.to_look or look
        if not mod.is_busy:
            mod.is_busy = True
            self._tasks.start_soon(self._act, mod, name=f"saves-{mod.mod_id}")

    async def _act(self, mod: _Watched) -> None:
        """Until nothing more was saved."""
        was_idle = True
        try:
            while (mod.saved or mod.to_look) and self._mods.get(mod.keeper) is mod and mod.is_settled:
                # During a reload the files are what matters: it may have been tried with what was told too late.
                saved = bool(mod.saved) and was_idle
                decision = await self._decide(mod, saved)
                if decision is Decision.WAIT:
                    await anyio.sleep(GRACE)
                    decision = await self._decide(mod, saved, patient=False)
                if decision is Decision.RELOAD:
                    was_idle = False
                    await self._reload(mod)
        except Exception:
            logger.exception("mod %s: what was saved could not be acted upon", mod.mod_id)
        finally:
            mod.is_busy = False

    async def _decide(self, mod: _Watched, saved: bool, *, patient: bool = True) -> Decision:
        mod.saved.clear()
        mod.to_look = False
        watched = mod.seen.watched
        await mod.look(self._registry.own_folders)
        if mod.seen.watched != watched:  # a folder has come, or gone
            self.noticed()
        seen, is_up = mod.seen, mod.is_up
        if is_up and seen.digests == mod.running:
            mod.forget_failure()
        return decide(mod.running, mod.tried, seen.digests, seen.hoped, is_up=is_up, saved=saved, patient=patient)

    async def _reload(self, mod: _Watched) -> None:
        await self._slow_down(mod)
        files = mod.differing()
        mod.before, began = mod.seen.digests, time.time()
        tried = {**mod.seen.digests, **mod.seen.hoped}
        try:
            response = await self._commands.reload(mod.mod_id)
            mod.learn()
        finally:
            mod.before = None
        if response.success:
            logger.debug("mod %s was reloaded after a save of %s", mod.mod_id, ", ".join(files) or "its files")
        elif response.error in _NOT_OURS:
            return
        elif response.data.get("step") in _GOES_BY:
            self._tasks.start_soon(self._try_again, mod)
        else:
            await self._failed(mod, tried, began, response)
        if response.success or response.message != mod.last_told:
            mod.last_told = None if response.success else response.message
            self._tell(Saved(mod.mod_id, files, response))

    async def _failed(self, mod: _Watched, tried: Digests, began: float, response: EventResponse) -> None:
        """Note with what it failed, and look out for what may mend it: files it has read, modules it has not found."""
        mod.read |= set(files_read(response.data))
        mod.tried, mod.may_miss = tried, True
        await mod.look(self._registry.own_folders)
        # A file of the package that has come meanwhile is not among these: it was not there when the reload began.
        read = {path: found for path, found in mod.seen.digests.items() if path in mod.read}
        others = {path: found for path, found in {**read, **mod.seen.hoped}.items() if path not in tried}
        noted = await anyio.to_thread.run_sync(unsure, others, began)
        mod.tried = {**tried, **noted}
        mod.to_look = mod.to_look or noted != others
        self.noticed()

    async def _try_again(self, mod: _Watched) -> None:
        await anyio.sleep(AGAIN)
        self._act_on(mod, look=True)

    async def _slow_down(self, mod: _Watched) -> None:
        now, (count, seconds) = asyncio.get_running_loop().time(), FLURRY
        if len(mod.reloads) == count and now - mod.reloads[0] < seconds:
            logger.warning("mod %s was saved %d times in %.1f s; does it write its own files?",
                           mod.mod_id, count, now - mod.reloads[0])  # fmt: skip
            await anyio.sleep(seconds)
        mod.reloads.append(now)
