"""Readers of values that may come from a variable or a file, and of secrets.

Their messages do not repeat the value: it may be a secret, and messages end up in logs.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ....ipc.errors import ModvisorError
from ...causes import cause
from ..yaml.source import BROKEN, ConfigError
from .basic import absolute_path, read_keys, usable
from .keys import ConfigKey, schema_of
from .reader import Location, Reader, got, reader
from .schema_parts import Schema, either, of_type

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


@dataclass(frozen=True, slots=True)
class EnvValue:
    """A literal value, or the environment variable or file to read it from; one of the three."""

    # Not in the repr: it may be a secret, and reprs end up in logs.
    literal: str | None = field(default=None, repr=False)
    variable: str | None = None
    file: Path | None = None

    def resolve(self) -> str:
        """Return the value as it is now; of a file its text without the last line break.

        Raises:
            ModvisorError: code ``bad_config``; names the variable or file that is missing.
        """
        if self.literal is not None:
            return self.literal
        if self.variable is not None:
            if (value := os.environ.get(self.variable)) is None:
                raise _unresolved(f"the environment variable {self.variable} is not set; set it before the start")
            return value
        try:
            return Path(self.file or "").read_text("utf-8").removesuffix("\n").removesuffix("\r")
        except OSError as error:
            raise _unresolved(f"cannot read the file {self.file}: {cause(error, self.file or '')}") from None
        except UnicodeDecodeError:
            raise _unresolved(f"the file {self.file} is not UTF-8 text") from None


def _unresolved(message: str) -> ModvisorError:
    return ModvisorError(message, code=ConfigError.code)


@reader("text", "string", pattern="^(env:[A-Za-z_][A-Za-z0-9_]*|file:.+)$")
def _source(value: Any, at: Location) -> Any:
    kind, _, where = value.partition(":") if isinstance(value, str) else ("", "", "")
    if kind == "env" and _VARIABLE.fullmatch(where):
        return EnvValue(variable=where)
    if kind == "file" and where:
        clean = absolute_path(where, at)
        return clean if clean is BROKEN else EnvValue(file=clean)
    return at.wrong("expected 'env:VARIABLE' or 'file:PATH'")


FROM_KEYS = {
    "from": ConfigKey(
        _source,
        "`env:VARIABLE`: that variable of the network's own environment; `file:PATH`: the text of that file, without "
        "the last line break",
        name="from",
    )
}
_FROM = {name: each.reader for name, each in FROM_KEYS.items()}


def _env_value(value: Any, at: Location) -> Any:
    """Read text, a number, or a mapping that says where the text comes from."""
    if isinstance(value, dict) and value:
        return read_keys(value, at, _FROM).get("from", BROKEN)
    if isinstance(value, str):
        clean = usable(value, at)
        return clean if clean is BROKEN else EnvValue(literal=clean)
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return EnvValue(literal=at.source.texts.get(at.key) or str(value))
    quote = "; put it in quotes" if isinstance(value, bool) else ""
    return at.wrong(
        f"expected text, a number, {{from: 'env:VARIABLE'}} or {{from: 'file:PATH'}}, got {got(value)}{quote}"
    )


def _variable(value: Any, at: Location) -> Any:
    """Read the value of an environment variable, whose name is the key."""
    if not _VARIABLE.fullmatch(str(at.key[-1])):
        return at.wrong("expected a variable name of letters, digits and '_' that does not start with a digit")
    return _env_value(value, at)


def _schema() -> Schema:
    return either(of_type("string", "number"), schema_of(FROM_KEYS))


variable = Reader("environment variable", _variable, schema=_schema)


def resolved(value: EnvValue, at: Location) -> str:
    """Return the value as it is now; reports a missing variable or file."""
    try:
        return value.resolve()
    except ModvisorError as error:
        return at.wrong(str(error))


def _token(value: Any, at: Location) -> Any:
    """Read a secret that requests must carry."""
    found = _env_value(value, at)
    if found is not BROKEN and resolved(found, at) == "":  # would let in requests without a token
        return at.wrong("the token is empty; give one that cannot be guessed, or leave the key out")
    return found


token = Reader("text, number or mapping", _token, schema=_schema)


ARGON2ID = re.compile(
    r"\$argon2id\$v=19\$m=([1-9][0-9]{0,9}),t=([1-9][0-9]{0,9}),p=([1-9][0-9]{0,9})"
    r"\$[A-Za-z0-9+/]{11,86}\$[A-Za-z0-9+/]{16,86}"
)
_MOST = (1024 * 1024, 100, 16)  # KiB of memory, passes, lanes: every check takes that much of the network's machine
_HOW = "print one with: modvisor hash-password"


@reader("argon2id or SHA-256", "string")
def password_hash(value: Any, at: Location) -> Any:
    """Read what is stored of a password: argon2id over its SHA-256, or the SHA-256 in hexadecimal."""
    if isinstance(value, str) and is_sha256(value):
        at.source.warn(
            at.key,
            "this is a plain SHA-256, from which a password can be guessed fast; replace it by what "
            "'modvisor hash-password' prints for the same password",
        )
        return value.lower()
    if not isinstance(value, str) or (found := ARGON2ID.fullmatch(value)) is None:
        # In {…} YAML ends a text at its first comma.
        quotes = " whole, in quotes" if isinstance(value, str) and value.startswith("$argon2") else ""
        return at.wrong(f"expected argon2id ('$argon2id$v=19$…'){quotes} or a SHA-256 of 64 hexadecimal digits; {_HOW}")
    if any(int(given) > most for given, most in zip(found.groups(), _MOST, strict=True)):
        return at.wrong(
            f"a check of this argon2id takes too much (at most m={_MOST[0]}, t={_MOST[1]}, p={_MOST[2]}); {_HOW}"
        )
    return value


def is_sha256(text: str) -> bool:
    """Tell whether a text is a SHA-256 in hexadecimal."""
    return re.fullmatch(r"[0-9A-Fa-f]{64}", text) is not None
