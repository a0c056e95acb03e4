"""One truth per key: a dataclass field holds its default, its reader and its documentation.

`key` makes such a field, and `section` reads the fields of a dataclass.
`modvisor.supervisor.config.printed.reference` prints them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import MISSING, Field, dataclass, field, fields, replace
from functools import cache
from typing import Any

import yaml

from .basic import read_keys
from .reader import Location, Reader
from .schema_parts import Schema, object_of

REQUIRED: Any = object()
"""Stands for the default of a key that must be given."""

_KEY = "key"
_LINK = re.compile(r"\[([^\]]*)\]\([^)]*\)")


@dataclass(frozen=True, slots=True)
class ConfigKey:
    """A key of a configuration file.

    Attributes:
        doc: the meaning, as docs/config.md prints it.
        name: the key in the file, if the field is called otherwise.
        section: the section that holds the key, if the dataclass holds the keys of several.
        in_mod_file: whether a mod.yaml may have the key too.
        shown: the default in words, if it is no value that the file could hold.
        default: the value without the key; `REQUIRED` if there is none.
    """

    reader: Reader
    doc: str
    name: str = ""
    section: str = ""
    in_mod_file: bool = False
    shown: str = ""
    default: Any = REQUIRED

    @property
    def is_required(self) -> bool:
        """Whether the section that has no such key is a mistake."""
        return self.default_text == "required"

    @property
    def schema(self) -> Schema:
        """The JSON Schema of the value, with the meaning and the default."""
        found = {**self.reader.schema(), "description": _plain(self.doc)}
        if not self.shown and self.default is not REQUIRED:
            found["default"] = yaml.safe_load(self.reader.written(self.default)) if self.default is not None else None
        return found

    @property
    def default_text(self) -> str:
        """The default as docs/config.md prints it."""
        if self.shown or self.default is REQUIRED:
            return self.shown or "required"
        return f"`{'null' if self.default is None else self.reader.written(self.default)}`"


def key(default: Any, reader: Reader, doc: str, **more: Any) -> Any:
    """Return a dataclass field with a reader and a documentation; ``more`` as for `ConfigKey`."""
    return field(default=default, metadata=about(reader, doc, **more))


def about(reader: Reader, doc: str, **more: Any) -> Mapping[str, ConfigKey]:
    """Return the metadata of a field that needs other arguments than `key` gives it."""
    return {_KEY: ConfigKey(reader, doc, **more)}


@cache
def keys_of(kind: type, section: str = "") -> dict[str, ConfigKey]:
    """Return the keys of a dataclass, by their names in the file."""
    found = {}
    for each in fields(kind):
        described = key_of(each)
        if described is not None and described.section == section:
            found[described.name] = replace(described, default=_default(each))
    return found


def key_of(each: Field[Any]) -> ConfigKey | None:
    """Return the key that a field holds; None if it is no key of the file."""
    described: ConfigKey | None = each.metadata.get(_KEY)
    return None if described is None else replace(described, name=described.name or each.name)


def _plain(doc: str) -> str:
    """Return a meaning without the links of its page."""
    return _LINK.sub(r"\1", doc)


def _default(each: Field[Any]) -> Any:
    if each.default_factory is not MISSING:
        return each.default_factory()
    return REQUIRED if each.default is MISSING else each.default


def readers_of(kind: type, section: str = "") -> dict[str, Reader]:
    """Return the readers of a dataclass's keys, by the names of the keys."""
    return {name: each.reader for name, each in keys_of(kind, section).items()}


def section(kind: type) -> Reader:
    """Read a mapping as a dataclass whose fields were made by `key`."""
    table = readers_of(kind)

    def read(value: Any, at: Location) -> Any:
        return kind(**read_keys(value, at, table))

    return Reader("mapping", read, lambda _: "{}", lambda: schema_of(keys_of(kind)))


def schema_of(keys: Mapping[str, ConfigKey]) -> Schema:
    """Return the JSON Schema of a section with these keys."""
    required = [name for name, each in keys.items() if each.is_required]
    return object_of({name: each.schema for name, each in keys.items()}, required)
