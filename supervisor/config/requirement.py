"""``messaging>=2,<3``: a mod that another one needs, and in which versions. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from packaging.requirements import InvalidRequirement
from packaging.requirements import Requirement as PythonRequirement
from packaging.specifiers import SpecifierSet

from ...ipc.address import InvalidId, check_mod_id
from ...ipc.errors import shown
from .versions import parsed


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
        known = None if version is None else parsed(version)
        return known is not None and self.specifier.contains(known, prereleases=True)

    def __str__(self) -> str:
        return f"{self.name}{self.specifier}"
