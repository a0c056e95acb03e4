"""`mod_event_handler` marks a method; `collect_handlers` checks and collects the marked methods.

The decorator checks nothing. An error at load time can name the mod's class, the method and the
mistake; an error inside the decorator could not name the class.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from types import FunctionType, MethodType
from typing import Any, TypeVar

from ..ipc.errors import Code, InvalidEvent, ModvisorError
from ..ipc.topic import check_pattern

F = TypeVar("F", bound=Callable[..., Any])
_MARK = "__modvisor_patterns__"


class InvalidHandler(ModvisorError):
    """A method is marked as a handler but cannot be one."""

    code = Code.INVALID_MOD


@dataclass(frozen=True, slots=True)
class Handler:
    """One method bound to one pattern.

    Attributes:
        call: the bound method, ``(event) -> EventResponse | Event | None``, plain or a coroutine
            function.
        is_async: whether ``call`` is a coroutine function. A plain function runs in a thread.
        observe: whether it gets copies of events. Its result is dropped then.
    """

    pattern: str
    name: str
    call: Callable[..., Any]
    is_async: bool
    observe: bool


def mod_event_handler(pattern: str, *, observe: bool = False) -> Callable[[F], F]:
    """Mark a method of a `BaseMod` as a handler of the events that match ``pattern``.

    The method takes the event. It returns an `EventResponse` to answer, None to pass the event on,
    or a changed `Event` to pass on in place of the original. With ``observe=True`` it gets copies,
    the network never waits for it, and its result is dropped. A method may be marked several times.

    Args:
        pattern: ``wiki.page.create``, ``wiki.*`` (any depth below ``wiki``) or ``*``. It is checked
            when the mod is loaded.
    """

    def mark(function: F) -> F:
        marks = [*getattr(function, _MARK, ()), (pattern, observe)]
        setattr(function, _MARK, marks)
        return function

    return mark


def collect_handlers(mod: object) -> list[Handler]:
    """Return a `Handler` for each mark of each method of ``mod``, in the order of definition.

    Methods of base classes come first.

    Raises:
        InvalidHandler: the message names the mod's class, the method and what was expected.
    """
    handlers = []
    for name, definition in _definitions(mod).items():
        if isinstance(definition, (staticmethod, classmethod)):
            definition = definition.__func__
        marks = getattr(definition, _MARK, None)
        if marks is None:
            continue
        bound = getattr(mod, name)
        where = f"{type(mod).__qualname__}.{name}"
        _verify_signature(where, bound)
        is_async = inspect.iscoroutinefunction(bound)
        for pattern, observe in reversed(marks):  # Python applies decorators from the bottom up
            try:
                check_pattern(pattern)
            except InvalidEvent as error:
                raise InvalidHandler(f"@mod_event_handler of {where}: {error}") from None
            handlers.append(Handler(pattern, name, bound, is_async, bool(observe)))
    return handlers


def _definitions(mod: object) -> dict[str, Any]:
    """Return what the classes of ``mod`` define, by name; where a name is overridden, the last definition."""
    found: dict[str, Any] = {}
    for base in reversed(type(mod).__mro__):
        found.update(vars(base))
    for name in found.keys() & getattr(mod, "__dict__", {}).keys():
        found[name] = inspect.getattr_static(mod, name)  # the instance has it too, and perhaps hides it
    return found


_GENERATORS = inspect.CO_GENERATOR | inspect.CO_ASYNC_GENERATOR


def _takes_one(bound: Any) -> bool:
    """Return whether this is surely an ordinary method that can be called with an event; `inspect` knows the others.

    A mod may have dozens of handlers, and `inspect.signature` takes some 30 µs for each.
    """
    function = getattr(bound, "__func__", None)
    if type(bound) is not MethodType or type(function) is not FunctionType or vars(function).keys() - {_MARK}:
        return False
    code = function.__code__
    required = code.co_argcount - len(function.__defaults__ or ())
    plain = not code.co_kwonlyargcount and not code.co_flags & _GENERATORS
    return plain and required <= 2 <= code.co_argcount


def _verify_signature(where: str, bound: Any) -> None:
    if not callable(bound):
        raise InvalidHandler(f"{where} is marked with @mod_event_handler but is not a method")
    if _takes_one(bound):
        return
    if inspect.isasyncgenfunction(bound) or inspect.isgeneratorfunction(bound):
        raise InvalidHandler(f"{where} is a generator; a handler returns an EventResponse, an Event or None")
    try:
        inspect.signature(bound).bind(None)
    except TypeError:
        raise InvalidHandler(f"{where}{inspect.signature(bound)}: a handler takes exactly (self, event)") from None
