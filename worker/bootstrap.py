"""``python bootstrap.py modvisor.worker MSGPACK FD LIFELINE DUMP``: a worker without installation.

Run by its path, under a mod's own interpreter. It finds ipc, mods and worker beside itself, as they
are installed for the network. It finds msgpack in the folder MSGPACK if the interpreter has none of
its own. (msgpack's C extension fits one Python only; its pure part fits all.) The worker sees
nothing else of the network's environment.
"""

import os
import runpy
import sys
from importlib.machinery import PathFinder
from importlib.util import find_spec, spec_from_file_location

HOUSE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
FLOORS = ("ipc", "mods", "worker")


class House:
    """Finds ``modvisor`` and its floors here, whatever the interpreter has installed."""

    @staticmethod
    def find_spec(fullname, _path=None, _target=None):
        if fullname == "modvisor":  # its face alone: the search finds nothing below it but the floors
            face = os.path.join(HOUSE, "modvisor", "__init__.py")
            if not os.path.exists(face):  # installed, not a checkout: the house is the package itself
                face = os.path.join(HOUSE, "__init__.py")
            spec = spec_from_file_location(fullname, face)
            assert spec is not None
            spec.submodule_search_locations = []
            return spec
        package, _, name = fullname.partition(".")
        if package != "modvisor" or name not in FLOORS:
            return None
        folder = os.path.join(HOUSE, name)
        return spec_from_file_location(
            fullname, os.path.join(folder, "__init__.py"), submodule_search_locations=[folder]
        )


class Msgpack:
    """Finds the network's msgpack; asked last."""

    def __init__(self, folder):
        self._folder = folder

    def find_spec(self, fullname, _path=None, _target=None):
        return PathFinder.find_spec(fullname, [self._folder]) if fullname == "msgpack" else None


def main():
    if len(sys.argv) != 6 or sys.argv[1] != "modvisor.worker":
        sys.exit("usage: python bootstrap.py modvisor.worker MSGPACK FD LIFELINE DUMP   (started by modvisor)")
    sys.meta_path.insert(0, House)
    if find_spec("msgpack") is None:
        sys.meta_path.append(Msgpack(sys.argv[2]))
    sys.argv[1:] = sys.argv[3:]
    runpy.run_module("modvisor.worker", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
