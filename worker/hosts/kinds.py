"""Which kind of mod a class is, known from its base classes."""

from __future__ import annotations

import importlib
import sys
from typing import NamedTuple, cast

from ...mods.base import BaseMod
from .host import Kind
from .ours import OurHost


class _Framework(NamedTuple):
    """Where a framework defines the base class of its mods, and which class of ours hosts them."""

    module: str
    base: str
    host_module: str
    host: str


_OTHERS = (_Framework("openagents.sdk.base_mod", "BaseMod", f"{__package__}.openagents.host", "OpenAgentsHost"),)


def base_of(cls: type) -> type | None:
    """Return the framework's base class that ``cls`` is a subclass of, or None if it is no mod class.

    A base class itself is none. A framework that nobody has imported has no mods here.
    """
    for base in (BaseMod, *filter(None, map(_base, _OTHERS))):
        if base in cls.__mro__:
            return None if cls is base else base
    return None


def is_mod_class(value: object) -> bool:
    """Return whether ``value`` is the class of a mod that a worker can run."""
    return isinstance(value, type) and base_of(value) is not None


def is_ours(cls: type) -> bool:
    """Return whether a mod class is one of modvisor, not of another framework."""
    return BaseMod in cls.__mro__


def kind_of(cls: type) -> Kind:
    """Return what hosts a mod class."""
    if is_ours(cls):
        return cast(Kind, OurHost)
    for framework in _OTHERS:
        if _base(framework) in cls.__mro__:
            # Late, because it imports the framework.
            return getattr(importlib.import_module(framework.host_module), framework.host)
    raise TypeError(f"{cls.__qualname__} is not the class of a mod")


def _base(framework: _Framework) -> type | None:
    return getattr(sys.modules.get(framework.module), framework.base, None)
