"""The newest resource samples of the workers' processes.

Sampling runs in a thread, all workers at once. Reading a sample touches memory only.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType

import anyio.to_thread

from ...limits import ProcessSample, make_sampler

logger = logging.getLogger("modvisor.stats")


class ResourceMonitor:
    """Keeps the newest sample of each worker. The watchdog takes samples, and so does a caller
    that asks for fresh figures.

    Args:
        pids: returns the pids of the workers that run now.
    """

    def __init__(self, pids: Callable[[], list[int]]) -> None:
        self._pids = pids
        self._sampler = make_sampler()
        self._sampling = threading.Lock()  # the watchdog and a caller take turns
        self._samples: dict[int, ProcessSample] = {}

    async def sample(self) -> None:
        """Take one sample of every worker now."""
        pids = [*self._pids(), os.getpid()]
        try:
            await anyio.to_thread.run_sync(lambda: self.take(pids, thorough=True))
        except OSError as error:  # for example out of descriptors: the last samples stay
            logger.warning("no resource samples this time: %s", error)

    def take(
        self,
        pids: Iterable[int],
        members: Mapping[int, Iterable[int]] = MappingProxyType({}),
        *,
        thorough: bool = False,
    ) -> Mapping[int, ProcessSample]:
        """Sample the trees of ``pids``, and this process alone; see `Sampler.sample`.

        Any thread may call it."""
        with self._sampling:
            own = os.getpid()
            self._samples = self._sampler.sample([*pids, own], members, alone=own, thorough=thorough)
            return self._samples

    def of(self, pid: int) -> ProcessSample | None:
        """Return the newest sample of a worker; None before the first one."""
        return self._samples.get(pid)
