"""End a run under load: print and write its result, and set the exit status."""

from __future__ import annotations

import json
import os
import platform
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, NoReturn


def machine() -> str:
    """Return what the figures depend on."""
    return f"Python {platform.python_version()}, {platform.system()} {platform.machine()}, {os.cpu_count()} cores"


def finish(summary: Any, lines: Callable[[Any], list[str]], file: Path | None) -> NoReturn:
    """Print the `lines` of a summary, write it to `file`, and exit with 1 if it has `problems`."""
    print("\n".join([machine(), *lines(summary)]))
    if file is not None:
        file.write_text(json.dumps({"machine": machine(), **asdict(summary)}, indent=1) + "\n")
    sys.exit(bool(summary.problems))
