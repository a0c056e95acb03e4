"""What a mod's class says of itself, read from its source: nothing of the mod is imported or run."""

from __future__ import annotations

import ast
from copy import deepcopy
from functools import lru_cache
from typing import Any

BASE = "BaseMod"


class BadSource(Exception):
    """A source that is no Python, or has several mod classes; its text is the end of a message that begins with the file."""


def class_attributes(source: str | bytes, class_name: str | None = None) -> dict[str, Any]:
    """The attributes of the one mod class in ``source`` that are literals; of its base classes in the same file too.

    {} if none is defined there: it may be imported from another file.

    Raises:
        BadSource: it is no Python, or there are several and ``class_name`` names none.
    """
    return deepcopy(_class_attributes(source, class_name))


# By the source itself, so never outdated: parsing takes milliseconds, and a load asks several times.
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
    """``BaseMod``, and what it is imported as."""
    imports = [node for node in tree.body if isinstance(node, ast.ImportFrom)]
    return {BASE} | {alias.asname for node in imports for alias in node.names if alias.name == BASE and alias.asname}


def _base_names(node: ast.ClassDef) -> list[str]:
    """As they are written: ``mods.BaseMod`` by its last part, ``Base[int]`` by what is in front."""
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
            found.pop(attribute, None)  # computed: nobody knows before it runs
    return found
