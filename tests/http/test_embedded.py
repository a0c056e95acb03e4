"""The requests that a server is answering: a failure is logged once and without secrets, all can be cancelled."""

from __future__ import annotations

import asyncio

import httpx
import pytest
from starlette.types import ASGIApp, Receive, Scope, Send

from modvisor.supervisor.http.embedded import OpenRequests
from modvisor.supervisor.http.routes.answers import Answer

pytestmark = pytest.mark.anyio


def asking(app: ASGIApp) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://x")


async def test_a_failure_is_answered_and_logged_without_the_query(caplog: pytest.LogCaptureFixture) -> None:
    async def fail(scope: Scope, receive: Receive, send: Send) -> None:
        raise ZeroDivisionError("our mistake")

    async with asking(OpenRequests(fail)) as client:
        answer = await client.get("/api/poll?secret=hidden")
    assert (answer.status_code, answer.json()["error"]) == (500, "internal_error")
    assert "our mistake" not in answer.text
    assert [record.getMessage() for record in caplog.records] == ["GET /api/poll failed"]
    assert "ZeroDivisionError: our mistake" in caplog.text
    assert "hidden" not in caplog.text


async def test_an_answer_that_has_begun_is_not_followed_by_another(caplog: pytest.LogCaptureFixture) -> None:
    async def fail_late(scope: Scope, receive: Receive, send: Send) -> None:
        await Answer(b"{}")(scope, receive, send)
        raise ZeroDivisionError("our mistake")

    async with asking(OpenRequests(fail_late)) as client:
        answer = await client.get("/")
    assert (answer.status_code, answer.content) == (200, b"{}")
    assert "our mistake" in caplog.text


async def test_cancelled_requests_are_answered_and_later_ones_are_not_touched() -> None:
    begun = asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == "/hang":
            begun.set()
            await asyncio.Event().wait()
        await Answer(b"{}")(scope, receive, send)

    requests = OpenRequests(app)
    async with asking(requests) as client:
        hanging = asyncio.create_task(client.get("/hang"))
        await begun.wait()
        requests.cancel()
        answer = await hanging
        assert (answer.status_code, answer.json()["error"]) == (503, "not_running")
        assert (await client.get("/")).status_code == 200
    assert not requests._scopes
