"""The order for one worker of a mod, and the failure of its start."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ...ipc.cell import Cell
from ...ipc.errors import Code, ModvisorError
from ...ipc.spinning import Spinner
from ..calls import Traces
from ..cell import OnRefused
from ..config import ModConfig, RelayConfig
from ..limits import LimitsInForce
from ..process import Interpreter, Program, is_shortage
from ..sources import Home
from .spares import Spare

if TYPE_CHECKING:
    from ..process import Leases


class StartFailed(ModvisorError):
    """A worker did not come to serve. ``details``: where, traceback, log (its last lines).

    Attributes:
        starved: the supervisor, or the machine, had no descriptors, processes or memory left. That is
            not the mod's fault.
    """

    code = Code.START_FAILED
    starved = False

    @property
    def is_for_want(self) -> bool:
        """Whether something was away that the mod cannot help: a shortage, or the servers that have its checkpoint."""
        return self.starved or self.code == Code.CLUSTER_DOWN

    def for_want(self, error: BaseException) -> StartFailed:
        """Note whether ``error``, which this failure comes from, is a shortage."""
        self.starved = is_shortage(error)
        return self


@dataclass(frozen=True, slots=True)
class StartOrder:
    """All that a worker must know to become a mod.

    Attributes:
        config: the mod that the worker becomes, completed by the mod.yaml in its ``home``.
        params: parameters of the `load` request, see ``docs/protocol.md``.
        limits_in_force: the limits, ready for the process.
        python: the interpreter that the worker runs under; None: the network's own.
        spinner: spins for the worker's answers; None: its answers wake the loop.
        traces: what it leaves on disk in case that it dies, or the supervisor.
        spare: the process that is to become the worker; None: one is started.
        cell: what the worker is confined to.
        relay: bounds of the relay by which it reaches its hosts.
        on_refused: called with mod, host and reason when the relay refuses a host.
        told: what was said already of cells that this host does not enforce.
        lease: what the worker lives by; None: it runs as long as it is wanted.
    """

    config: ModConfig
    number: int
    params: dict[str, Any]
    limits_in_force: LimitsInForce
    home: Home
    python: Interpreter | Program | None = None
    spinner: Spinner | None = None
    traces: Traces | None = None
    spare: Spare | None = None
    cell: Cell | None = None
    relay: RelayConfig = field(default_factory=RelayConfig)
    on_refused: OnRefused = lambda _mod_id, _where, _why: None
    told: set[str] = field(default_factory=set)
    lease: Leases | None = None

    @property
    def mod_id(self) -> str:
        return self.config.mod_id

    @property
    def timeout(self) -> float:
        """Seconds allowed from launch to ready."""
        return self.config.limits.start_timeout
