"""``python -m tests.cell.bare``: the attacks without any network around them, from a process of the same user.

What they get here shows that they work.
"""

from __future__ import annotations

import json
import sys

from .mods.attacker import files, kernel, processes, sockets
from .mods.attacker.ways import ATTACKS, all_tried

_FOLDERS = (files, kernel, processes, sockets)

if __name__ == "__main__":
    asked = json.load(sys.stdin)
    print(json.dumps(all_tried(asked["known"], [name for name in asked["names"] if name in ATTACKS])))
