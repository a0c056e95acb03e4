"""Replaces ``${VAR}`` and ``${VAR:-default}`` in texts by variables of the environment.

``$$`` is a dollar sign. Any other ``$`` stands for itself.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

_SIGN = re.compile(r"\$(?:\$|\{(?P<inside>[^{}]*)\}|(?P<open>\{))")
_INSIDE = re.compile(r"(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?::-(?P<default>.*))?", re.DOTALL)


class BadVariable(Exception):
    """A variable that is not set, or is not written correctly. The text says what to do."""


@dataclass(frozen=True, slots=True)
class Substituted:
    """A text whose variables were replaced, and how it was written.

    ``plain`` is what YAML reads in the value: ``8700`` is a number for readers of numbers.
    """

    value: str = field(repr=False)  # it may be a secret
    plain: Any = field(repr=False)
    written: str

    def hidden_in(self, message: str) -> str:
        """Return a message with the text as it was written: the value may be a secret."""
        for value in (repr(self.value), self.value):
            if self.value:
                message = message.replace(value, repr(self.written))
        return message


def replace_variables(text: str, environ: Mapping[str, str]) -> str:
    """Return ``text`` with its variables replaced. A default also counts for an empty variable.

    Raises:
        BadVariable: a variable without a default is not set, or is not written correctly.
    """
    return _SIGN.sub(lambda found: _value(found, environ), text)


def _value(found: re.Match[str], environ: Mapping[str, str]) -> str:
    if found.group() == "$$":
        return "$"
    inside = None if found["open"] else _INSIDE.fullmatch(found["inside"])
    if inside is None:
        raise BadVariable(
            "expected ${VAR} or ${VAR:-default}, where VAR has letters, digits and '_', and the default no braces; "
            "write $${ for a dollar sign and a brace"
        )
    name, default = inside["name"], inside["default"]
    value = environ.get(name)
    if value is None and default is None:
        raise BadVariable(
            f"the environment variable {name} is not set; set it before the start, give a default with "
            f"${{{name}:-default}}, or write $${{{name}}} for the text itself"
        )
    return default if default is not None and not value else value or ""
