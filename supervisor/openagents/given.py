"""Reads the configuration that a program gives `AgentNetwork.create_from_config`, whatever its class."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from enum import Enum
from typing import Any

_DEPTH = 50  # levels of objects: a configuration has a handful


def network_data(config: Any) -> dict[str, Any]:
    """Return a configuration as the data of a network file.

    Args:
        config: OpenAgents' ``NetworkConfig`` or ``OpenAgentsConfig``, a mapping, or any object with
            the same attributes.

    Raises:
        TypeError: it is nothing of that kind.
    """
    data = _plain(config)
    if not isinstance(data, dict):
        raise TypeError(
            f"config: expected a NetworkConfig, a mapping or an object like them, got {type(config).__name__}"
        )
    if isinstance(data.get("network"), dict):
        return data
    return {"network": {"mode": "centralized", **data}}


def _plain(value: Any, depth: int = 0) -> Any:
    """Return plain data. Of pydantic's objects only what the program has set: their defaults are not ours."""
    if depth > _DEPTH:
        raise TypeError("config: nested too deeply, or contains itself")
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, Mapping):
        return {_plain(key, depth + 1): _plain(item, depth + 1) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(item, depth + 1) for item in value]
    if value is None or isinstance(value, str | int | float | bytes):
        return value
    named = _attributes(value)
    return value if named is None else {key: _plain(item, depth + 1) for key, item in named.items()}


def _attributes(value: Any) -> dict[str, Any] | None:
    """Return the attributes of an object that is a bundle of values, None of any other."""
    dump: Callable[..., dict[str, Any]] | None = getattr(value, "model_dump", None)
    if dump is not None:
        return dump(exclude_unset=True)
    if is_dataclass(value) and not isinstance(value, type):
        return {each.name: getattr(value, each.name) for each in fields(value)}
    return {key: item for key, item in vars(value).items() if key[:1] != "_"} if hasattr(value, "__dict__") else None
