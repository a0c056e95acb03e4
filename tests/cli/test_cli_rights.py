"""Invites and hashes of passwords on the command line."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest
from argon2.low_level import Type, verify_secret

from modvisor.supervisor.cli.commands import passwords
from modvisor.supervisor.config import load_config

from .conftest import Command, Served

Serve = Callable[..., Served]
NETWORK = """
network: {name: demo, port: 0}
agent_groups: {sensors: {}}
"""


def is_of(stored: str, word: str) -> bool:
    return verify_secret(stored.encode(), hashlib.sha256(word.encode()).hexdigest().encode(), Type.ID)


def test_a_network_file_takes_what_hash_password_prints(cli: Command, tmp_path: Path) -> None:
    stored = cli.ok("hash-password", stdin="se$ame böok\n").strip()
    for written in (f"\n  g:\n    password_hash: {stored}", f" {{g: {{password_hash: '{stored}'}}}}"):
        (tmp_path / "network.yaml").write_text(f"network: {{name: n}}\nagent_groups:{written}\n")
        config = load_config("network.yaml")
        assert (config.agent_groups["g"].password_hash, config.warnings) == (stored, ())
    assert is_of(stored, "se$ame böok")
    assert is_of(cli.json("hash-password", stdin="x")["password_hash"], "x")
    known = hashlib.sha256(b"x").hexdigest().upper()
    assert is_of(cli.ok("hash-password", "--hashed", stdin=f"{known}\n").strip(), "x"), "without the password"
    assert "64 hexadecimal digits" in cli("hash-password", "--hashed", stdin="x").stderr


def test_a_plain_sha_256_works_with_a_warning(cli: Command, tmp_path: Path) -> None:
    plain = hashlib.sha256(b"x").hexdigest()
    (tmp_path / "network.yaml").write_text(f"network: {{name: n}}\nagent_groups:\n  g: {{password_hash: '{plain}'}}\n")
    (warning,) = cli.json("validate", "network.yaml")["warnings"]
    assert (warning["key"], "'modvisor hash-password' prints" in warning["message"]) == (
        "agent_groups.g.password_hash", True,
    )  # fmt: skip
    assert plain not in str(warning)


@pytest.mark.parametrize(("typed", "code"), [(["x", "x"], 0), (["x", "y"], 2), (["", ""], 2)])
def test_a_password_is_asked_for_twice(
    cli: Command, monkeypatch: pytest.MonkeyPatch, typed: list[str], code: int
) -> None:
    answers = iter(typed)
    monkeypatch.setattr(passwords, "getpass", lambda prompt: next(answers))
    monkeypatch.setattr(passwords, "_is_terminal", lambda: True)
    result = cli("hash-password")
    assert result.exit_code == code
    assert not code or "password" in result.stderr


def test_nothing_is_no_password(cli: Command) -> None:
    result = cli("hash-password", stdin="\n")
    assert (result.exit_code, "the password is empty" in result.stderr) == (2, True)


def test_invites_are_made_listed_and_revoked(cli: Command, serve: Serve) -> None:
    serve(network=NETWORK)
    made = cli("invite", "create", "--group", "sensors", "--agent", "bot-*", "--expires", "90s", "--uses", "2")
    invite_id = made.stdout.strip().split("-")[1]
    assert f"invite {invite_id}: for bot-*, in group sensors, 2 times, until" in made.stderr
    (listed,) = cli.json("invite", "list")["invites"]
    assert (listed["invite_id"], listed["uses"], listed["agent_group"]) == (invite_id, 2, "sensors")
    table = cli.ok("invite", "list")
    assert (invite_id in table, made.stdout.strip() in table) == (True, False)
    assert cli.ok("invite", "revoke", invite_id) == f"invite {invite_id} revoked\n"
    assert cli.ok("invite", "list") == "no invites\n"
    assert cli("invite", "revoke", invite_id).exit_code == 1
    assert cli.json("invite", "create", "--group", "nobody", code=1)["data"]["error"] == "no_such_group"
    assert cli("invite", "create", "--expires", "soon").exit_code == 2
