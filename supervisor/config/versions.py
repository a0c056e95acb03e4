"""Versions of mods (PEP 440): which of several is meant, and whether what runs is what was asked for. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from packaging.requirements import InvalidRequirement
from packaging.requirements import Requirement as PythonRequirement
from packaging.specifiers import SpecifierSet
from packaging.version import InvalidVersion, Version

from ...ipc.address import InvalidId, check_mod_id
from ...ipc.errors import Code, ModvisorError, shown


class WrongVersion(ModvisorError):
    """A mod of another version than was asked for, or than its own files say of it."""

    code = Code.WRONG_VERSION


def parse_version(text: str) -> Version | None:
    """None for what is no version of PEP 440: a class may call its version whatever it likes."""
    try:
        return Version(text)
    except InvalidVersion:
        return None


def same_version(one: str, other: str) -> bool:
    """``2.0`` is ``2.0.0``; what is no version is compared as text."""
    first, second = parse_version(one), parse_version(other)
    return one == other if first is None or second is None else first == second


def matching_version(asked: str, names: Iterable[str]) -> str | None:
    """The one of ``names`` that is the version asked for."""
    return next((name for name in names if same_version(asked, name)), None)


def newest_final_version(names: Iterable[str]) -> str | None:
    """The newest that is no pre-release or development version; None if there is no such."""
    final = {version: name for name in names if (version := parse_version(name)) and not version.is_prerelease}
    return final[max(final)] if final else None


def versions_in_order(names: Iterable[str]) -> list[str]:
    """Oldest first; what is no version comes before all that are."""
    return sorted(names, key=_rank)


def _rank(name: str) -> tuple[bool, Version, str]:
    version = parse_version(name)
    return version is not None, version or Version("0"), name


def check_version(asked: str | None, declared: str | None, reported: str) -> None:
    """Whether all who speak of a mod's version mean the same.

    Args:
        asked: by whoever loads it.
        declared: by its mod.yaml.
        reported: by its class.

    Raises:
        WrongVersion: it is not what was asked for.
        ModvisorError: ``invalid_mod``: class and mod.yaml contradict each other.
    """
    if asked is not None and not same_version(asked, reported):
        raise WrongVersion(
            f"version {asked} was asked for, and its class says {reported}; ask for {reported}, or mend the version there",
            asked=asked, found=reported,
        )  # fmt: skip
    if declared is not None and not same_version(declared, reported):
        raise ModvisorError(
            f"its mod.yaml says version {declared} and its class says {reported}; make them the same, or remove one of them",
            code=Code.INVALID_MOD, declared=declared, found=reported,
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Requirement:
    """A mod by its name, and the versions that will do."""

    name: str
    specifier: SpecifierSet

    @classmethod
    def parse(cls, text: Any) -> Requirement:
        """Written as Python's packages write theirs; raises `InvalidRequirement` with what was expected."""
        try:
            found = PythonRequirement(text)
            if not (found.extras or found.marker or found.url):
                return cls(check_mod_id(found.name), found.specifier)
        except (InvalidRequirement, InvalidId, TypeError, AttributeError):
            pass
        raise InvalidRequirement(
            f"expected the name of a mod and the versions that will do, such as 'messaging>=2,<3', got {shown(text)}"
        )

    def allows(self, version: str | None) -> bool:
        """Whether a version will do; pre-releases as well, for whoever has one loaded wants it. Of an unknown one only no
        demand is met."""
        if not self.specifier:
            return True
        known = None if version is None else parse_version(version)
        return known is not None and self.specifier.contains(known, prereleases=True)

    def __str__(self) -> str:
        return f"{self.name}{self.specifier}"
