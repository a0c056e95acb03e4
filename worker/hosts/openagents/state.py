"""What a mod holds, carried to its next incarnation as bytes.

OpenAgents never reloads a mod, so its mods keep much in their attributes and few can give it away.
A class with a `get_state` and a `set_state` or `load_state` of its own is asked. Of any other mod
the attributes that have *changed since initialize()* are pickled: what still is as initialize()
left it comes anew from the new code and config, so that an edit of them is not undone by the old
value.

All attributes are pickled together, because they may share objects. What belongs to the process
and not to the state (a task, a lock, a loop, the mod and its network) is replaced by the one of the
new process, wherever it stands. An attribute that cannot be pickled all the same stays as
initialised, and the mod's log says so.

Only a worker unpickles, and only what its predecessor pickled: to the network it is bytes. Unpickling
can run any code, so a state is worth as much trust as the mod that gave it.
"""

from __future__ import annotations

import asyncio
import io
import pickle
import shutil
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

FORMAT = 1
"""Of the state; one of another format is refused."""

# Of their BaseMod: config, handlers and network come anew with each incarnation.
_OF_THE_BASE = frozenset({"_mod_name", "_network", "_config", "_event_handlers", "_workspace_manager"})

_LOCKS = (asyncio.Lock, asyncio.Condition, asyncio.Event)
_THREAD_LOCKS = (type(threading.Lock()), type(threading.RLock()))
_OF_A_PROCESS = (asyncio.Future, asyncio.AbstractEventLoop, asyncio.Handle, threading.Thread, TemporaryDirectory)

_PARTS = ("workspace_manager", "topology", "event_gateway")


class StateRefused(Exception):
    """A state that this mod cannot take."""


class Baseline:
    """The attributes of a mod as initialize() left them, as digests."""

    def __init__(self, mod: Any) -> None:
        self._digests = {name: _digest(mod, value) for name, value in _attributes(mod).items()}

    def changed(self, mod: Any) -> dict[str, Any]:
        """Return the attributes that are not as they were."""
        digests = self._digests
        return {
            name: value
            for name, value in _attributes(mod).items()
            if name not in digests or digests[name] is None or _digest(mod, value) != digests[name]
        }


def gives_its_own(mod: Any, base: Any) -> bool:
    """Return whether the class of ``mod`` gives and takes a state of its own.

    Args:
        base: the framework's base class, whose own `get_state` says nothing.
    """
    return _setter(mod) is not None and type(mod).get_state is not base.get_state


def own_state(mod: Any, given: Any) -> dict[str, Any]:
    """Return what the mod's own `get_state` has given, as plain data."""
    return {"format": FORMAT, "own": pack(mod, given)}


def state_of(mod: Any, baseline: Baseline, report: Callable[[str], None]) -> dict[str, Any]:
    """Return the attributes of ``mod`` that have changed, as plain data.

    Args:
        report: told of each attribute that is left out, with the reason.
    """
    attributes = baseline.changed(mod)
    folders = {name: value.name for name, value in vars(mod).items() if isinstance(value, TemporaryDirectory)}
    return {"format": FORMAT, "attributes": _pack_all(mod, attributes, report), "folders": folders}


def is_known(state: Any) -> bool:
    """Return whether a state was made here; one of a mod of another kind was not."""
    return isinstance(state, Mapping) and state.get("format") == FORMAT


def take_state(mod: Any, state: Any) -> Any:
    """Give ``mod`` a state of the functions above, or one that its own setter can take.

    Returns what the setter returns, perhaps a coroutine.

    Raises:
        StateRefused: the state is of another kind of mod, or holds what this code does not know.
    """
    setter = _setter(mod)
    if not is_known(state):
        if setter is None:
            raise StateRefused("the state is not one of a mod of OpenAgents, and the mod has no set_state() to take it")
        return setter(state)
    if "own" in state:
        if setter is None:
            raise StateRefused(
                "the state comes from a get_state() of the mod's own, and it has no set_state() any more"
            )
        return setter(unpack(mod, state["own"]))
    vars(mod).update(unpack(mod, state["attributes"]))
    _copy_folders(mod, state.get("folders", {}))
    return None


