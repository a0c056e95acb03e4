from __future__ import annotations

import pytest

from modvisor.ipc.address import InvalidId, check_agent_id, is_mod_path, mod_id_of, parse_address


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("alice", ("agent", "alice")),
        ("agent:Alice-1", ("agent", "Alice-1")),
        ("mod:wiki@2", ("mod", "wiki@2")),
        ("mod:pkg.mods.wiki", ("mod", "pkg.mods.wiki")),
        ("mod:./wiki", ("mod", "./wiki")),
        ("channel:#general", ("channel", "#general")),
        ("broadcast", ("agent", "broadcast")),
        ("system", ("system", "system")),
    ],
)
def test_addresses(text: str, address: tuple[str, str]) -> None:
    assert parse_address(text) == address


@pytest.mark.parametrize("text", ["", "agent:", "agent:a b", "agent:..", "x:y", "mod:A B", "agent:" + "a" * 200, "a/b"])
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(InvalidId):
        parse_address(text)


@pytest.mark.parametrize(
    ("path", "mod_id"),
    [
        ("pkg.mods.wiki", "wiki"),
        ("pkg.mods.wiki.mod", "wiki"),
        ("pkg.module:Class", "module"),
        ("pkg.wiki.mod:Class", "wiki"),
        ("./my-wiki", "my-wiki"),
        ("wiki", "wiki"),
    ],
)
def test_the_id_that_follows_from_a_path(path: str, mod_id: str) -> None:
    assert is_mod_path(path)
    assert mod_id_of(path) == mod_id


@pytest.mark.parametrize("path", ["", "../x", "./a/b", "./..", "a..b", "a:b:c", "a:1b", "/abs", "./", "a b"])
def test_what_is_no_mod_path(path: str) -> None:
    assert not is_mod_path(path)


def test_a_folder_in_capitals_needs_an_id() -> None:
    with pytest.raises(InvalidId, match="give the mod an 'id' of its own"):
        mod_id_of("./Wiki")


@pytest.mark.parametrize("agent_id", ["broadcast", "all", "system"])
def test_a_reserved_id_names_no_agent(agent_id: str) -> None:
    with pytest.raises(InvalidId, match="is reserved"):
        check_agent_id(agent_id)


@pytest.mark.parametrize("text", ["agent:alice", "channel:#general", "mod:./wiki", "system:system"])
def test_an_address_is_written_as_it_is_read(text: str) -> None:
    assert str(parse_address(text)) == text
