"""A network's figures in the words of Prometheus: which metrics there are, and their text.

May import: the rooms below it and `ipc`.
Never: counts anything itself, and never speaks HTTP. `exposition` alone imports prometheus_client.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..faces import lazily

if TYPE_CHECKING:
    from .exposition import rendered, rendered_nodes
    from .families import FAMILIES, Family
    from .figures import Figures, figures_of
    from .series import Series, series_of
else:  # hidden from type checkers, which would take any name for one of the room
    __getattr__ = lazily(
        __name__,
        exposition="rendered rendered_nodes",
        families="FAMILIES Family",
        figures="Figures figures_of",
        series="Series series_of",
    )
