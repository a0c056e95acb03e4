"""The gate before the admin API on the TCP port: which requests are for it, who passes, what a refusal says."""

from __future__ import annotations

from dataclasses import dataclass, field
from ipaddress import ip_network

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Send
from starlette.types import Scope as Asked

from modvisor.supervisor.agents.rights.operators import OperatorTokens, Scope
from modvisor.supervisor.audit.actors import Actor, actor
from modvisor.supervisor.config.network.network import AdminConfig
from modvisor.supervisor.config.sections.http import HttpConfig
from modvisor.supervisor.http.access.gate import AdminGate, operator_of
from modvisor.supervisor.http.routes.answers import Answer, get, json_app
from modvisor.supervisor.http.routes.params import Spec

pytestmark = pytest.mark.anyio

RIGHT = {"Authorization": "Bearer sésame".encode()}


def answering(word: str) -> ASGIApp:
    async def app(scope: Asked, receive: Receive, send: Send) -> None:
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


# -- tokens with a name, a scope and an end


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Gate:
    """A gate before routes of each scope, with tokens, and what it told of logins and refusals."""

    tokens: OperatorTokens
    admin: AdminConfig = AdminConfig()  # noqa: RUF009
    http: HttpConfig = HttpConfig()  # noqa: RUF009
    token: str | None = None
    logins: list[Actor] = field(default_factory=list)
    refusals: list[tuple[str, str]] = field(default_factory=list)

    def made(self, name: str, scope: Scope, lasts: float | None = None) -> str:
        token, secret = self.tokens.make(name, scope, lasts, "test")
        self.tokens.enter(token)
        return secret

    def asking(self, client: str = "127.0.0.1", scheme: str = "http") -> httpx.AsyncClient:
        gate = AdminGate(
            answering("agents"), admin_routes(), self.token, lambda kind, who, text: self.refusals.append((kind, who)),
            tokens=lambda: self.tokens, config=lambda: self.admin, http=lambda: self.http, login=self.logins.append,
        )  # fmt: skip
        return httpx.AsyncClient(transport=httpx.ASGITransport(gate, client=(client, 5)), base_url=f"{scheme}://x")


def admin_routes() -> Starlette:
    async def tell(request: Request) -> Answer:
        operator = operator_of(request)
        assert operator is not None
        return Answer({"who": operator.who, "from": operator.address, "acts": actor().who})

    spec = Spec("tells who asks", {})
    routes = [get(f"/admin/v1/{scope.word}", tell, spec, scope) for scope in Scope]
    return json_app([*routes, get("/admin/v1/unnamed", tell, spec)])


def bearing(secret: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {secret}"}


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def gate(clock: Clock) -> Gate:
    return Gate(OperatorTokens(now=clock))


@pytest.mark.parametrize("scope", Scope)
async def test_a_token_opens_the_routes_of_its_scope_and_below(gate: Gate, scope: Scope) -> None:
    secret = gate.made("ci", scope)
    async with gate.asking() as client:
        for needed in Scope:
            answer = await client.get(f"/admin/v1/{needed.word}", headers=bearing(secret))
            assert answer.status_code == (200 if needed <= scope else 403)
        unnamed = await client.get("/admin/v1/unnamed", headers=bearing(secret))
        assert unnamed.status_code == (200 if scope is Scope.ADMIN else 403)
        assert (await client.get("/admin/v1/nothing", headers=bearing(secret))).status_code == 404
        if scope is Scope.READ:
            assert "operator:ci has a token with the scope 'read', and this needs 'admin'" in unnamed.text
            assert ("forbidden", "127.0.0.1") in gate.refusals


async def test_who_asks_is_named_to_the_routes_and_the_audit_and_a_login_is_told_once(gate: Gate) -> None:
    secret = gate.made("alice", Scope.READ)
    async with gate.asking() as client:
        for _ in range(3):
            answer = await client.get("/admin/v1/read", headers=bearing(secret))
            assert answer.json() == {"who": "operator:alice", "from": "127.0.0.1", "acts": "operator:alice"}
    assert gate.logins == [Actor("operator:alice", "127.0.0.1")]


async def test_an_expired_and_a_revoked_token_are_refused(gate: Gate, clock: Clock) -> None:
    secret, other = gate.made("short", Scope.ADMIN, 60.0), gate.made("other", Scope.ADMIN)
    async with gate.asking() as client:
        assert (await client.get("/admin/v1/admin", headers=bearing(secret))).status_code == 200
        clock.now += 60
        answer = await client.get("/admin/v1/admin", headers=bearing(secret))
        assert (answer.status_code, "'short' has expired" in answer.text) == (401, True)
        gate.tokens.revoke("other")
        answer = await client.get("/admin/v1/admin", headers=bearing(other))
        assert (answer.status_code, answer.json()["error"]) == (401, "unauthenticated")


async def test_without_any_token_there_is_no_admin_api_to_be_seen(gate: Gate) -> None:
    async with gate.asking() as client:
        assert (await client.get("/admin/v1/read")).json() == {"app": "agents"}
    gate.made("ci", Scope.READ)
    async with gate.asking() as client:
        assert (await client.get("/admin/v1/read")).status_code == 401


async def test_other_machines_may_come_over_tls_if_the_file_says_so(gate: Gate) -> None:
    secret = gate.made("ci", Scope.READ)
    async with gate.asking("192.0.2.7", "https") as client:
        assert (await client.get("/admin/v1/read", headers=bearing(secret))).status_code == 403
        gate.admin = AdminConfig(remote=True)
        assert (await client.get("/admin/v1/read", headers=bearing(secret))).json()["from"] == "192.0.2.7"
        assert (await client.get("/admin/v1/read")).status_code == 401
    async with gate.asking("192.0.2.7") as client:
        answer = await client.get("/admin/v1/read", headers=bearing(secret))
        assert (answer.status_code, "over TLS only" in answer.text) == (403, True)


@pytest.mark.parametrize(
    ("trusted", "proto", "status"), [(True, "https", 200), (True, "http", 403), (False, "https", 403)]
)
async def test_a_trusted_proxy_says_whether_tls_was_there_and_who_came(
    gate: Gate, trusted: bool, proto: str, status: int
) -> None:
    secret, gate.admin = gate.made("ci", Scope.READ), AdminConfig(remote=True)
    gate.http = HttpConfig(trusted_proxies=(ip_network("127.0.0.1"),) if trusted else ())
    headers = {**bearing(secret), "X-Forwarded-For": "198.51.100.9", "X-Forwarded-Proto": proto}
    async with gate.asking() as client:
        answer = await client.get("/admin/v1/read", headers=headers)
    assert answer.status_code == status
    if status == 200:
        assert answer.json()["from"] == "198.51.100.9"


async def test_guesses_from_elsewhere_make_that_address_wait_alone(gate: Gate) -> None:
    secret, gate.admin = gate.made("ci", Scope.READ), AdminConfig(remote=True)
    async with gate.asking("192.0.2.7", "https") as client:
        codes = [(await client.get("/admin/v1/read", headers=bearing(f"mvt_{n}"))).status_code for n in range(50)]
        assert codes[-1] == 429
        assert (await client.get("/admin/v1/read", headers=bearing(secret))).status_code == 429
    async with gate.asking("192.0.2.8", "https") as client:
        assert (await client.get("/admin/v1/read", headers=bearing(secret))).status_code == 200
