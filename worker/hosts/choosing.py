"""Which of several mod classes in one file is the mod, as far as OpenAgents says that exactly.

Exact is what the author has written down: ``default_mod_class`` in the module, or
``network_mod_class`` in a ``mod_manifest.json`` or ``manifest.json`` beside it. Exact is also a name
that OpenAgents' loaders look for, if only one class has such a name. They take the first one else,
or the first class in alphabetical order. That would be a guess, so there is no choice here.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

from .kinds import base_of, is_ours

DECLARED = "default_mod_class"
IN_MANIFEST = "network_mod_class"
MANIFESTS = ("mod_manifest.json", "manifest.json")


class WrongChoice(Exception):
    """What the author has written down names no mod class."""


def chosen(candidates: Sequence[type], module: ModuleType, name: str) -> type | None:
    """Return the class that the author means; None if nothing says it.

    Args:
        candidates: the mod classes of the module.
        name: the last part of the mod's path.

    Raises:
        WrongChoice: what is written down names none of them.
    """
    theirs = [cls for cls in candidates if not is_ours(cls)]
    if not theirs:
        return None
    for place, said in _written_down(module):
        found = said if isinstance(said, type) else getattr(module, str(said), None)
        if not isinstance(found, type) or base_of(found) is None:
            names = ", ".join(cls.__qualname__ for cls in candidates)
            raise WrongChoice(f"{place} names {said!r}, which is no mod class of the file; it has {names}")
        return found
    title = name.title().replace("_", "").replace("-", "")
    looked_for = {"NetworkMod", f"{title}NetworkMod", f"{title}Mod", "Mod"}
    named = [cls for cls in theirs if cls.__name__ in looked_for]
    return named[0] if len(named) == 1 else None


def _written_down(module: ModuleType) -> list[tuple[str, object]]:
    found: list[tuple[str, object]] = []
    if (said := vars(module).get(DECLARED)) is not None:
        found.append((f"{DECLARED} in {module.__name__}", said))
    for file in MANIFESTS if getattr(module, "__file__", None) else ():
        path = Path(str(module.__file__)).with_name(file)
        if (said := _manifest(path).get(IN_MANIFEST)) is not None:
            found.append((f"{IN_MANIFEST} in {path}", said))
    return found


def _manifest(path: Path) -> dict[str, object]:
    try:
        manifest = json.loads(path.read_bytes())
    except OSError:
        return {}
    except ValueError as error:
        raise WrongChoice(f"{path} is not JSON: {error}") from None
    return manifest if isinstance(manifest, dict) else {}
