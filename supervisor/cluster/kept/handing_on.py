"""Gives what is kept of a mod, its files too, to the mod that takes its place under another id: a swap.

In memory this is done at once, so that the successor answers the events. It is written down when the
swap is recorded (`permit`), in atomic batches: each puts some events below the successor's subject and
takes them away below the former one. A batch goes through only while this node holds both mods. What the
successor writes itself waits until all is written down. If the node dies before the swap is recorded,
nothing has changed; if it dies in the middle, the next node finishes this (`swapping`).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from functools import partial

from ....ipc.errors import Code, ModvisorError
from ..link.errors import ClusterError
from .batches import EVENTS_AT_ONCE, batches, store_together
from .fenced import GONE, TTL, Conflict, Put, Write
from .heads import Head, checkpoint_name, newest_checkpoint
from .mod_log import FORMERS, Kept, ModLog, name_of

logger = logging.getLogger("modvisor.cluster")

PAUSE = 0.1
"""Seconds between two tries to read what is to be given."""


class HandingOn:
    """Hands on, one after the other.

    Args:
        answer_age: seconds for which the answers of the former mod are kept.
    """

    def __init__(self, answer_age: float) -> None:
        self._answer_age = answer_age
        self._turn = asyncio.Lock()
        self._tasks: dict[asyncio.Task[None], ModLog] = {}  # each with what is given to
        self._failed: dict[ModLog, ModvisorError] = {}

    def begin(self, former: str, source: ModLog, worker: str, target: ModLog) -> None:
        """Give the events and the checkpoint of worker ``former`` to ``worker``, and write it down soon."""
        given, before = source.give(former, target, worker), source.fenced.waiting()
        source.checkpoint_files.pop(former, None)  # it is no longer the former mod's to remove
        target.checkpoint_files.pop(worker, None)
        files = source.give_files(target) if former == source.fenced.mod_id else []
        target.formers = [source.fenced.root, *(root for root in source.formers if root != target.fenced.root)]
        target.fenced.held += 1
        source.heirs[former] = partial(self.begin, former, source, worker, target)
        target.heirs.pop(worker, None)
        puts = [*self._formers(target)]
        self._end_former_ones(target)
        target.permits.setdefault(source, asyncio.Event())
        task = asyncio.get_running_loop().create_task(
            self._run((former, worker), source, target, given, before, puts, files)
        )
        self._tasks[task] = target
        task.add_done_callback(lambda done: self._ended(done, target))

    def _end_former_ones(self, target: ModLog) -> None:
        """End those that wait for an earlier swap for the same mod, which this node lost before it was recorded."""
        for task, each in self._tasks.items():
            if each is not target and each.fenced.mod_id == target.fenced.mod_id:
                task.cancel()

    def permit(self, target: ModLog) -> None:
        """Write down what a mod was given, and what it is given late: it has the place of the former one now."""
        for permit in target.permits.values():
            permit.set()

    async def give_up(self, source: ModLog, target: ModLog) -> None:
        """Write nothing down: the successor did not serve, and in memory all has been given back."""
        await _cancelled([task for task, log in self._tasks.items() if log in (source, target)])
        for log, other in ((source, target), (target, source)):
            log.heirs.clear()
            log.permits.pop(other, None)
            log.formers = [root for root in log.formers if root != other.fenced.root]

    async def done(self, target: ModLog) -> None:
        """Wait until all is written down that a mod was given.

        Raises:
            ModvisorError: mod_away: this node does not hold both mods any more.
        """
        while tasks := [task for task, log in self._tasks.items() if log is target]:
            await asyncio.wait(tasks)
        if (error := self._failed.pop(target, None)) is not None:
            raise error

    async def close(self, patience: float) -> None:
        """Write what is still to be written down, as long as that may take."""
        permitted = [task for task, log in self._tasks.items() if all(each.is_set() for each in log.permits.values())]
        if permitted:
            await asyncio.wait(permitted, timeout=patience)
        await _cancelled([*self._tasks])

    async def _run(
        self,
        workers: tuple[str, str],
        source: ModLog,
        target: ModLog,
        given: list[Kept],
        before: list[Write],
        puts: list[Put],
        files: list[Head],
    ) -> None:
        try:
            await target.permits[source].wait()
            async with self._turn, source.fenced.lock, target.fenced.lock:
                await source.fenced.catch_up(before)
                puts += await self._checkpoint(*workers, source, target)
                for begin in range(0, len(files), EVENTS_AT_ONCE):
                    some = files[begin : begin + EVENTS_AT_ONCE]
                    await store_together(source, [target], _moved_files(some, source, target))
                for batch in batches((_moved(kept, source, target) for kept in given), puts):
                    await store_together(source, [target], batch)
        except (ModvisorError, Conflict) as error:
            mod_id, name = target.fenced.mod_id, source.fenced.mod_id
            text = f"what is kept of mod {name} was not given to mod {mod_id}: another node has one of them by now"
            logger.warning("%s (%s)", text, error)
            self._failed[target] = ModvisorError(text, code=Code.MOD_AWAY)

    def _ended(self, task: asyncio.Task[None], target: ModLog) -> None:
        del self._tasks[task]
        target.fenced.release()

    @staticmethod
    async def _checkpoint(former: str, worker: str, source: ModLog, target: ModLog) -> list[Put]:
        while True:
            try:
                head = await newest_checkpoint(source.fenced, former)
                break
            except ClusterError as error:  # the batches are tried until they are stored, too
                logger.debug("%s; trying again", error)
                await asyncio.sleep(PAUSE)
        if head is None:
            return []
        given = target.fenced.put(checkpoint_name(worker), list(head._replace(mod_id=worker)))
        return [given, source.fenced.put(checkpoint_name(former), None)]

    def _formers(self, target: ModLog) -> Iterator[Put]:
        if self._answer_age >= 1:
            yield target.fenced.put(FORMERS, target.formers, {TTL: f"{int(self._answer_age)}s"})


async def _cancelled(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks)


def _moved_files(files: list[Head], source: ModLog, target: ModLog) -> list[Put]:
    given = [target.fenced.put(head.subject, list(head)) for head in files]
    return [*given, *(source.fenced.put(head.subject, None) for head in files)]


def _moved(kept: Kept, source: ModLog, target: ModLog) -> list[Put]:
    name = f"{name_of(kept.key)}.e"
    return [target.fenced.put(name, kept.body()), Put(f"{source.fenced.root}.{name}", b"", GONE)]
