"""``modvisor cluster import`` and ``export``: a network moves between one machine and a cluster, while none runs."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .....ipc.errors import ModvisorError
from ....journal import StateDir, StateDirBusy
from ...at_rest.audited import audited, newest_head
from ...client.wanted import want_file
from ...settings import Settings
from ...terminal.exits import CliError, ExitCode, mistakes
from ...terminal.output import Output, printable

if TYPE_CHECKING:
    from ....cluster.moving.moving import Moved
    from ....config import NetworkConfig

Storage = Annotated[
    Path,
    typer.Argument(
        metavar="STATE_DIR",
        help="The state directory of the network on one machine: its network.storage, by default .modvisor beside its file.",
    ),
]
Leave = Annotated[bool, typer.Option("--leave", help="Go on though something cannot move. It is named, and stays.")]


def import_state(
    settings: Settings,
    storage: Storage,
    leave: Leave = False,
    replace: Annotated[bool, typer.Option("--replace", help="Delete what the cluster holds of this network.")] = False,
) -> None:
    """Move what a network on one machine has left into the cluster: agents, mods, events, checkpoints.

    No node may run. The journal stays in STATE_DIR under another name. A move that was killed goes on when it is given again.
    """
    from ....cluster.moving.moving import import_state as move

    config = _config(settings)
    if not StateDir(storage).database.exists() and not storage.is_dir():
        raise CliError(ExitCode.FAILED, f"there is no state directory {storage}")
    moved = _moved(storage, config, "cluster.import", lambda state: move(config, state, replaces=replace, leaves=leave))
    _tell(settings, f"{storage} was moved into the cluster {_cluster(config)}", moved)


def export_state(settings: Settings, storage: Storage, leave: Leave = False) -> None:
    """Move what the cluster holds into STATE_DIR, for a network on one machine.

    No node may run, and none starts from then on, until the state is imported again.
    """
    from ....cluster.moving.moving import export_state as move

    config = _config(settings)
    moved = _moved(storage, config, "cluster.export", lambda state: move(config, state, leaves=leave))
    _tell(settings, f"the cluster {_cluster(config)} was moved to {storage}", moved)


def _config(settings: Settings) -> NetworkConfig:
    """Return what the network file says of the cluster. Raises `CliError`."""
    from ....config import ConfigError, load_config

    file = settings.network_file
    want_file(file)
    try:
        config = load_config(file)
    except ConfigError as error:
        raise CliError(ExitCode.BAD_CONFIG, mistakes(file, error)) from None
    if config.cluster is None:
        text = f"{file} has no 'cluster'; write the key into it, with the servers that the nodes use"
        raise CliError(ExitCode.BAD_CONFIG, text)
    return config


def _cluster(config: NetworkConfig) -> str:
    assert config.cluster is not None
    return config.cluster.network


def _moved(storage: Path, config: NetworkConfig, what: str, move: Callable[[StateDir], Awaitable[Moved]]) -> Moved:
    """Do it under the owner's lock, recorded in the audit of the state directory. Raises `CliError`."""
    state = StateDir(storage.absolute())
    try:
        state.acquire()
    except StateDirBusy as error:
        raise CliError(ExitCode.ALREADY_RUNNING, f"{error}; 'modvisor stop' stops it") from None
    except (ModvisorError, OSError) as error:
        raise CliError(ExitCode.FAILED, str(error)) from None
    try:
        return audited(
            state.root, config.audit, newest_head(state.database), lambda: move(state), what, str(state.root)
        )
    except (ModvisorError, OSError) as error:
        raise CliError(ExitCode.FAILED, str(error)) from None
    finally:
        state.release()


def _tell(settings: Settings, message: str, moved: Moved) -> None:
    data: dict[str, Any] = {"moved": moved.counts, "left": moved.left}
    output = Output(as_json=settings.json)
    counts = ", ".join(f"{count} {name}" for name, count in moved.counts.items()) or "nothing"
    document = {"success": True, "message": message, "data": data}
    output.document(document, lambda: print(printable(f"{message}: {counts}")))
    for text in moved.left:
        output.note(f"not moved: {text}")
