"""`modvisor.mods.handlers`: which methods become handlers, and what an error names."""

from __future__ import annotations

from typing import Any

import pytest

from modvisor.mods import BaseMod, Event, mod_event_handler
from modvisor.mods.handlers import InvalidHandler, collect_handlers


class Base(BaseMod):
    @mod_event_handler("a.b")
    def first(self, event: Event) -> None: ...

    @mod_event_handler("a.*", observe=True)
    async def second(self, event: Event) -> None: ...


class Derived(Base):
    @mod_event_handler("c.d")
    @mod_event_handler("c.e")
    async def third(self, event: Event) -> None: ...

    @mod_event_handler("a.c")
    async def first(self, event: Event) -> None: ...  # type: ignore[override]


def test_handlers_are_collected_in_the_order_of_definition() -> None:
    found = [(handler.name, handler.pattern, handler.is_async, handler.observe) for handler in collect_handlers(Base())]
    assert found == [("first", "a.b", False, False), ("second", "a.*", True, True)]


def test_an_override_replaces_the_handler_and_several_marks_stay() -> None:
    mod = Derived()
    found = collect_handlers(mod)
    assert [(handler.name, handler.pattern) for handler in found] == [
        ("first", "a.c"), ("second", "a.*"), ("third", "c.d"), ("third", "c.e"),
    ]  # fmt: skip
    assert found[0].call == mod.first
    assert found[0].is_async


def test_an_override_without_a_mark_is_no_handler() -> None:
    class Silent(Base):
        def first(self, event: Event) -> None: ...

    assert [handler.name for handler in collect_handlers(Silent())] == ["second"]


def test_static_and_class_methods_may_be_handlers() -> None:
    class Mod(BaseMod):
        @staticmethod
        @mod_event_handler("a.b")
        def plain(event: Event) -> None: ...

        @classmethod
        @mod_event_handler("a.c")
        def of_class(cls, event: Event) -> None: ...

    assert [handler.pattern for handler in collect_handlers(Mod())] == ["a.b", "a.c"]


def mod_with(handler: Any, pattern: str = "a.b") -> BaseMod:
    return type("Broken", (BaseMod,), {"handle": mod_event_handler(pattern)(handler)})()


async def generator(self: Any, event: Event) -> Any:
    yield event


@pytest.mark.parametrize(
    ("handler", "said"),
    [
        (lambda self: None, r"Broken\.handle\(\): a handler takes exactly \(self, event\)"),
        (lambda self, event, more: None, r"Broken\.handle\(event, more\): a handler takes exactly \(self, event\)"),
        (lambda self, event, *, more: None, r"Broken\.handle\(event, \*, more\): a handler takes exactly"),
        (generator, r"Broken\.handle is a generator"),
        (type("Thing", (), {})(), r"Broken\.handle is marked with @mod_event_handler but is not a method"),
    ],
)
def test_a_method_that_cannot_be_a_handler_is_named(handler: Any, said: str) -> None:
    with pytest.raises(InvalidHandler, match=said):
        collect_handlers(mod_with(handler))


def test_what_a_mod_puts_in_place_of_a_handler_is_no_handler() -> None:
    class Hiding(Base):
        def __init__(self) -> None:
            self.second = print

    assert [handler.name for handler in collect_handlers(Hiding())] == ["first"]


@pytest.mark.parametrize(
    "handler", [lambda self, event, more=1: None, lambda self, *events: None, lambda self, event=None: None]
)
def test_a_handler_may_take_more_than_the_event_if_it_need_not(handler: Any) -> None:
    assert [handler.name for handler in collect_handlers(mod_with(handler))] == ["handle"]


def test_a_bad_pattern_is_named_when_the_mod_is_loaded() -> None:
    mod = mod_with(lambda self, event: None, "Not.A.Pattern")
    with pytest.raises(InvalidHandler, match=r"@mod_event_handler of Broken\.handle: .*Not\.A\.Pattern"):
        collect_handlers(mod)
