"""Who did what, when, from where, with which outcome: lines that nobody can change unseen.

May import: `config`, `journal`, `ipc`.
Never: knows who may do what, or what a command does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..faces import lazily

if TYPE_CHECKING:
    from .actors import Actor, acting, actor
    from .audit import Audit, NotAudited
    from .chain import Head
    from .key import NoKey, read_key
    from .reading import newest
    from .records import told_time
    from .verifying import verify
else:  # hidden from type checkers, which would take any name for one of the room
    __getattr__ = lazily(
        __name__,
        actors="Actor acting actor",
        audit="Audit NotAudited",
        chain="Head",
        key="NoKey read_key",
        reading="newest",
        records="told_time",
        verifying="verify",
    )
