"""Play the session and write the recordings.

python -m tests.recorded [FOLDER]      into the folder of the recordings, unless another is named
"""

from __future__ import annotations

import asyncio
import logging
import sys
import tempfile
from pathlib import Path

from . import recording


def main() -> None:
    logging.getLogger("modvisor").setLevel(logging.CRITICAL)  # that mods crash is meant
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else recording.FOLDER
    for name, play in recording.PLAYS.items():
        with tempfile.TemporaryDirectory(prefix="rec-") as base:
            for kind, lines in asyncio.run(play(Path(base).resolve())).items():
                recording.write(target / f"{kind}.jsonl", lines)
                print(f"{name}: {len(lines)} lines in {target / kind}.jsonl")


if __name__ == "__main__":
    main()