def _setter(mod: Any) -> Callable[[Any], Any] | None:
    """Return what takes a state that the mod's own `get_state` has returned, if the class has it."""
    for name in ("set_state", "load_state"):
        method = getattr(mod, name, None)
        if callable(method):
            return method
    return None


def _attributes(mod: Any) -> dict[str, Any]:
    return {
        name: value
        for name, value in vars(mod).items()
        if name not in _OF_THE_BASE and not isinstance(value, (*_LOCKS, *_THREAD_LOCKS, *_OF_A_PROCESS))
    }


def _digest(mod: Any, value: Any) -> bytes | None:
    """Return a digest of what ``value`` is now; None if it cannot be pickled."""
    try:
        return blake2b(pack(mod, value), digest_size=16).digest()
    except Exception:  # noqa: BLE001 - pickling runs the code of its classes
        return None


def _pack_all(mod: Any, attributes: dict[str, Any], report: Callable[[str], None]) -> bytes:
    try:
        return pack(mod, attributes)
    except Exception:  # noqa: BLE001 - pickling runs the code of its classes
        kept = {}
        for name, value in attributes.items():
            try:
                pack(mod, value)
            except Exception as error:  # noqa: BLE001 - pickling runs the code of its classes
                report(f"attribute {name} is not handed over: {type(error).__name__}: {error}")
            else:
                kept[name] = value
        return pack(mod, kept)


def _copy_folders(mod: Any, folders: Mapping[str, str]) -> None:
    """Copy the files of the predecessor's temporary folders, which end with it, into those of ``mod``."""
    for name, folder in folders.items():
        ours = getattr(mod, name, None)
        if isinstance(ours, TemporaryDirectory) and Path(folder).is_dir() and folder != ours.name:
            with suppress(OSError, shutil.Error):
                shutil.copytree(folder, ours.name, dirs_exist_ok=True)


# -- pickling


def pack(mod: Any, value: Any) -> bytes:
    """Pickle ``value``, in which ``mod`` and its network stand for themselves."""
    buffer = io.BytesIO()
    _Pickler(buffer, mod).dump(value)
    return buffer.getvalue()


def unpack(mod: Any, data: bytes) -> Any:
    """Return what was pickled, with ``mod`` and its network in their places. Raises `StateRefused`."""
    try:
        return _Unpickler(io.BytesIO(data), mod).load()
    except Exception as error:  # unpickling runs the code of its classes
        raise StateRefused(
            f"the state cannot be read by the new code ({type(error).__name__}: {error}); "
            "unload the mod and load it again to start without it"
        ) from error


class _Pickler(pickle.Pickler):
    def __init__(self, file: io.BytesIO, mod: Any) -> None:
        super().__init__(file, protocol=5)
        self._places = {id(value): name for name, value in _places(mod).items()}

    def persistent_id(self, obj: Any) -> Any:
        return self._places.get(id(obj))

    def reducer_override(self, obj: Any) -> Any:
        if isinstance(obj, asyncio.Event):
            return _event, (obj.is_set(),)
        if isinstance(obj, _LOCKS):
            return type(obj), ()
        if isinstance(obj, _THREAD_LOCKS):
            return threading.Lock if isinstance(obj, _THREAD_LOCKS[0]) else threading.RLock, ()
        if isinstance(obj, asyncio.AbstractEventLoop):
            return asyncio.get_running_loop, ()
        if isinstance(obj, _OF_A_PROCESS):
            return _nothing, ()
        return NotImplemented


class _Unpickler(pickle.Unpickler):
    def __init__(self, file: io.BytesIO, mod: Any) -> None:
        super().__init__(file)
        self._places = _places(mod)

    def persistent_load(self, pid: Any) -> Any:
        return self._places[pid]


def _places(mod: Any) -> dict[str, Any]:
    """Return what each incarnation has of its own, by a name that means the same in all of them."""
    network = mod.network
    return {"mod": mod, "network": network, **{name: getattr(network, name) for name in _PARTS}}


def _nothing() -> None:
    """Stands for what has ended with the process that it belonged to."""


def _event(is_set: bool) -> asyncio.Event:
    event = asyncio.Event()
    if is_set:
        event.set()
    return event
