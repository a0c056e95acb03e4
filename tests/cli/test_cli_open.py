"""``modvisor open``: the link that it prints logs in, and a browser gets it if there is one."""

from __future__ import annotations

import webbrowser
from typing import Any

import httpx
import pytest

from tests.http.serving import JSON

from .conftest import Command, Served


def login(link: str) -> dict[str, Any]:
    url, _, code = link.strip().partition("/#link=")
    answer = httpx.post(f"{url}/board/login", json={"link": code}, headers=JSON, trust_env=False)
    assert answer.status_code == 200, answer.text
    return answer.json()["data"]


def test_the_link_logs_in_with_the_scope_that_was_asked_for(cli: Command, asked: Served) -> None:
    link = cli.ok("open", "--scope", "read", "--print").splitlines()[0]
    told = login(link)
    assert (told["scope"], told["payloads"]) == ("read", False)
    document = cli.json("open", "--scope", "operate", "--payloads")
    assert document["data"]["expires_in"] == 60
    assert login(document["data"]["url"])["payloads"] is True


def test_a_browser_gets_the_link_and_without_one_it_is_printed(
    cli: Command, asked: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []

    class Browser(webbrowser.BaseBrowser):
        def open(self, url: str, new: int = 0, autoraise: bool = True) -> bool:
            opened.append(url)
            return True

    def no_browser() -> Any:
        raise webbrowser.Error("no browser")

    monkeypatch.setattr(webbrowser, "get", Browser)
    assert "#link=" not in cli.ok("open")
    assert login(opened[0])["scope"] == "admin"
    monkeypatch.setattr(webbrowser, "get", no_browser)
    assert login(cli.ok("open").splitlines()[0])["scope"] == "admin"


def test_a_wrong_scope_is_a_usage_error(cli: Command, asked: Served) -> None:
    wrong = cli("open", "--scope", "root")
    assert (wrong.exit_code, "read, operate, admin" in wrong.output) == (2, True)
