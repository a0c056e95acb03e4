"""What the files of a mod say of it before it runs: its mod.yaml, and the literal attributes of its class."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from packaging.requirements import InvalidRequirement

from ...ipc.errors import Code, ModvisorError
from ..config import ConfigError, Requirement, mod_file_keys, read_mod_file
from .class_source import BadSource, class_attributes


@dataclass(frozen=True, slots=True)
class ModFacts:
    """What is known of one version of a mod without running it.

    Attributes:
        version: None if only a run can tell.
        requires, optional: other mods it needs, or uses when they are loaded.
        problem: why it could not be loaded as it is, for people; None as far as one can see.
    """

    version: str | None = None
    description: str = ""
    requires: tuple[Requirement, ...] = ()
    optional: tuple[Requirement, ...] = ()
    problem: str | None = None


def facts_of(folder: Path, class_name: str | None = None) -> ModFacts:
    """Read the mod in ``folder``. What its mod.yaml says goes before what its class says.

    Args:
        class_name: of a mod_path that names one.
    """
    said, problems = _of_class(folder, class_name)
    try:
        file = read_mod_file(folder)
        said |= {} if file is None else mod_file_keys(file)
    except ConfigError as error:  # its first line says where
        problems.append(str(error).splitlines()[0])
    version, description = said.get("version"), said.get("description")
    requirements = {}
    for key in ("requires", "optional"):
        requirements[key] = _requirements(key, said.get(key, ()), problems)
    return ModFacts(
        version=version if isinstance(version, str) else None,
        description=description if isinstance(description, str) else "",
        problem="; ".join(problems) or None,
        **requirements,
    )


def class_requirements(
    folder: Path, class_name: str | None = None
) -> tuple[tuple[Requirement, ...], tuple[Requirement, ...]]:
    """What the class of a mod requires, and what it uses; a source that cannot be read is for its worker to tell of.

    Raises:
        ModvisorError: ``invalid_mod``: they are not written as they have to be.
    """
    try:
        sources = [(folder / name).read_bytes() for name in ("mod.py", "__init__.py") if (folder / name).is_file()]
    except OSError:
        return (), ()
    if not any(word in source for source in sources for word in (b"requires", b"optional")):
        return (), ()  # as a rule: nothing need be parsed
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
            return class_attributes(file.read_bytes(), class_name), []
        except FileNotFoundError:
            continue
        except BadSource as error:
            return {}, [f"{file}{error}"]
        except OSError as error:
            return {}, [f"{file}: {error.strerror}"]
    return {}, [f"the folder {folder} has no mod.py"]


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
