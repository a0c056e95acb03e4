"""How a peer is asked: the numbers of the plan as JSON on standard input, the figures as JSON on standard output."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from dataclasses import fields

from ..plan import Plan


def answer(measure: Callable[[Plan], dict[str, float]]) -> None:
    """Measure as asked. All that the peer itself prints goes to standard error."""
    with os.fdopen(os.dup(1), "w") as out:
        os.dup2(2, 1)
        asked = json.load(sys.stdin)
        figures = measure(Plan(**{field.name: asked[field.name] for field in fields(Plan) if field.name in asked}))
        json.dump(figures, out)
