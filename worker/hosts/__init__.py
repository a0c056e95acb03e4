"""What kind of mod a worker runs: a mod of modvisor, or of another framework that its worker imports.

A mod is recognised by its class alone. A framework is imported only by its own mods and by the room
that hosts them, which is imported when such a class was found: a worker of our mods knows nothing of
it. May import: `mods`, `ipc`.
"""

from .choosing import WrongChoice, chosen
from .host import Host, Kind, LoadFailed, Place
from .kinds import is_mod_class, kind_of

__all__ = ["Host", "Kind", "LoadFailed", "Place", "WrongChoice", "chosen", "is_mod_class", "kind_of"]
