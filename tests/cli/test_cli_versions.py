"""Versions of a mod on the command line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from .conftest import Command, Served

NETWORK = """
network: {name: demo, port: 0}
agent_groups: {beta: {}}
mods:
  - path: ./echo
  - path: ./other
"""


@pytest.fixture
def versions(serve: Callable[..., Served], write_mod: Callable[..., str], tmp_path: Path, cli: Command) -> Served:
    """Two versions of the echo mod, with another mod between them."""
    write_mod("other")
    served = serve(network=NETWORK)
    cli.ok("load", "./echo", "--id", "echo@2", "--percent", "10", "--group", "beta", "--agent", "alice")
    return served


def answered_by(cli: Command, mod: str, *args: str) -> bool:
    before = cli.json("stats", mod)["traffic"]["answered"]
    cli.ok("send", "test.ping", *args)
    return cli.json("stats", mod)["traffic"]["answered"] == before + 1


def test_ps_shows_versions_below_each_other_with_who_has_which(versions: Served, cli: Command) -> None:
    cli.ok("send", "test.ping", "--as", "agent:alice")
    header, *lines = cli.ok("ps").splitlines()
    assert header.split()[-3:] == ["RESTARTS", "SHARE", "AUDIENCE"]
    assert [line.split()[0] for line in lines] == ["echo", "echo@2", "other"]
    assert lines[0].rstrip().endswith("everyone else")
    assert lines[1].rstrip().endswith("100.0 %  10 % of the sources, group beta, agent alice")
    stats = cli.ok("stats", "echo@2")
    assert "10 % of the sources, group beta, agent alice" in stats
    assert "100.0 %" in stats


def test_change_show_promote_and_back(versions: Served, cli: Command) -> None:
    assert cli.ok("audience", "echo@2", "--percent", "0", "--agent", "bob") == (
        "mod echo@2 reaches group beta, agent bob now, before: 10 % of the sources, group beta, agent alice\n"
    )
    first, header, *lines = cli.ok("audience", "echo").splitlines()
    assert first == "the default version of echo is echo"
    assert header.split() == [
        *("ID", "VERSION", "STATE", "AUDIENCE", "SHARE", "IN", "FAILED"),
        *("P50", "ms", "P99", "ms"),
    ]  # fmt: skip
    assert [line.split()[0] for line in lines] == ["echo", "echo@2"]
    assert "group beta, agent bob" in lines[1]
    assert answered_by(cli, "echo@2", "--as", "agent:bob")
    assert answered_by(cli, "echo", "--as", "agent:alice")

    shown = cli.ok("audience", "echo@2", "--only", "--agent", "alice", "--show").splitlines()
    assert shown[-1].split()[3:5] == ["agent", "alice"]
    assert cli.json("audience", "echo@2")["data"]["versions"][1]["audience"] == {
        "percent": 0.0, "groups": [], "agents": ["agent:alice"],
    }  # fmt: skip
    assert cli.ok("promote", "echo@2").startswith(
        "mod echo@2 is the version of echo for everybody now; echo stays loaded"
    )
    assert answered_by(cli, "echo@2", "--as", "agent:carol")
    assert cli.ok("rollback", "echo").startswith(
        "echo is divided as before its last promotion: echo reaches everyone else"
    )
    assert answered_by(cli, "echo", "--as", "agent:carol")
    cli.ok("audience", "echo@2", "--everyone")
    assert cli.json("audience", "echo")["data"]["versions"][1]["audience"] is None


def test_what_cannot_be(versions: Served, cli: Command) -> None:
    refused = cli("audience", "echo@2", "--everyone", "--percent", "5")
    assert refused.exit_code == 2
    assert "--everyone stands alone" in refused.stderr
    assert cli("audience", "echo@2", "--percent", "101").exit_code == 2
    refused = cli("audience", "echo@2", "--group", "bta")
    assert refused.exit_code == 4
    assert "no group 'bta' in agent_groups; did you mean 'beta'?" in refused.stderr
    refused = cli("rollback", "echo")
    assert refused.exit_code == 1
    assert "no version of echo was promoted, so there is nothing to go back to (conflict)" in refused.stderr
    refused = cli("send", "test.ping", "--to", "mod:echo@2", "--as", "agent:carol")
    assert "not_in_audience" in refused.stderr


def test_a_changed_file_is_applied_without_a_reload(versions: Served, cli: Command, tmp_path: Path) -> None:
    pid = cli.json("stats", "echo")["pid"]
    (tmp_path / "network.yaml").write_text(NETWORK.replace("path: ./echo", "{path: ./echo, audience: {percent: 20}}"))
    cli.ok("reconfigure")
    figures = cli.json("stats", "echo")
    assert (figures["pid"], figures["reaches"]) == (pid, "20 % of the sources")
