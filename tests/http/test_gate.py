"""The gate before the admin API on the TCP port: which requests are for it, who passes, what a refusal says."""

from __future__ import annotations

import httpx
import pytest
from starlette.types import ASGIApp, Receive, Scope, Send

from modvisor.supervisor.http.answers import Answer
from modvisor.supervisor.http.server import AdminGate

pytestmark = pytest.mark.anyio

RIGHT = {"Authorization": "Bearer sésame".encode()}


def answering(word: str) -> ASGIApp:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await Answer({"app": word})(scope, receive, send)

    return app


def asking(client: str = "127.0.0.1") -> httpx.AsyncClient:
    gate = AdminGate(answering("agents"), answering("admin"), "sésame")
    return httpx.AsyncClient(transport=httpx.ASGITransport(gate, client=(client, 5)), base_url="http://x")


@pytest.mark.parametrize(
    ("path", "app"),
    [
        ("/admin/v1/status", "admin"), ("/admin", "admin"), ("/admin/", "admin"), ("/api/health", "agents"),
        ("/administrator", "agents"), ("/api/admin/v1", "agents"), ("/", "agents"),
    ],
)  # fmt: skip
async def test_which_requests_are_for_the_operator(path: str, app: str) -> None:
    async with asking() as client:
        assert (await client.get(path, headers=RIGHT)).json() == {"app": app}
        assert (await client.get(path)).status_code == (401 if app == "admin" else 200)


NO_BEARER = (b"Basic s\xc3\xa9same", b"s\xc3\xa9same")


@pytest.mark.parametrize(
    "token",
    [b"", b"Bearer", b"Bearer ", b"Bearer sesame", b"Basic s\xc3\xa9same", b"Bearer s\xe9same", b"s\xc3\xa9same"],
)
async def test_a_wrong_token_is_refused_and_told_what_to_send(token: bytes, caplog: pytest.LogCaptureFixture) -> None:
    async with asking() as client:
        answer = await client.get("/admin/v1/status?a=b", headers={"Authorization": token})
    assert (answer.status_code, answer.json()["error"]) == (401, "unauthenticated")
    assert answer.headers["www-authenticate"] == "Bearer"
    assert "admin.token" in answer.json()["message"]
    assert answer.json()["message"].startswith("send the header") == (token in (b"", b"Bearer", b"Bearer ", *NO_BEARER))
    assert "refused GET /admin/v1/status from" in caplog.text


@pytest.mark.parametrize("header", ["Forwarded", "X-Forwarded-For", "X-Real-IP"])
async def test_a_proxy_on_this_machine_is_not_this_machine(header: str) -> None:
    async with asking() as client:
        answer = await client.get("/admin/v1/status", headers={**RIGHT, header: b"10.0.0.5"})
    assert (answer.status_code, answer.json()["error"]) == (403, "forbidden")
    assert "www-authenticate" not in answer.headers


async def test_another_machine_is_refused_even_with_the_token() -> None:
    async with asking("10.0.0.5") as client:
        assert (await client.get("/admin/v1/status", headers=RIGHT)).status_code == 403
        assert (await client.get("/api/health")).status_code == 200


async def test_guesses_of_the_token_make_their_address_wait_and_are_summed_in_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with asking() as client:
        codes = [
            (await client.get("/admin/v1/status", headers={"Authorization": f"Bearer {n}"})).status_code
            for n in range(200)
        ]
        assert codes[:6] == [401] * 6
        assert codes.count(401) <= 8
        waiting = await client.get("/admin/v1/status", headers=RIGHT)
        assert (waiting.status_code, waiting.json()["error"]) == (429, "too_many")
        assert "try again in" in waiting.json()["message"]
        assert (await client.get("/admin/v1/status")).status_code == 401, "a missing token is no guess"
    lines = [record.getMessage() for record in caplog.records if record.name == "modvisor.refused"]
    assert len(lines) == 2
