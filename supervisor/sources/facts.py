"""Reads what a mod's files say of it: its mod.yaml and the literal attributes of its class."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from packaging.requirements import InvalidRequirement

from ...ipc.errors import Code, ModvisorError
from ..config import ConfigError, Requirement, mod_file_keys, read_mod_file
from .class_source import BadSource, class_attributes

MAX_SOURCE = 1024 * 1024  # bytes of a mod.py, which takes a second to parse


@dataclass(frozen=True, slots=True)
class ModFacts:
    """What is known of one version of a mod without running it.

    Attributes:
        version: None if only the running mod can tell.
        requires, optional: other mods that it needs, or uses when they are loaded.
        config_schema: the JSON Schema of its config, if one is written where it can be read.
        problem: why it cannot be loaded, for people; None if no reason is visible.
    """

    version: str | None = None
    description: str = ""
    requires: tuple[Requirement, ...] = ()
    optional: tuple[Requirement, ...] = ()
    problem: str | None = None
    config_schema: dict[str, Any] | None = None


def facts_of(folder: Path, class_name: str | None = None) -> ModFacts:
    """Read the mod in ``folder``. Its mod.yaml overrides the attributes of its class.

    Args:
        class_name: the class that the mod_path names, if it names one.
    """
    said, problems = _of_class(folder, class_name)
    try:
        file = read_mod_file(folder)
        written = {} if file is None else mod_file_keys(file)
        said |= written
        if written.get("command") is not None:  # a worker in another language: there is no class to look for
            problems.clear()
    except ConfigError as error:  # the first line names the place
        problems.append(str(error).splitlines()[0])
    version, description, schema = said.get("version"), said.get("description"), said.get("config_schema")
    requirements = {}
    for key in ("requires", "optional"):
        requirements[key] = _requirements(key, said.get(key, ()), problems)
    return ModFacts(
        version=version if isinstance(version, str) else None,
        description=description if isinstance(description, str) else "",
        problem="; ".join(problems) or None,
        config_schema=schema if isinstance(schema, dict) and _is_json(schema) else None,
        **requirements,
    )


def class_requirements(
    folder: Path, class_name: str | None = None
) -> tuple[tuple[Requirement, ...], tuple[Requirement, ...]]:
    """Return what the class of a mod requires, and what it uses when it is loaded.

    Ignores a source that cannot be read: the worker will report it.

    Raises:
        ModvisorError: ``invalid_mod``: a requirement is not written correctly.
    """
    try:
        sources = [_source(folder / name) for name in ("mod.py", "__init__.py") if (folder / name).is_file()]
    except (OSError, BadSource):
        return (), ()
    if not any(word in source for source in sources for word in (b"requires", b"optional")):
        return (), ()  # most mods end here, without a parse
    said, _ = _of_class(folder, class_name)
    problems: list[str] = []
    found = tuple(_requirements(key, said.get(key, ()), problems) for key in ("requires", "optional"))
    if problems:
        raise ModvisorError(f"the mod class in {folder}: {'; '.join(problems)}", code=Code.INVALID_MOD)
    return found[0], found[1]


def _of_class(folder: Path, class_name: str | None) -> tuple[dict[str, Any], list[str]]:
    for name in ("mod.py", "__init__.py"):
        file = folder / name
        try:
            return class_attributes(_source(file), class_name), []
        except FileNotFoundError:
            continue
        except BadSource as error:
            return {}, [f"{file}{error}"]
        except OSError as error:
            return {}, [f"{file}: {error.strerror}"]
    return {}, [f"the folder {folder} has no mod.py"]


def _source(file: Path) -> bytes:
    """Raises OSError, `BadSource`."""
    with file.open("rb") as opened:
        source = opened.read(MAX_SOURCE + 1)
    if len(source) > MAX_SOURCE:
        raise BadSource(f" is larger than {MAX_SOURCE} bytes; say in mod.yaml what it requires, and its version")
    return source


def _is_json(value: Any) -> bool:
    """Tell whether JSON can carry a value: a literal in a class may hold a set, or bytes."""
    try:
        json.dumps(value)
    except (TypeError, ValueError):
        return False
    return True


def _requirements(key: str, values: Any, problems: list[str]) -> tuple[Requirement, ...]:
    if not isinstance(values, (list, tuple)):
        problems.append(f"{key}: expected a list such as ['messaging>=2,<3']")
        return ()
    found = []
    for value in values:
        try:
            found.append(value if isinstance(value, Requirement) else Requirement.parse(value))
        except InvalidRequirement as error:
            problems.append(f"{key}: {error}")
    return tuple(found)
