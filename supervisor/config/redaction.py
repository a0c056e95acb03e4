"""What is masked wherever it is shown, or kept for people to look at: one list for all places.

Logs of mods and of the network, crash reports, dead letters as they are shown, the stream of
events: all ask a `Redaction`. It knows keys, whose values are masked in data and in text, and
values: the variables that mods were given. What a program must read again stays as it is: the
payload of a dead letter on disk, for its replay, and the entry of a mod, for its next start.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from .mods.mod import ModConfig
from .values.reader import Location, reader
from .values.schema_parts import of_type
from .yaml.source import Source, load_yaml

MASK = "***"

SECRET_KEYS = (
    "*secret*", "*password*", "*passwd*", "*passphrase*", "token", "*_token", "*api_key*", "*apikey*", "*access_key*",
    "*private_key*", "*credential*", "authorization", "cookie", "set_cookie", "invite",
)  # fmt: skip
"""Keys whose values are always masked. Case does not matter, and `-` counts as `_`."""

SECRET_VARIABLES = (*SECRET_KEYS, "*key", "*_dsn", "*_pat")
"""Variables of a mod whose values are masked wherever they appear in text."""

SHORTEST = 6  # characters of a value that is masked in text: a shorter one would hide ordinary words

_PATTERN = re.compile(r"\*?[A-Za-z0-9_.-]+(\*[A-Za-z0-9_.-]+)*\*?")

# In text: a key and what assigns to it; then the value, which may be in quotes.
_KEY = re.compile(r"""(?<![\w-])([\w-]+)["']?[ \t]*[:=][ \t]*""")
_VALUE = re.compile(
    r"""(?:(?i:bearer|basic)[ \t]+)?b?("[^"\n]*"|'[^'\n]*'|[^\s"',;&)\]}](?:[^\s,;&)\]}]*[^\s"',;&)\]}])?)"""
)


@reader("list of keys", "array", items=of_type("string"))
def redacted_keys(value: Any, at: Location) -> Any:
    """Read names of keys, in which `*` stands for any characters."""
    if not isinstance(value, list):
        return at.wrong("expected a list of keys such as [card_number, '*_pin']")
    for number, each in enumerate(value):
        if not isinstance(each, str) or not _PATTERN.fullmatch(each):
            (at / number).wrong("expected the name of a key, such as card_number or '*_pin'")
    return tuple(map(str, value))


def redacted_in(file: Path) -> tuple[str, ...]:
    """Return the ``redact`` of a network file, which may have mistakes elsewhere; () if it cannot be read."""
    data = load_yaml(str(file), Source(str(file)))
    listed = data.get("redact") if isinstance(data, dict) else None
    return tuple(each for each in listed or () if isinstance(each, str)) if isinstance(listed, list) else ()


class Redaction:
    """Masks secrets in data and in text.

    Args:
        keys: more keys than `SECRET_KEYS`.
    """

    def __init__(self, keys: Iterable[str] = ()) -> None:
        self._values: dict[str, frozenset[str]] = {}
        self.use(keys)
        self._find_values: re.Pattern[str] | None = None

    def use(self, keys: Iterable[str]) -> None:
        """Mask these keys from now on, besides `SECRET_KEYS`."""
        patterns = [_plain(key) for key in (*SECRET_KEYS, *keys)]
        self._is_secret = re.compile("|".join(map(_expression, patterns)))
        self._known: dict[str, bool] = {}  # by key: most keys come again and again
        # A text without any of these words has none of the keys, which is quickly seen.
        self._words = tuple({word for key in patterns for word in [max(key.split("*"), key=len)]})

    def learn(self, config: ModConfig, env: Mapping[str, str]) -> None:
        """Mask the secrets of a mod in every text: of its variables, and of the keys of its config.

        They take the place of those that the mod had before.
        """
        given = {name for name, value in config.env.items() if value.literal is None}
        values = [value for name, value in env.items() if name in given or _is_variable(name)]
        values += self._values_in(config.config)
        lines = {line.strip() for value in values for line in value.splitlines()}
        self._values[config.mod_id] = frozenset(line for line in lines if len(line) >= SHORTEST)
        every = sorted({value for each in self._values.values() for value in each}, key=len, reverse=True)
        self._find_values = re.compile("|".join(map(re.escape, every))) if every else None

    def text(self, text: str) -> str:
        """Return ``text`` with its secrets masked: known values, and what follows a secret key."""
        if self._find_values is not None:
            text = self._find_values.sub(MASK, text)
        plain = _plain(text)
        return self._without_assigned(text) if any(word in plain for word in self._words) else text

    def _without_assigned(self, text: str) -> str:
        parts, begin = [], 0
        for key in _KEY.finditer(text):
            if key.start() >= begin and self.is_secret(key[1]) and (value := _VALUE.match(text, key.end())):
                quote = value[1][0] if value[1][0] in "\"'" else ""
                parts += [text[begin : value.start(1)], quote, MASK, quote]
                begin = value.end()
        return "".join([*parts, text[begin:]]) if parts else text

    def data(self, value: Any) -> Any:
        """Return a copy of plain data in which the values of secret keys are masked."""
        if isinstance(value, dict):
            return {key: MASK if item and self.is_secret(key) else self.data(item) for key, item in value.items()}
        if isinstance(value, (list, tuple)):
            return [self.data(item) for item in value]
        if isinstance(value, str) and self._find_values is not None:
            return self._find_values.sub(MASK, value)
        return value

    def is_secret(self, key: Any) -> bool:
        """Return whether the values of this key are masked."""
        if not isinstance(key, str):
            return False
        if (known := self._known.get(key)) is None:
            if len(self._known) > 10_000:  # keys come from agents: bounded
                self._known.clear()
            known = self._known[key] = self._is_secret.fullmatch(_plain(key)) is not None
        return known

    def _values_in(self, value: Any) -> list[str]:
        """Return the texts under the secret keys of a mod's config."""
        if isinstance(value, dict):
            found = [item for key, item in value.items() if isinstance(item, str) and self.is_secret(key)]
            return found + [text for item in value.values() for text in self._values_in(item)]
        if isinstance(value, (list, tuple)):
            return [text for item in value for text in self._values_in(item)]
        return []


def _plain(key: str) -> str:
    return key.lower().replace("-", "_")


def _expression(pattern: str) -> str:
    return ".*".join(map(re.escape, pattern.split("*")))


_VARIABLES = re.compile("|".join(map(_expression, SECRET_VARIABLES)))


def _is_variable(name: str) -> bool:
    return _VARIABLES.fullmatch(_plain(name)) is not None
