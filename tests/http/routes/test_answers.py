"""Answers without a network: statuses, one shape for failures, applications that answer everything in JSON."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest
from starlette.requests import Request
from starlette.responses import Response

from modvisor.ipc.errors import Code, ModvisorError
from modvisor.ipc.event import Event, EventResponse
from modvisor.supervisor.http.content.failures import failure_body
from modvisor.supervisor.http.routes.answers import (
    Answer,
    delete,
    event_answer,
    failure,
    get,
    json_app,
    post,
    response_answer,
    response_body,
)
from modvisor.supervisor.http.routes.params import Spec

pytestmark = pytest.mark.anyio


def body_of(answer: Response) -> Any:
    return json.loads(bytes(answer.body))


def test_a_failure_has_one_shape() -> None:
    assert failure_body(Code.NO_SUCH_MOD, "no", mod="wiki") == {
        "success": False, "error": "no_such_mod", "message": "no", "error_message": "no",
        "data": {"error": "no_such_mod", "mod": "wiki"},
    }  # fmt: skip
    assert failure_body(None, "no", {"a": 1})["error"] is None
    assert failure_body("own", "no", {"a": 1})["data"] == {"a": 1}


def test_a_failure_has_the_status_of_its_code_unless_it_names_another() -> None:
    assert [failure("needed", "").status_code, failure("own", "").status_code] == [409, 422]
    assert failure("bad_config", "", 422).status_code == 422


@pytest.mark.parametrize(
    ("response", "status", "body"),
    [
        (EventResponse(True), 200, {"success": True, "message": "", "data": None}),
        (EventResponse(True, "done", {"a": 1}), 200, {"success": True, "message": "done", "data": {"a": 1}}),
        (
            EventResponse.failure(Code.MOD_AWAY, "away", mod="wiki"), 503,
            failure_body("mod_away", "away", {"mod": "wiki", "error": "mod_away"}),
        ),
        (EventResponse(False), 500, failure_body(None, "", {})),
        (EventResponse(False, "own", {"error": "own_code"}), 422, failure_body("own_code", "own", {"error": "own_code"})),
    ],
)  # fmt: skip
def test_a_response_of_the_network(response: EventResponse, status: int, body: dict[str, Any]) -> None:
    assert response_body(response) == body
    answer = response_answer(response)
    assert (answer.status_code, body_of(answer)) == (status, body)
    assert answer.headers["cache-control"] == "no-store"


def test_an_event_is_answered_with_200_and_its_names() -> None:
    event = Event("a.b", event_id="e1")
    for response in (EventResponse(True, "done"), EventResponse.failure(Code.TIMEOUT, "late")):
        answer = event_answer(event, response)
        assert answer.status_code == 200
        assert body_of(answer) == {**response_body(response), "event_id": "e1", "event_name": "a.b"}


def test_data_that_json_cannot_carry_is_a_failure_that_names_the_place() -> None:
    body = body_of(event_answer(Event("a.b", event_id="e1"), EventResponse(True, "done", {"a": [{1, 2}]})))
    assert (body["success"], body["error"], body["event_id"]) == (False, "unserializable", "e1")
    assert body["message"].startswith("the event was processed, but")
    assert "data.data.a[0]" in body["message"]


# -- applications


SPEC = Spec("answers", {})


async def fail_by_name(request: Request) -> Response:
    raise ModvisorError("no", code=Code.CONFLICT, more=1)


async def fail(request: Request) -> Response:
    raise ZeroDivisionError("a secret")


async def done(request: Request) -> Response:
    return Answer(b"{}")


@pytest.fixture
def asking() -> httpx.AsyncClient:
    app = json_app([get("/one", done, SPEC), post("/one", fail_by_name, SPEC), delete("/two", fail, SPEC)])
    return httpx.AsyncClient(transport=httpx.ASGITransport(app, raise_app_exceptions=False), base_url="http://x")


@pytest.mark.parametrize(
    ("method", "path", "status", "error"),
    [
        ("POST", "/one", 409, "conflict"),
        ("DELETE", "/two", 500, "internal_error"),
        ("GET", "/nowhere", 404, "not_found"),
        ("PUT", "/one", 405, "not_found"),
        ("GET", "/one/", 404, "not_found"),
    ],
)
async def test_every_error_is_json(asking: httpx.AsyncClient, method: str, path: str, status: int, error: str) -> None:
    async with asking:
        answer = await asking.request(method, path)
    assert (answer.status_code, answer.json()["error"]) == (status, error)
    assert "a secret" not in answer.text


async def test_an_unknown_route_names_the_known_ones_and_a_wrong_method_the_right_one(
    asking: httpx.AsyncClient,
) -> None:
    async with asking:
        unknown, wrong = await asking.get("/nowhere"), await asking.get("/two")
    assert unknown.json()["data"]["routes"] == ["GET /one", "POST /one", "DELETE /two"]
    assert wrong.headers["allow"] == "DELETE"


async def test_get_is_not_head(asking: httpx.AsyncClient) -> None:
    async with asking:
        assert (await asking.head("/one")).status_code == 405
        assert (await asking.get("/one")).status_code == 200
