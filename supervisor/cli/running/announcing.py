"""How a network that was started in the background tells its starter that it is ready.

The starter passes the write end of a pipe, whose number stands in the environment. The network
writes its line of `ready` there. If the network ends before, the pipe ends without a line.
"""

from __future__ import annotations

import json
import os
from contextlib import suppress
from typing import Any

VARIABLE = "MODVISOR_READY_PIPE"


def take_pipe() -> int | None:
    """Take the pipe out of the environment: workers must neither know nor inherit it."""
    text = os.environ.pop(VARIABLE, "")
    if not (text.isascii() and text.isdigit()):
        return None
    try:
        os.set_inheritable(int(text), False)
    except OSError:  # nobody has passed it
        return None
    return int(text)


def announce(pipe: int, ready: dict[str, Any]) -> None:
    """Write what is ready, and close the pipe."""
    with suppress(OSError):  # the starter did not wait
        os.write(pipe, json.dumps(ready).encode())
    with suppress(OSError):
        os.close(pipe)
