"""What the cell of a worker means for its start: what its `load` says of it, and why it fails."""

from __future__ import annotations

from typing import Any

from ...ipc.cell import OWN_NAMESPACE, USER, Cell
from ...ipc.errors import Code, ModvisorError
from ..process import WorkerProcess
from .start_order import StartFailed


def for_process(params: dict[str, Any], cell: Cell | None, process: WorkerProcess) -> dict[str, Any]:
    """Return the parameters of `load` for a process, of which some depend on how it was started."""
    limits = dict(params["limits"])
    if process.cell.get(USER) != OWN_NAMESPACE:  # RLIMIT_NPROC would count others of this user
        limits["tasks"] = None
    more = {"cell": cell.to_list()} if process.is_forked and cell is not None else {}
    return {**params, "limits": limits, **more}


def not_started(mod_id: str, error: BaseException) -> BaseException:
    """Return the failure of a launch as one that names the mod; what is no failure stays what it is."""
    if isinstance(error, OSError):
        return StartFailed(f"mod {mod_id}: no worker could be started: {error}").for_want(error)
    if isinstance(error, ModvisorError):
        return StartFailed(f"mod {mod_id}: {explained(error)}", code=error.code)
    return error


def explained(error: ModvisorError) -> str:
    """Return the text of an error; of a cell that cannot be enforced with what to do."""
    if error.code != Code.NOT_CONFINED:
        return str(error)
    return (
        f"this host cannot enforce its sandbox: {error}; see 'modvisor doctor', or say 'sandbox_fallback: warn' to load "
        "it with what can be enforced"
    )
