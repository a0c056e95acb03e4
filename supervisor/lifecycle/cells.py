"""What the cell of a worker means for its start: what its `load` says of it, and why it fails."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from ...ipc.cell import OFF, OWN_NAMESPACE, USER, Cell, missing
from ...ipc.errors import Code, ModvisorError
from ..cell import Relay
from ..process import WorkerProcess
from .start_order import StartFailed, StartOrder

logger = logging.getLogger("modvisor.cell")


def for_process(params: dict[str, Any], cell: Cell | None, process: WorkerProcess) -> dict[str, Any]:
    """Return the parameters of `load` for a process, of which some depend on how it was started."""
    limits = dict(params["limits"])
    if process.cell.get(USER) != OWN_NAMESPACE:  # RLIMIT_NPROC would count others of this user
        limits["tasks"] = None
    more = {"cell": cell.to_list()} if process.is_forked and cell is not None else {}
    return {**params, "limits": limits, **more}


def relay_for(order: StartOrder, process: WorkerProcess) -> Relay | None:
    """Open the way to the hosts of the mod, until the process ends. None: it has none, or needs none."""
    if process.relay_socket is None or order.cell is None:
        return None
    relay = Relay(order.mod_id, process.relay_socket, order.cell.network or (), order.relay, order.on_refused)
    process.exited.add_done_callback(lambda _exit: relay.close())
    return relay


def tell_gaps(mod_id: str, cell: Cell | None, report: Mapping[str, str], told: set[str]) -> None:
    """Warn of parts of a cell that this host does not enforce; of a cell that nobody asked for, once.

    Args:
        told: what was said in this run of the network already.
    """
    if cell is None or not (gaps := missing(report)):
        return
    text = "; ".join(f"{part}: {why}" for part, why in gaps.items())
    if text not in told:
        told.add(text)
        logger.warning(
            "mod %s: this host does not enforce all of its sandbox '%s' (%s); see 'modvisor doctor'",
            mod_id, cell.profile, text,
        )  # fmt: skip


def not_started(mod_id: str, error: BaseException) -> BaseException:
    """Return the failure of a launch as one that names the mod; what is no failure stays what it is."""
    if isinstance(error, OSError):
        return StartFailed(f"mod {mod_id}: no worker could be started: {error}").for_want(error)
    if isinstance(error, ModvisorError):
        return StartFailed(f"mod {mod_id}: {explained(error)}", code=error.code)
    return error


def sandbox_stats(cell: Cell | None, report: Mapping[str, str]) -> dict[str, Any]:
    """Return what confines a process: the profile, the means of each part, and the parts that are not enforced."""
    gaps = missing(report)
    means = {part: each for part, each in report.items() if part not in gaps}
    return {"profile": OFF if cell is None else cell.profile, "enforced_by": means, "not_enforced": gaps}


def explained(error: ModvisorError) -> str:
    """Return the text of an error; of a cell that cannot be enforced with what to do."""
    if error.code != Code.NOT_CONFINED:
        return str(error)
    return (
        f"this host cannot enforce its sandbox: {error}; see 'modvisor doctor', or say 'sandbox_fallback: warn' to load "
        "it with what can be enforced"
    )
