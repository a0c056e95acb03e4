"""Run a benchmark on the event loop of `modvisor run`, and with the turns that it asks for."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from modvisor.supervisor.clock import new_loop
from modvisor.supervisor.limits import favour_events
from modvisor.supervisor.runtime import share_interpreter

T = TypeVar("T")


def run(main: Coroutine[Any, Any, T]) -> T:
    share_interpreter()
    favour_events()
    with asyncio.Runner(loop_factory=new_loop) as runner:
        return runner.run(main)
