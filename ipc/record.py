"""`Record`: the base of what travels. A Struct of msgspec, or a slotted dataclass where msgspec is missing.

msgspec makes, encodes and decodes a Struct in C, five times faster than a dataclass. A mod may run
in an interpreter of its own, where only msgpack is certain to be there. Both kinds have the same
fields, checks, `repr` and equality, and `dataclasses.replace` works with both.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, TypeVar

T = TypeVar("T")

if TYPE_CHECKING:
    from dataclasses import field as field
    from typing import dataclass_transform

    import msgspec as msgspec

    @dataclass_transform(field_specifiers=(dataclasses.field,))
    class Record:
        def __init_subclass__(cls, array_like: bool = False, tag: int | None = None, gc: bool = True) -> None: ...
        def __copy__(self: T) -> T: ...

    def record(cls: type[T]) -> type[T]: ...
else:
    try:
        import msgspec
    except ImportError:
        msgspec = None
        field = dataclasses.field

        class Record:
            __slots__ = ()

            def __init_subclass__(cls, **_how_msgspec_reads_it):
                super().__init_subclass__()

            def __copy__(self):
                """Return a copy with the same values, without the checks."""
                twin = object.__new__(type(self))
                for name in self.__dataclass_fields__:
                    setattr(twin, name, getattr(self, name))
                return twin

        def record(cls):
            """Complete a subclass of `Record`."""
            return dataclasses.dataclass(slots=True)(cls)

    else:
        field = msgspec.field

        class Record(msgspec.Struct, omit_defaults=True, forbid_unknown_fields=True):
            """Its fields are decoded strictly: what a newer peer may have added takes the long way."""

        def record(cls):
            """Complete a subclass of `Record`."""
            cls.__dataclass_fields__ = _dataclass_of(cls).__dataclass_fields__  # so `dataclasses.replace` works
            return cls


def _dataclass_of(cls: Any) -> Any:
    """Return a dataclass with the same fields."""
    names, defaults = cls.__struct_fields__, cls.__struct_defaults__
    required = len(names) - len(defaults)
    fields: list[Any] = [(name, Any) for name in names[:required]]
    for name, default in zip(names[required:], defaults, strict=True):
        fields.append((name, Any, _as_dataclass_field(default)))
    return dataclasses.make_dataclass(cls.__name__, fields)


def _as_dataclass_field(default: Any) -> Any:
    if hasattr(default, "factory"):
        return dataclasses.field(default_factory=default.factory)
    return dataclasses.field(default=default)
