"""What `multiprocessing` runs first in a process that a mod has started with spawn or forkserver.

Such a process imports the mod's modules anew, to find the functions that it is to call. They are
found there as in the worker. Run by its path, perhaps under a mod's own interpreter.
"""

import json
import os
import sys
from importlib import import_module
from importlib.util import find_spec, module_from_spec, spec_from_file_location

VARIABLE = "MODVISOR_MOD"
"""The environment variable that names, as JSON, the mod's package, its folder, and that of msgpack."""


def find_the_mod(package, folder, msgpack):
    """Let this process import the mod's package, and `modvisor` as its worker does."""
    if find_spec("modvisor") is None or find_spec("msgpack") is None:
        spec = spec_from_file_location("bootstrap", os.path.join(os.path.dirname(__file__), "bootstrap.py"))
        assert spec is not None
        assert spec.loader is not None
        bootstrap = module_from_spec(spec)
        spec.loader.exec_module(bootstrap)
        sys.meta_path.insert(0, bootstrap.House)
        sys.meta_path.append(bootstrap.Msgpack(msgpack))
    sources = import_module("modvisor.worker.sources")  # not before it can be found
    sources.Sources(package, folder).install()


if __name__ == "__mp_main__" and VARIABLE in os.environ:
    find_the_mod(*json.loads(os.environ[VARIABLE]))
