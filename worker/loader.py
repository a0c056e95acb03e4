"""Find the one mod class that a mod_path means, or fail with the mod, the cause and the place."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from types import ModuleType
from typing import Any

from ..ipc.errors import Code
from .crash import describe
from .hosts import LoadFailed, WrongChoice, chosen, is_mod_class
from .sources import Sources, local_name


def sources_for(
    mod_path: str, folder: str | None, snapshot: dict[str, Any] | None = None, compiled: dict[str, Any] | None = None
) -> Sources:
    """Return the finder of the mod's own modules, not yet installed.

    Args:
        folder: the folder of the mod's package, if `sys.path` does not lead to it.
    """
    # The name of a folder counts in full, also if it is `mod`.
    package = local_name(mod_path) if mod_path.startswith("./") else mod_path.partition(":")[0].removesuffix(".mod")
    return Sources(package, folder, snapshot, compiled)


def find_mod_class(mod_path: str, sources: Sources) -> type:
    """Import what ``mod_path`` names and return its mod class.

    Raises:
        LoadFailed: import_failed, no_mod_class or ambiguous_mod_class.
    """
    module_name, _, class_name = mod_path.partition(":")
    if class_name:
        return _named_class(_import(module_name, mod_path, sources), class_name, mod_path, sources)
    module = _import(sources.package, mod_path, sources)
    if hasattr(module, "__path__"):  # a package: its `mod` module, or the package itself
        if _exists(f"{sources.package}.mod"):
            module = _import(f"{sources.package}.mod", mod_path, sources)
            if hasattr(module, "__path__") and _exists(f"{module.__name__}.mod"):  # a package that is named `mod`
                module = _import(f"{module.__name__}.mod", mod_path, sources)
        elif getattr(module, "__file__", None) is None:  # a folder without any code
            raise LoadFailed(
                f"{mod_path}: the folder {', '.join(module.__path__)} has neither mod.py nor __init__.py",
                code=Code.NO_MOD_CLASS,
            )
    return _only_class(module, sources, mod_path)


def _exists(fullname: str) -> bool:
    return importlib.util.find_spec(fullname) is not None


def _import(name: str, mod_path: str, sources: Sources) -> ModuleType:
    try:
        return importlib.import_module(name)
    except BaseException as error:  # noqa: BLE001 - importing runs the mod's code: anything may come
        if (
            isinstance(error, ModuleNotFoundError)
            and error.name
            and (name == error.name or name.startswith(error.name + "."))
        ):
            text = f"{mod_path}: no module named {error.name!r} on the mod's path ({_path_text()})"
            raise LoadFailed(text + _hint(error)) from None
        raise _import_failed(mod_path, error, sources) from None


def _import_failed(mod_path: str, error: BaseException, sources: Sources) -> LoadFailed:
    told = describe(error, sources.files)
    cause = told["message"]
    if isinstance(error, SystemExit):
        cause = f"the module called sys.exit({error.code!r}) while being imported"
    at = f" at {told['where']}" if told["where"] else ""
    return LoadFailed(
        f"{mod_path}: import failed{at}: {cause}{_hint(error)}", where=told["where"], traceback=told["traceback"]
    )


def _named_class(module: ModuleType, name: str, mod_path: str, sources: Sources) -> type:
    try:
        found = getattr(module, name, None)
    except (Exception, SystemExit) as error:  # noqa: BLE001 - a module may run code for a name that it lacks
        raise _import_failed(mod_path, error, sources) from None
    if isinstance(found, type) and is_mod_class(found):
        return found
    what = "does not exist" if found is None else f"is not a subclass of modvisor.mods.BaseMod but {_kind(found)}"
    where = getattr(module, "__file__", None) or f"the module {module.__name__}"
    raise LoadFailed(f"{mod_path}: {name} {what} in {where}", code=Code.NO_MOD_CLASS)


def _kind(found: object) -> str:
    if isinstance(found, type):
        return "BaseMod itself" if found.__name__ == "BaseMod" else "another class"
    return f"a {type(found).__name__}"  # not its repr, which may be code of the mod


def _only_class(module: ModuleType, sources: Sources, mod_path: str) -> type:
    """Return the mod class that ``module`` defines or imports from its package. Never guess."""
    classes = {id(value): value for value in vars(module).values() if is_mod_class(value)}.values()
    own = [cls for cls in classes if cls.__module__ == module.__name__]
    candidates = own or [cls for cls in classes if cls.__module__.startswith(sources.package + ".")]
    # A base class of another candidate is not a second mod.
    candidates = [cls for cls in candidates if not any(cls in other.__mro__[1:] for other in candidates)]
    try:
        said = chosen(candidates, module, sources.package.rpartition(".")[2])
    except WrongChoice as error:
        raise LoadFailed(f"{mod_path}: {error}", code=Code.NO_MOD_CLASS) from None
    if said is not None or len(candidates) == 1:
        return said or candidates[0]
    where = getattr(module, "__file__", None) or ", ".join(getattr(module, "__path__", ()))
    if not candidates:
        raise LoadFailed(
            f"{mod_path}: no subclass of modvisor.mods.BaseMod is defined in {where}; expected exactly one",
            code=Code.NO_MOD_CLASS,
        )
    names = sorted(cls.__qualname__ for cls in candidates)
    remedy = f"choose one with '{module.__name__}:{names[0]}'"
    if sources.folder is not None:
        remedy = "leave the one that is the mod in mod.py, and move the others to another file of the folder"
    raise LoadFailed(
        f"{mod_path}: {len(names)} mod classes in {where} ({', '.join(names)}); {remedy}", code=Code.AMBIGUOUS_MOD_CLASS
    )


def _hint(error: BaseException) -> str:
    """Say what to install if an import failed because OpenAgents is not there."""
    if not isinstance(error, ModuleNotFoundError) or error.name != "openagents":
        return ""
    return (
        f"; pip install 'modvisor[openagents]' for {sys.executable} to run mods of OpenAgents, see docs/openagents.md"
    )


def _path_text() -> str:
    shown = [entry or "." for entry in sys.path[:6]]
    return ", ".join(shown) + (", …" if len(sys.path) > 6 else "")
