"""Checks a mod's config by the JSON Schema that the mod declares, in its class or its mod.yaml.

The library is imported when a schema is checked, and only then: few mods declare one, and a worker
must stay small. It reads the schema; it never runs it, and never fetches what it refers to.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from .errors import Code, ModvisorError

MAX_PROBLEMS = 20  # more are not shown: nobody reads them

HOW_TO_INSTALL = "install it for the mod's Python: pip install 'modvisor[schema]'"


class WrongConfig(ModvisorError):
    """A config that does not follow its schema, or a schema that is none.

    ``details``: ``problems``, one line each.
    """

    code = Code.BAD_CONFIG


def check_config(config: dict[str, Any], schema: Any, where: str) -> None:
    """Check a mod's config.

    Args:
        where: what declares the schema, for messages: ``mod.yaml`` or the name of a class.

    Raises:
        WrongConfig: lists what is wrong, by the keys of the config.
    """
    problems = list(problems_of(config, schema, where))
    if problems:
        shown = [*problems[:MAX_PROBLEMS], *(["…"] if len(problems) > MAX_PROBLEMS else [])]
        raise WrongConfig(
            f"the config does not follow the config_schema of {where}: " + "; ".join(shown), problems=shown
        )


def problems_of(config: dict[str, Any], schema: Any, where: str) -> Iterator[str]:
    """Return what is wrong, one line for each key of the config.

    Raises:
        WrongConfig: the schema itself is wrong, or the library that reads it is missing.
    """
    try:
        from jsonschema import Draft202012Validator
        from jsonschema.exceptions import SchemaError
        from jsonschema.validators import validator_for
        from referencing import Registry
        from referencing.exceptions import Unresolvable
    except ImportError as error:
        raise WrongConfig(f"{where} declares a config_schema, which needs {error.name}; {HOW_TO_INSTALL}") from None
    if not isinstance(schema, dict):
        raise WrongConfig(f"config_schema of {where}: expected a mapping, got {type(schema).__name__}")
    validator = validator_for(schema, Draft202012Validator)
    try:
        validator.check_schema(schema)
        # An own registry: without one, the library would fetch what lies behind a URL.
        found = sorted(
            validator(schema, registry=Registry()).iter_errors(config), key=lambda error: list(map(str, error.path))
        )
    except SchemaError as error:
        raise WrongConfig(f"config_schema of {where} is no JSON Schema: {error.json_path}: {error.message}") from None
    except Unresolvable as error:
        raise WrongConfig(f"config_schema of {where} refers to {error.ref!r}, which is not in it") from None
    for error in found:
        yield f"{error.json_path.replace('$', 'config', 1)}: {error.message}"
