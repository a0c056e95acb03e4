"""Sessions and links of the dashboard: what ends them, how many there are, and that their secrets are not kept."""

from __future__ import annotations

import pytest

from modvisor.supervisor.agents.rights.operators import OperatorToken, OperatorTokens, Scope
from modvisor.supervisor.config.sections.dashboard import DashboardConfig
from modvisor.supervisor.http.access.sessions import Grant, Sessions

ALICE = Grant("operator:alice", Scope.READ, payloads=False)


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def made(clock: Clock, tokens: OperatorTokens | None = None, **keys: float) -> Sessions:
    config = DashboardConfig(**keys)  # type: ignore[arg-type]
    return Sessions(lambda: config, (tokens or OperatorTokens()).is_valid, clock)


def token_in(tokens: OperatorTokens) -> OperatorToken:
    token, _ = tokens.make("alice", Scope.READ, None, "test")
    tokens.enter(token)
    return token


def test_a_session_is_found_by_its_secret_alone(clock: Clock) -> None:
    sessions = made(clock)
    secret, session = sessions.open(ALICE)
    assert sessions.find(secret) is session
    assert sessions.find(secret + "x") is None
    assert sessions.find("") is None
    assert session.csrf != secret
    assert secret not in repr(vars(sessions))


def test_a_session_ends_after_a_time_without_requests_and_each_request_puts_that_off(clock: Clock) -> None:
    sessions = made(clock, session=60.0)
    secret, session = sessions.open(ALICE)
    for _ in range(3):
        clock.now += 50
        assert sessions.find(secret) is session
    assert sessions.lasts(session) == 60
    clock.now += 60
    assert sessions.find(secret) is None
    assert not sessions


def test_a_session_ends_with_its_token(clock: Clock) -> None:
    tokens = OperatorTokens()
    token = token_in(tokens)
    sessions = made(clock, tokens)
    secret, session = sessions.open(Grant("operator:alice", Scope.READ, False, token))
    assert sessions.is_open(session)
    tokens.revoke("alice")
    assert not sessions.is_open(session)
    assert sessions.find(secret) is None


def test_whoever_logs_out_is_out_also_for_a_stream_that_is_open(clock: Clock) -> None:
    sessions = made(clock)
    secret, session = sessions.open(ALICE)
    sessions.close(secret)
    assert sessions.find(secret) is None
    assert not sessions.is_open(session)


def test_one_login_too_many_logs_out_whoever_was_away_for_the_longest_time(clock: Clock) -> None:
    sessions = made(clock, sessions=2)
    first, _ = sessions.open(ALICE)
    second, gone = sessions.open(ALICE)
    sessions.find(first)
    third, _ = sessions.open(ALICE)
    assert [sessions.find(each) is not None for each in (first, second, third)] == [True, False, True]
    assert not sessions.is_open(gone)


def test_a_link_is_used_once_and_in_time(clock: Clock) -> None:
    sessions = made(clock, link_age=60.0)
    code, late = sessions.make_link(ALICE), sessions.make_link(ALICE)
    assert sessions
    assert sessions.redeem(code) == ALICE
    assert sessions.redeem(code) is None
    clock.now += 60
    assert sessions.redeem(late) is None
    assert not sessions


def test_a_link_ends_with_the_token_of_its_maker_and_only_so_many_wait(clock: Clock) -> None:
    tokens = OperatorTokens()
    sessions = made(clock, tokens, sessions=2)
    codes = [sessions.make_link(ALICE) for _ in range(2)]
    codes.append(sessions.make_link(Grant("link", Scope.ADMIN, True, token_in(tokens))))
    tokens.revoke("alice")
    assert [sessions.redeem(code) is not None for code in codes] == [False, True, False]
