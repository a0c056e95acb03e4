"""``python -m tests.cell.bare UID``: the attacks without any network around them, from a process of the same user.

What they get here shows that they work.
"""

from __future__ import annotations

import json
import os
import sys

from .as_user import become
from .mods.attacker import files, kernel, processes, sockets
from .mods.attacker.ways import ATTACKS, all_tried

_FOLDERS = (files, kernel, processes, sockets)

if __name__ == "__main__":
    if int(sys.argv[1]) != os.geteuid():
        become(int(sys.argv[1]))
    asked = json.load(sys.stdin)
    print(json.dumps(all_tried(asked["known"], [name for name in asked["names"] if name in ATTACKS])))
