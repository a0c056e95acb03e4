"""Reads the literal attributes of a mod's class from its source, without importing the mod."""

from __future__ import annotations

import ast
from copy import deepcopy
from functools import lru_cache
from typing import Any

BASE = "BaseMod"


class BadSource(Exception):
    """The source is not Python, or has several mod classes.

    Its text is the end of a message that begins with the file.
    """


def class_attributes(source: str | bytes, class_name: str | None = None) -> dict[str, Any]:
    """Return the literal attributes of the mod class in ``source``.

    Includes attributes of its base classes in the same file. Returns {} if the file defines no mod
    class: it may import one from another file.

    Raises:
        BadSource: the source is not Python, or has several mod classes and ``class_name`` is None.
    """
    return deepcopy(_class_attributes(source, class_name))


# The key is the source itself, so it never is outdated. Parsing takes milliseconds, and a load
# asks several times.
@lru_cache(maxsize=128)
def _class_attributes(source: str | bytes, class_name: str | None) -> dict[str, Any]:
    try:
        tree = ast.parse(source)
    except SyntaxError as error:
        raise BadSource(f":{error.lineno}: SyntaxError: {error.msg}") from None
    except (ValueError, RecursionError, MemoryError) as error:
        raise BadSource(f": cannot be read as Python: {error or type(error).__name__}") from None
    classes = {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}
    known = _names_of_base(tree)
    mods = {name for name in classes if _is_mod(name, classes, known, frozenset())}
    bases = {base for name in mods for base in _base_names(classes[name])}
    candidates = [name for name in classes if name in mods - bases]
    if class_name is not None:
        candidates = [name for name in (class_name,) if name in mods]
    if len(candidates) > 1:
        raise BadSource(f": {len(candidates)} mod classes ({', '.join(sorted(candidates))}); a mod_path may name one")
    return _literals(candidates[0], classes, frozenset()) if candidates else {}


def _names_of_base(tree: ast.Module) -> set[str]:
    """Return ``BaseMod`` and the names that it is imported as."""
    imports = [node for node in tree.body if isinstance(node, ast.ImportFrom)]
    return {BASE} | {alias.asname for node in imports for alias in node.names if alias.name == BASE and alias.asname}


def _base_names(node: ast.ClassDef) -> list[str]:
    """Return the names of the base classes, without the module and type arguments."""
    names = []
    for base in node.bases:
        base = base.value if isinstance(base, ast.Subscript) else base
        if isinstance(base, ast.Name | ast.Attribute):
            names.append(base.id if isinstance(base, ast.Name) else base.attr)
    return names


def _is_mod(name: str, classes: dict[str, ast.ClassDef], known: set[str], above: frozenset[str]) -> bool:
    if name in above:
        return False
    return any(
        base in known or (base in classes and _is_mod(base, classes, known, above | {name}))
        for base in _base_names(classes[name])
    )


def _literals(name: str, classes: dict[str, ast.ClassDef], above: frozenset[str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if name in above:
        return found
    for base in reversed(_base_names(classes[name])):
        if base in classes:
            found |= _literals(base, classes, above | {name})
    for node in classes[name].body:
        match node:
            case ast.Assign(targets=[ast.Name(attribute)], value=value):
                pass
            case ast.AnnAssign(target=ast.Name(attribute), value=ast.expr() as value):
                pass
            case _:
                continue
        try:
            found[attribute] = ast.literal_eval(value)
        except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
            found.pop(attribute, None)  # computed: the value is unknown until the class runs
    return found
