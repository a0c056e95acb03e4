"""The dashboard of a real network: who logs in how, what a session may do, and when it ends."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from modvisor.supervisor import AgentNetwork
from modvisor.supervisor.http.board import page
from modvisor.supervisor.http.board.files import Files
from tests.http.serving import JSON, TALKER, Served, serving, shared_network

pytestmark = pytest.mark.anyio

Make = Callable[..., AgentNetwork]
V1 = "/admin/v1"


@pytest.fixture(scope="module")
async def shared(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Served]:
    folder = tmp_path_factory.mktemp("static")
    (folder / "index.html").write_text("<!doctype html>the page")
    patched = pytest.MonkeyPatch()
    patched.setattr(page, "Files", lambda: Files(folder))
    async with shared_network(tmp_path_factory.mktemp("board"), {"talker": TALKER}) as served:
        yield served
    patched.undo()


@asynccontextmanager
async def browser(served: Served) -> AsyncIterator[httpx.AsyncClient]:
    """A client that keeps cookies, as a browser does."""
    url = f"http://127.0.0.1:{served.network.port}"
    async with httpx.AsyncClient(base_url=url, trust_env=False, timeout=30, headers=JSON) as client:
        yield client


async def link(served: Served, **asked: Any) -> str:
    answer = await served.admin.post(f"{V1}/links", json=asked)
    assert answer.status_code == 200, answer.text
    url, _, code = answer.json()["data"]["url"].partition("/#link=")
    assert url == f"http://127.0.0.1:{served.network.port}"
    return code


async def login(client: httpx.AsyncClient, served: Served, **asked: Any) -> dict[str, Any]:
    answer = await client.post("/board/login", json={"link": await link(served, **asked)})
    assert answer.status_code == 200, answer.text
    return answer.json()["data"]


async def token(served: Served, name: str, scope: str, **more: Any) -> str:
    answer = await served.admin.post(f"{V1}/tokens", json={"name": name, "scope": scope, **more})
    return answer.json()["data"]["token"]


async def test_the_page_is_for_browsers_and_programs_get_the_answer_of_the_api(served: Served) -> None:
    async with browser(served) as client:
        shown = await client.get("/", headers={"Accept": "text/html,*/*"})
        assert shown.text == "<!doctype html>the page"
        assert "default-src 'none'" in shown.headers["content-security-policy"]
        assert (await client.get("/board/index.html")).text == shown.text
        assert (await client.get("/", headers={"Accept": "*/*"})).json()["error"] == "not_found"
        assert (await client.get("/board/nothing.js")).status_code == 404


async def test_a_link_logs_in_once_and_says_who_somebody_is(served: Served) -> None:
    async with browser(served) as client:
        code = await link(served, scope="operate")
        answer = await client.post("/board/login", json={"link": code})
        told = answer.json()["data"]
        assert told["who"].startswith("link of socket:uid ")
        assert (told["scope"], told["payloads"], told["network"]) == ("operate", False, "test")
        cookie = answer.headers["set-cookie"]
        assert cookie.startswith(f"modvisor_session_{served.network.port}=")
        assert all(part in cookie for part in ("HttpOnly", "SameSite=strict", "Path=/"))
        assert "Secure" not in cookie
        again = await client.get("/board/session")
        assert again.json()["data"]["csrf"] == told["csrf"]
    async with browser(served) as other:
        assert (await other.post("/board/login", json={"link": code})).status_code == 401
        assert (await other.get("/board/session")).status_code == 401
    records = await served.network.audit_records(3, what="operator.login")
    assert records[0]["who"] == told["who"]


async def test_a_session_does_what_its_scope_may_and_only_with_what_the_page_knows(served: Served) -> None:
    async with browser(served) as client:
        csrf = {"X-Modvisor-CSRF": (await login(client, served, scope="operate"))["csrf"]}
        assert (await client.get(f"{V1}/status")).json()["name"] == "test"
        for headers in ({}, {"X-Modvisor-CSRF": "other"}):
            refused = await client.post(f"{V1}/mods/talker/restart", headers=headers)
            assert (refused.status_code, "X-Modvisor-CSRF" in refused.json()["message"]) == (403, True)
        assert (await client.post(f"{V1}/mods/talker/restart", headers=csrf)).json()["success"]
        refused = await client.post(f"{V1}/tokens", headers=csrf, json={"name": "more", "scope": "admin"})
        assert (refused.status_code, "has a session with the scope 'operate'" in refused.text) == (403, True)
        assert (await client.get(f"{V1}/status", headers={"X-Forwarded-For": "10.0.0.5"})).status_code == 403


async def test_whoever_logs_out_is_out(served: Served) -> None:
    async with browser(served) as client:
        csrf = {"X-Modvisor-CSRF": (await login(client, served))["csrf"]}
        kept = "; ".join(f"{name}={value}" for name, value in client.cookies.items())
        assert (await client.post("/board/logout")).status_code == 403
        assert (await client.post("/board/logout", headers=csrf)).json()["success"]
        assert not client.cookies
        answer = await client.get(f"{V1}/status", headers={"Cookie": kept})
        assert answer.status_code in (401, 404)  # 404: nobody is an operator any more


async def test_a_token_logs_in_and_its_session_ends_with_it(served: Served) -> None:
    async with browser(served) as client:
        given = await token(served, "alice", "read", payloads=True, expires=3600)
        told = (await client.post("/board/login", json={"token": given})).json()["data"]
        assert (told["who"], told["scope"], told["payloads"]) == ("operator:alice", "read", True)
        listed = (await served.admin.get(f"{V1}/tokens")).json()["tokens"]
        assert told["expires_at"] == listed[0]["expires_at"]
        assert (await client.get(f"{V1}/status")).status_code == 200
        await served.network.revoke_token("alice")
        assert (await client.get("/board/session")).status_code == 401
        assert (await client.get(f"{V1}/status")).status_code in (401, 404)


@pytest.mark.parametrize("body", [{}, {"token": "a", "link": "b"}, {"link": 5}, {"password": "x"}])
async def test_a_login_names_what_is_wrong_with_it(served: Served, body: dict[str, Any]) -> None:
    async with browser(served) as client:
        answer = await client.post("/board/login", json=body)
    assert (answer.status_code, answer.json()["error"]) == (400, "bad_input")


async def test_a_link_gives_no_more_than_was_asked_for_and_says_what_is_wrong(served: Served) -> None:
    wrong = await served.admin.post(f"{V1}/links", json={"scope": "root"})
    assert "expected one of read, operate, admin" in wrong.json()["message"]
    async with browser(served) as client:
        told = await login(client, served, scope="read", payloads=True)
        assert (told["scope"], told["payloads"]) == ("read", True)


async def test_wrong_logins_make_their_address_wait(make_network: Make) -> None:
    network = make_network({"port": 0})
    async with serving(network) as served, browser(served) as client:
        codes = [(await client.post("/board/login", json={"token": f"mvt_{n}"})).status_code for n in range(20)]
        assert codes[:6] == [401] * 6
        assert codes[-1] == 429
        waiting = await client.post("/board/login", json={"link": await link(served)})
        assert (waiting.status_code, "try again in" in waiting.text) == (429, True)


async def test_without_the_page_there_is_nothing_and_no_link(make_network: Make) -> None:
    network = make_network({"port": 0}, dashboard={"enabled": False})
    async with serving(network) as served, browser(served) as client:
        assert (await client.get("/", headers={"Accept": "text/html"})).status_code == 404
        assert (await client.post("/board/login", json={"link": "x"})).status_code == 404
        refused = await served.admin.post(f"{V1}/links")
        assert (refused.status_code, "dashboard.enabled" in refused.text) == (409, True)
    assert Path(network.state_dir.root).exists()
