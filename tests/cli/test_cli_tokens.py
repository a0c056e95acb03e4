"""``modvisor token``: over the socket, over HTTPS, and while no network runs."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.http.certificates import Certificates

from .conftest import Command, Served

WITHOUT = "network: {name: demo, port: 0}\n"


def test_a_token_made_while_nothing_ran_opens_the_next_network(
    cli: Command, serve: Callable[..., Served], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    serve(WITHOUT).stop()
    made = cli.json("token", "create", "ci", "--scope", "read", "--expires", "30d", "--payloads")["data"]
    assert (made["scope"], made["payloads"]) == ("read", True)
    assert [each["name"] for each in cli.json("token", "list")["tokens"]] == ["ci"]
    assert "read, read_payloads" in cli.ok("token", "list")
    assert cli("token", "create", "ci", "--scope", "admin").exit_code == 1
    served = serve(None)
    monkeypatch.setenv("MODVISOR_TOKEN", made["token"])
    assert cli.json("ps", "--url", served.url)
    assert cli("stop", "--url", served.url).exit_code == 6
    assert "revoked" in cli.ok("token", "revoke", "ci")
    assert cli("ps", "--url", served.url).exit_code != 0
    served.stop()
    assert "no tokens" in cli.ok("token", "list")
    assert cli.json("audit", "verify")["success"]
    records = cli.json("audit", "show", "--what", "token")["records"]
    assert [(each["what"], each["on"], each["who"].split(":")[0]) for each in records if each["outcome"] == "ok"] == [
        ("token.create", "ci", "command"),
        ("token.revoke", "ci", "socket"),
    ]


def test_a_token_works_over_https(
    cli: Command, serve: Callable[..., Served], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    Certificates.at(tmp_path)
    served = serve("network: {name: demo, port: 0, tls: {cert: cert.pem, key: key.pem}}\n")
    token = cli.ok("token", "create", "ci", "--scope", "admin").splitlines()[0]
    monkeypatch.setenv("MODVISOR_TOKEN", token)
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    url = served.url.replace("http:", "https:")
    assert cli.json("ps", "--url", url)["mods"] == []
    monkeypatch.delenv("SSL_CERT_FILE")
    assert "certificate verify failed" in cli("ps", "--url", url).output


def test_what_cannot_be_asked_is_told(cli: Command, serve: Callable[..., Served], tmp_path: Path) -> None:
    (tmp_path / "network.yaml").write_text(WITHOUT)
    assert cli("token", "list").exit_code == 3
    assert "none has left a journal" in cli("token", "list").output
    serve(None)
    assert "expected one of read, operate, admin" in cli("token", "create", "ci", "--scope", "all").output
    assert "--expires" in cli("token", "create", "ci", "--scope", "read", "--expires", "soon").output


# -- the audit


def audit_lines(served: Served) -> list[dict[str, Any]]:
    file = served.network.state_dir.root / "audit" / "audit.jsonl"
    return [json.loads(line) for line in file.read_text().splitlines()]


def test_the_audit_is_shown_and_verified_while_the_network_runs_and_after(cli: Command, served: Served) -> None:
    cli.ok("reload", "echo")
    cli.ok("restart", "echo")
    shown = cli.json("audit", "show", "--what", "mod.reload")["records"]
    assert [(each["on"], each["outcome"]) for each in shown] == [("echo", "asked"), ("echo", "ok")]
    assert shown[0]["who"].startswith("socket:uid ")
    assert len(cli.json("audit", "show", "-n", "1")["records"]) == 1
    assert cli.json("audit", "show", "--who", "nobody")["records"] == []
    assert cli.json("audit", "show", "--on", "echo", "--since", "1h")["records"] != []
    assert "mod.restart echo  ok" in cli.ok("audit", "show")
    assert "the audit is sound" in cli.ok("audit", "verify")
    served.stop()
    assert cli.json("audit", "verify")["success"]
    assert cli.json("audit", "verify", "--state", ".modvisor")["success"]


@pytest.mark.parametrize(
    ("spoil", "finding"),
    [
        (
            lambda lines: [lines[0].replace(b'"pid"', b'"pit"'), *lines[1:]],
            "line 1: changed, or not written by the network",
        ),
        (lambda lines: [lines[0], *lines[2:]], "record 2 is missing: removed"),
        (lambda lines: [lines[1], lines[0], *lines[2:]], "stands behind record"),
        (lambda lines: lines[:-1], "missing at the end: the journal knows of record"),
        (lambda lines: [], "missing at the end: the journal knows of record"),
    ],
)
def test_what_was_done_to_the_audit_is_found(
    cli: Command, serve: Callable[..., Served], spoil: Callable[[list[bytes]], list[bytes]], finding: str
) -> None:
    served = serve()
    cli.ok("reload", "echo")
    served.stop()
    file = served.network.state_dir.root / "audit" / "audit.jsonl"
    file.write_bytes(b"".join(spoil(file.read_bytes().splitlines(keepends=True))))
    found = cli.json("audit", "verify", code=1)
    assert [text for text in found["findings"] if finding in text]
    assert "the audit is not as the network wrote it" in cli("audit", "verify").output


def test_a_head_that_was_noted_elsewhere_finds_a_cut_that_the_journal_hides(
    cli: Command, serve: Callable[..., Served]
) -> None:
    served = serve()
    served.stop()
    root = served.network.state_dir.root
    newest = audit_lines(served)[-1]
    noted = f"{newest['n']}:{newest['mac'][:32]}"
    assert cli.json("audit", "verify", "--head", noted)["success"]
    file = root / "audit" / "audit.jsonl"
    file.write_bytes(b"".join(file.read_bytes().splitlines(keepends=True)[:-1]))
    (root / "network.db").unlink()
    assert cli.json("audit", "verify")["success"]
    assert "somebody noted record" in cli("audit", "verify", "--head", noted).output


def test_what_cannot_be_verified_is_told(cli: Command, serve: Callable[..., Served], tmp_path: Path) -> None:
    served = serve("network: {name: demo}\naudit: off\n")
    served.stop()
    assert "audit.key: No such file" in cli("audit", "verify").output
    (tmp_path / "key").write_text("k" * 40)
    assert "holds no audit" in cli("audit", "verify", "--key-file", "key").output
    assert "expected NUMBER:MAC" in cli("audit", "verify", "--key-file", "key", "--head", "7").output
    assert cli("audit", "verify", "--url", "http://127.0.0.1:1").exit_code == 2
    assert cli.ok("audit", "show") == "no records\n"
