"""Who is loaded at a start: what the journal kept, and what the network file says. Pure."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from modvisor.supervisor.config import ModConfig, PlaceOf, entry_hash, mod_config, parse_config
from modvisor.supervisor.fleet.registry.kept import Division, divide, kept_entry


def entries(*mods: Any) -> dict[str, ModConfig]:
    config = parse_config({"network": {"name": "x"}, "mods": list(mods)}, base_dir=Path("/"))
    return {mod.mod_id: mod for mod in config.mods}


def kept(mod_id: str, instead_of: ModConfig | None = None, **more: Any) -> ModConfig:
    place = None if instead_of is None else [instead_of.mod_id, entry_hash(instead_of)]
    return mod_config(f"pkg.{mod_id}", base_dir=Path("/"), mod_id=mod_id, instead_of=place, **more)


def told(made: Division) -> dict[str, Any]:
    return {
        "instead": {name: mod.mod_id for name, mod in made.instead.items()},
        "others": [mod.mod_id for mod in made.others],
        "superseded": [(mod.mod_id, entry) for mod, entry in made.superseded],
        "named": made.named,
    }


NOTHING: dict[str, Any] = {"instead": {}, "others": [], "superseded": [], "named": []}


def test_a_mod_has_the_place_that_a_swap_gave_it_as_long_as_the_entry_is_the_same() -> None:
    file = entries("pkg.a", "pkg.b")
    new = kept("c", file["a"])
    assert told(divide([new, kept("d")], file)) == {**NOTHING, "instead": {"a": "c"}, "others": ["d"]}
    edited = entries({"path": "pkg.a", "config": {"x": 1}}, "pkg.b")
    assert told(divide([new], edited)) == {**NOTHING, "superseded": [("c", "a")]}
    assert told(divide([new], entries("pkg.b"))) == {**NOTHING, "others": ["c"]}


def test_the_file_rules_over_a_mod_that_it_names_unless_that_has_a_place() -> None:
    file = entries("pkg.a", "pkg.c")
    assert told(divide([kept("c")], file)) == {**NOTHING, "named": ["c"]}
    made = divide([kept("c", file["a"], config={"old": True})], file)
    assert told(made) == {**NOTHING, "instead": {"a": "c"}}
    assert made.instead["a"].config == {}, "the file says how it is loaded"
    assert made.instead["a"].instead_of == PlaceOf("a", entry_hash(file["a"]))


def test_a_mod_of_the_file_that_was_loaded_beside_the_holder_of_its_place_is_loaded_again() -> None:
    file = entries("pkg.a")
    for order in ([kept("a"), kept("c", file["a"])], [kept("c", file["a"]), kept("a")]):
        assert told(divide(order, file)) == {**NOTHING, "instead": {"a": "c"}, "others": ["a"]}


def test_a_place_has_one_holder_and_an_alias_of_the_file_is_nobody_elses() -> None:
    file = entries("pkg.a", "pkg.b")
    made = divide([kept("c", file["a"]), kept("d", file["a"], aliases=["b", "x"])], file)
    assert told(made) == {**NOTHING, "instead": {"a": "c"}, "others": ["d"]}
    assert made.others[0].aliases == {"x"}


def test_the_holder_of_a_place_gives_an_alias_to_the_mod_of_the_file_that_has_it_as_its_id() -> None:
    file = entries("pkg.b", "pkg.d")
    made = divide([kept("c", file["b"], aliases=["b", "d"])], file)
    assert told(made) == {**NOTHING, "instead": {"b": "c"}}
    assert made.instead["b"].aliases == {"b"}


def test_an_alias_tells_a_swap_where_nothing_else_does() -> None:
    file = entries("pkg.a")
    assert told(divide([kept("c", aliases=["a"])], file)) == {**NOTHING, "instead": {"a": "c"}}


def test_what_is_kept_is_read_back() -> None:
    (entry,) = entries({"path": "pkg.a", "limits": {"queue": 3}}).values()
    record = kept_entry(kept("c", entry, durable=True), None, 4, None)
    assert record is not None
    again = mod_config(record.path, base_dir=Path("/"), mod_id=record.mod_id, **record.spec)
    assert (again.instead_of, again.durable, record.position) == (PlaceOf("a", entry_hash(entry)), True, 4)
    assert kept_entry(entry, None, 0, None) is None, "the file rules"


def test_the_hash_of_an_entry_is_of_what_it_says() -> None:
    def of(**more: Any) -> str:
        (entry,) = entries({"path": "pkg.a", **more}).values()
        return entry_hash(entry)

    said = [
        {}, {"config": {"x": 1}}, {"limits": {"queue": 3}}, {"limits": {"queue": 4}}, {"audience": {"percent": 5}},
        {"env": {"A": "b"}}, {"durable": True}, {"requires": ["x>=1"]}, {"id": "other"},
    ]  # fmt: skip
    assert len({of(**more) for more in said}) == len(said)
    assert of(limits={"queue": 3}) == of(limits={"queue": 3})
