"""Versions of mods (PEP 440), and demands on them. Pure.

Answers which of several versions is meant, and whether the running version is the requested one.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from packaging.requirements import InvalidRequirement
from packaging.requirements import Requirement as PythonRequirement
from packaging.specifiers import SpecifierSet
from packaging.version import InvalidVersion, Version

from ....ipc.address import InvalidId, check_mod_id
from ....ipc.errors import Code, ModvisorError, shown


class WrongVersion(ModvisorError):
    """The mod has another version than the one that was requested."""

    code = Code.WRONG_VERSION


def parse_version(text: str) -> Version | None:
    """Parse a version of PEP 440; None for other text, which a class may give as its version."""
    try:
        return Version(text)
    except InvalidVersion:
        return None


def same_version(one: str, other: str) -> bool:
    """Tell whether two versions are equal: ``2.0`` is ``2.0.0``. Other text is compared as text."""
    first, second = parse_version(one), parse_version(other)
    return one == other if first is None or second is None else first == second


def matching_version(asked: str, names: Iterable[str]) -> str | None:
    """Return the name that is the requested version; None if there is none."""
    return next((name for name in names if same_version(asked, name)), None)


def newest_final_version(names: Iterable[str]) -> str | None:
    """Return the newest version that is not a pre-release; None if there is none."""
    final = {version: name for name in names if (version := parse_version(name)) and not version.is_prerelease}
    return final[max(final)] if final else None


def versions_in_order(names: Iterable[str]) -> list[str]:
    """Sort versions, oldest first. Text that is not a version comes before all versions."""
    return sorted(names, key=_rank)


def _rank(name: str) -> tuple[bool, Version, str]:
    version = parse_version(name)
    return version is not None, version or Version("0"), name


def check_version(asked: str | None, declared: str | None, reported: str) -> None:
    """Check that a mod's class has the requested version, and the version in its mod.yaml.

    Args:
        asked: the version that the load requests.
        declared: the version in the mod.yaml.
        reported: the version of the class.

    Raises:
        WrongVersion: the class has another version than the requested one.
        ModvisorError: ``invalid_mod``: class and mod.yaml contradict each other.
    """
    if asked is not None and not same_version(asked, reported):
        raise WrongVersion(
            f"version {asked} was requested, but the class says {reported}; request {reported}, or correct the class",
            asked=asked, found=reported,
        )  # fmt: skip
    if declared is not None and not same_version(declared, reported):
        raise ModvisorError(
            f"its mod.yaml says version {declared}, but its class says {reported}; make them equal, or remove one of them",
            code=Code.INVALID_MOD, declared=declared, found=reported,
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Requirement:
    """The name of a mod, and the versions of it that are accepted."""

    name: str
    specifier: SpecifierSet

    @classmethod
    def parse(cls, text: Any) -> Requirement:
        """Parse a requirement, written like one of a Python package.

        Raises:
            InvalidRequirement: says what was expected.
        """
        try:
            found = PythonRequirement(text)
            if not (found.extras or found.marker or found.url):
                return cls(check_mod_id(found.name), found.specifier)
        except (InvalidRequirement, InvalidId, TypeError, AttributeError):
            pass
        raise InvalidRequirement(
            f"expected the name of a mod and the versions to accept, such as 'messaging>=2,<3', got {shown(text)}"
        )

    def allows(self, version: str | None) -> bool:
        """Tell whether a version is accepted.

        An unknown version meets only a requirement that names no versions. Pre-releases are
        accepted: a loaded pre-release was chosen on purpose.
        """
        if not self.specifier:
            return True
        known = None if version is None else parse_version(version)
        return known is not None and self.specifier.contains(known, prereleases=True)

    def __str__(self) -> str:
        return f"{self.name}{self.specifier}"
