"""Decide what the processes of a mod may reach, and which processes may use the operator's socket.

`ipc.cell` is what it orders, `worker.cell` is what confines the process.

May import: `limits`, `process`, `config`, `ipc`.
Never: knows events or states of a mod.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..faces import lazily

if TYPE_CHECKING:
    from .authors import check_author, may_be_run, without_authors
    from .means import examine_sandboxes
    from .peers import Peers
    from .profile import cell_of, hidden_paths, sandbox_of, secret_files, spare_cell
    from .relay import OnRefused, Relay, proxy_environment
    from .uids import Uids, belongs_to, check_code, give_once
else:  # hidden from type checkers, which would take any name for one of the room
    __getattr__ = lazily(
        __name__,
        authors="check_author may_be_run without_authors",
        means="examine_sandboxes",
        peers="Peers",
        profile="cell_of hidden_paths sandbox_of secret_files spare_cell",
        relay="OnRefused Relay proxy_environment",
        uids="Uids belongs_to check_code give_once",
    )
