"""Measure coverage in every process of the tests. Imported by Python itself where this folder is on PYTHONPATH.

`make coverage` puts it there. Workers inherit the variable, so the guardian measures from its start, and what it forks goes
on under a name of its own: ``patch`` in pyproject.toml names what coverage hooks into, forks and os._exit. A worker saves
what it measured in its exit handlers. Processes that are killed tell nothing. The product knows nothing of all this.
"""

from pathlib import Path

import coverage

ROOT = Path(__file__).resolve().parents[2]

coverage.Coverage(
    data_file=str(ROOT / "build" / "coverage" / "data"),
    config_file=str(ROOT / "pyproject.toml"),
    auto_data=True,
    messages=False,
).start()
