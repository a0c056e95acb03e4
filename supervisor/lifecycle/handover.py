"""What passes between two incarnations of a mod at a reload, and how a reload ends: done or failed.

Each step names itself in its failure (`ReloadFailed`). The order of the steps is told in `reload`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from ...ipc import messages
from ...ipc.errors import Code, ModvisorError, PipeBroken, PipeClosed, Unserializable
from ...ipc.manifest import Manifest
from ...ipc.messages import pack
from ..process import shielded
from .incarnation import Incarnation, StartFailed

Handed = tuple[Any, str]
"""A state, and the version that it is of."""


class ReloadFailed(ModvisorError):
    """The reload did not happen, and the old incarnation serves.

    ``details``: step, and what the failure carried.
    """

    code = Code.START_FAILED

    @classmethod
    def at(cls, step: str, error: ModvisorError) -> ReloadFailed:
        """Make the failure of a step from its cause."""
        return cls(str(error), code=error.code, **{**error.details, "step": step})

    @classmethod
    def at_start(cls, error: StartFailed) -> ReloadFailed:
        """Make the failure of a worker that did not start."""
        return cls.at(_STEPS.get(error.code, "start"), error)


@dataclass(frozen=True, slots=True)
class Reloaded:
    """What a reload, restart or swap was like.

    Attributes:
        pause_ms: how long events waited; ``queued``: how many waited at the end of it.
        state_bytes: size of the state that was handed over.
        before, after: the versions.
        workers: how many were replaced, of a mod that has several.
    """

    pause_ms: float
    queued: int
    state_bytes: int
    before: str | None
    after: str | None
    workers: int | None = None

    @classmethod
    def from_down(cls, before: str | None, after: str | None) -> Reloaded:
        """Describe the start of a mod that was down: nothing waited, nothing was handed over."""
        return cls(0.0, 0, 0, before, after)

    def to_dict(self) -> dict[str, Any]:
        """Return what responses show; ``workers`` only for a mod that has several."""
        shown = {
            "pause_ms": self.pause_ms,
            "queued": self.queued,
            "state_bytes": self.state_bytes,
            "from": self.before,
            "to": self.after,
        }
        return shown if self.workers is None else {**shown, "workers": self.workers}


# -- steps


async def state_of(incarnation: Incarnation, timeout: float) -> Handed | None:
    """Ask an incarnation for the state of the mod, with `get_state`.

    Raises what the request raises, KeyError, TypeError.
    """
    handed = await incarnation.pipe.request(messages.GET_STATE, {}, timeout)
    return None if handed["state"] is None else (handed["state"], str(handed["version"]))


async def give(new: Incarnation, state: Handed | None) -> None:
    """Have the new incarnation take a state over with `set_state`. Raises `ReloadFailed`."""
    if state is not None:
        timeout = new.config.limits.start_timeout
        with failing_at("set_state", timeout):
            await new.pipe.request(messages.SET_STATE, {"state": state[0], "from_version": state[1]}, timeout)


async def activate(new: Incarnation, *, is_free: bool = True) -> None:
    """Activate the new incarnation, the last step before the switch.

    Raises `ReloadFailed`; it still runs then.

    Args:
        is_free: no old process holds what only one process may hold.
    """
    try:
        await new.activate(new.config.limits.start_timeout)
    except StartFailed as error:
        if error.code == Code.NOT_READY:
            raise ReloadFailed.at("ready", error) from None
        raise ReloadFailed.at("activate", error if is_free else _with_hint(error, _ACTIVATE)) from None


_ACTIVATE = (
    "the old process runs beside the new one; if activate() opens what only one process can hold, such as a port or "
    "a lock, give the mod a deactivate() that lets it go, or set 'reload: stop_first'"
)
_INITIALIZE = (
    "the old process runs beside the new one; open in activate() what only one process can hold, and let it go in "
    "deactivate(), or set 'reload: stop_first'"
)
_HELD = re.compile("already in use|locked|resource temporarily unavailable", re.IGNORECASE)


def beside(error: StartFailed) -> StartFailed:
    """Explain a start that failed for what the old process holds; any other error stays as it is."""
    is_held = error.code == Code.INITIALIZE_FAILED and _HELD.search(str(error)) is not None
    return _with_hint(error, _INITIALIZE) if is_held else error


def _with_hint(error: StartFailed, hint: str) -> StartFailed:
    return StartFailed(f"{error}; {hint}", code=error.code, **error.details)


async def rest(old: Incarnation, timeout: float) -> bool:
    """Deactivate the old incarnation, so that it lets go of what only one process may hold.

    Returns False, and does nothing, if the mod cannot be activated again afterwards.
    """
    if old.manifest is None or not old.manifest.resumable:
        return False
    try:
        await old.deactivate(timeout)
    except StartFailed as error:
        await resume(old, timeout)
        raise ReloadFailed.at("deactivate", error) from None
    except BaseException:
        await shielded(resume(old, timeout))
        raise
    return True


async def resume(old: Incarnation, timeout: float) -> None:
    """Activate the old incarnation again. If that fails, end it: it is restarted."""
    try:
        await old.activate(timeout)
    except StartFailed as error:
        old.fail(f"it could not be activated again after a reload that failed: {error}")


@contextmanager
def failing_at(step: str, timeout: float) -> Iterator[None]:
    """Raise what goes wrong inside as a reload that failed at ``step``."""
    try:
        yield
    except TimeoutError:
        raise ReloadFailed(f"{step} took more than {timeout:g} s", code=Code.TIMEOUT, step=step) from None
    except (PipeBroken, PipeClosed) as error:
        raise ReloadFailed(f"a worker ended during {step} ({error})", code=Code.MOD_CRASHED, step=step) from None
    except ModvisorError as error:
        raise ReloadFailed.at(step, error) from None
    except (KeyError, TypeError):
        raise ReloadFailed(f"{step} was not answered with a state", code=Code.PROTOCOL_ERROR, step=step) from None


def version_of(manifest: Manifest | None) -> str | None:
    """Return the version that a mod reported; None if it has not served yet."""
    return None if manifest is None else manifest.version


def size_of(state: Handed | None) -> int:
    """Return the bytes of msgpack that the hand-over took."""
    try:
        return 0 if state is None else len(pack(state[0]))
    except Unserializable:  # it travelled between workers, so this cannot be
        return 0


_STEPS: dict[str, str] = {
    Code.IMPORT_FAILED: "import",
    Code.NO_MOD_CLASS: "import",
    Code.AMBIGUOUS_MOD_CLASS: "import",
    Code.INVALID_MOD: "import",
    Code.INITIALIZE_FAILED: "initialize",
}
