"""The JSON Schemas of a network file and of a mod.yaml, for editors.

They are made from the fields that hold the keys, as the tables of docs/config.md are.
"""

from __future__ import annotations

import json

from ..mods.entry import ENTRY_KEYS
from ..mods.mod_file import MOD_FILE_READERS
from ..network.network_file import TOP_KEYS
from ..values.keys import schema_of
from ..values.schema_parts import Schema, object_of, with_variables

DRAFT = "http://json-schema.org/draft-07/schema#"
"""The draft that the language servers of YAML know best."""

NETWORK, MOD = "network", "mod"

_ONLY_IN_A_MOD_FILE = {
    "version": "the version of the mod (PEP 440)",
    "description": "what the mod does, for people and for lists of mods",
    "config_schema": "the JSON Schema of the mod's config, by which each network file is checked",
}


def schema_text(kind: str) -> str:
    """Return the schema of one `kind` of file, as a file holds it."""
    return json.dumps(SCHEMAS[kind](), indent=1, ensure_ascii=False) + "\n"


def network_schema() -> Schema:
    """Return the schema of a network file."""
    shape = with_variables(schema_of(TOP_KEYS))
    return _document("A network of modvisor: network.yaml", {**shape, "type": "object", "required": ["network"]})


def mod_file_schema() -> Schema:
    """Return the schema of a mod.yaml. It knows no variables."""
    keys = {name: _mod_key(name) for name in MOD_FILE_READERS}
    return _document("How a mod wants to be run: mod.yaml", object_of(keys, []))


SCHEMAS = {NETWORK: network_schema, MOD: mod_file_schema}


def _mod_key(name: str) -> Schema:
    if name in _ONLY_IN_A_MOD_FILE:
        return {**MOD_FILE_READERS[name].schema(), "description": _ONLY_IN_A_MOD_FILE[name]}
    return ENTRY_KEYS[name].schema


def _document(title: str, shape: Schema) -> Schema:
    return {"$schema": DRAFT, "title": title, **shape}
