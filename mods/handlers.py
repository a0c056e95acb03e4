"""`mod_event_handler` marks; `collect_handlers` verifies, and names the culprit: mod, method, what is wrong."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from ..ipc.errors import Code, InvalidEvent, ModvisorError
from ..ipc.topic import check_pattern

F = TypeVar("F", bound=Callable[..., Any])
_MARK = "__modvisor_patterns__"


class InvalidHandler(ModvisorError):
    """A method marked as handler that cannot be one."""

    code = Code.INVALID_MOD


@dataclass(frozen=True, slots=True)
class Handler:
    """One method bound to one pattern.

    Attributes:
        call: the bound method, ``(event) -> EventResponse | Event | None`` or a coroutine function of that.
        is_async: whether ``call`` is a coroutine function; a plain one runs in a thread.
        observe: gets copies and its result is dropped.
    """

    pattern: str
    name: str
    call: Callable[..., Any]
    is_async: bool
    observe: bool


def mod_event_handler(pattern: str, *, observe: bool = False) -> Callable[[F], F]:
    """Mark a method of a `BaseMod` as handler of the events that match ``pattern``.

    The method takes the event and returns an `EventResponse` (the answer), a changed `Event` (passed on instead of the
    original) or None (passed on). With ``observe=True`` it gets copies, is never waited for, and its result is dropped.
    May be given several times.

    Args:
        pattern: ``wiki.page.create``, ``wiki.*`` (any depth below ``wiki``) or ``*``. Checked when the mod is loaded.
    """

    def mark(function: F) -> F:
        marks = [*getattr(function, _MARK, ()), (pattern, observe)]
        setattr(function, _MARK, marks)
        return function

    return mark


def collect_handlers(mod: object) -> list[Handler]:
    """Every marked method of ``mod``, once each, in the order of definition (base classes first).

    Raises:
        InvalidHandler: names the mod's class, the method and what was expected.
    """
    handlers = []
    for name in _method_names(type(mod)):
        definition = inspect.getattr_static(mod, name)
        if isinstance(definition, (staticmethod, classmethod)):
            definition = definition.__func__
        marks = getattr(definition, _MARK, None)
        if marks is None:
            continue
        bound = getattr(mod, name)
        where = f"{type(mod).__qualname__}.{name}"
        _verify_signature(where, bound)
        is_async = inspect.iscoroutinefunction(bound)
        for pattern, observe in reversed(marks):  # decorators apply from the bottom up
            try:
                check_pattern(pattern)
            except InvalidEvent as error:
                raise InvalidHandler(f"@mod_event_handler of {where}: {error}") from None
            handlers.append(Handler(pattern, name, bound, is_async, bool(observe)))
    return handlers


def _method_names(cls: type) -> list[str]:
    """Attribute names of the class, each once: an overridden handler runs as its override, not twice."""
    return list(dict.fromkeys(name for base in reversed(cls.__mro__) for name in vars(base)))


def _verify_signature(where: str, bound: Any) -> None:
    if not callable(bound):
        raise InvalidHandler(f"{where} is marked with @mod_event_handler but is not a method")
    if inspect.isasyncgenfunction(bound) or inspect.isgeneratorfunction(bound):
        raise InvalidHandler(f"{where} is a generator; a handler returns an EventResponse, an Event or None")
    try:
        inspect.signature(bound).bind(None)
    except TypeError:
        raise InvalidHandler(f"{where}{inspect.signature(bound)}: a handler takes exactly (self, event)") from None
