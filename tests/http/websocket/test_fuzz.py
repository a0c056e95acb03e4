"""Messages that the schemas suggest, others that they do not, and frames of any kind: all are answered or refused."""

from __future__ import annotations

import json
import logging
import os
import random
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import msgpack
import psutil
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from websockets.exceptions import ConnectionClosed
from websockets.frames import Frame, Opcode

from modvisor.supervisor.http.websocket import closing, frames
from tests.conftest import until
from tests.http.fuzzing import ANYTHING, values
from tests.http.serving import TALKER, Served, intake_of, shared_network
from tests.http.websocket.talking import JSON, MSGPACK, Talk, sockets_of, talking

pytestmark = pytest.mark.anyio

MINUTES = float(os.environ.get("FUZZ_MINUTES", "0.1"))
DEFS = frames.document()["$defs"]
SAID = Draft202012Validator({"$defs": DEFS, "$ref": "#/$defs/FromNetwork"})
CODES = {value for name, value in vars(closing).items() if name.isupper() and isinstance(value, int)} | {1002}

MESSAGES = (
    st.sampled_from([DEFS[name] for name in ("Register", "Resume", "Send", "Ack", "Credit", "Ping", "Unregister")])
    .flatmap(values)
    .map(lambda message: {**message, "type": message["type"]})
    | st.dictionaries(st.sampled_from(["type", "id", "event", "agent_id", "cursor", "x"]), ANYTHING, max_size=4)
    | ANYTHING
)
Drawn = list[tuple[str, Any]]
SCRIPTS = st.lists(
    st.tuples(st.just("message"), MESSAGES)
    | st.tuples(st.just("bytes"), st.binary(max_size=200))
    | st.tuples(st.just("frame"), st.tuples(st.sampled_from(list(Opcode)), st.binary(max_size=125), st.booleans())),
    max_size=8,
)


@pytest.fixture(scope="module")
async def served(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Served]:
    folder: Path = tmp_path_factory.mktemp("fuzz")
    async with shared_network(folder, {"talker": TALKER}, agents={"max_agents": 50}) as served:
        yield served


async def play(served: Served, form: str, is_agent: bool, script: Drawn, caplog: pytest.LogCaptureFixture) -> None:
    """Say all of this on one connection; hear nothing but what the schemas promise, and an end that has a code."""
    async with talking(served, form) as talk:
        if is_agent:
            name = f"fuzz{random.randrange(10**9)}"
            await talk.register(name)
        for kind, what in script:
            await _say(talk, kind, what)
        code = await _heard_out(talk, is_whole=all(kind != "bytes" for kind, _ in script))
        is_echo = any(kind == "frame" and what[0] is Opcode.CLOSE for kind, what in script)
        assert code is None or code in CODES or is_echo
        talk.socket.transport.abort()
    await served.forget_agents()
    errors = [
        each for each in caplog.records if each.levelno >= logging.ERROR and each.name.startswith("modvisor.http")
    ]
    assert not errors, errors
    caplog.clear()


async def _heard_out(talk: Talk, *, is_whole: bool) -> int | None:
    """Hear all that the network says. Return the code of the end, None if it has none.

    Args:
        is_whole: what was said is made of frames; if not, the network may wait for the rest of one.
    """
    try:
        if is_whole:
            await talk.say("ping", id=frames.LARGEST_ID)
        else:
            talk.socket.transport.write_eof()
        while (heard := await talk.next()).get("id") != frames.LARGEST_ID:
            SAID.validate(heard)
    except ConnectionClosed as end:
        return None if end.rcvd is None else end.rcvd.code
    return None


async def _say(talk: Talk, kind: str, what: Any) -> None:
    if kind == "message":
        try:
            data = msgpack.packb(what) if talk.is_packed else json.dumps(what).encode()
        except (OverflowError, ValueError):  # what no client could send
            return
        opcode, fin = (Opcode.BINARY if talk.is_packed else Opcode.TEXT), True
    elif kind == "bytes":
        talk.socket.transport.write(what)
        return
    else:
        opcode, data, fin = what
    frame = Frame(opcode, data, fin)
    if opcode in (Opcode.CLOSE, Opcode.PING, Opcode.PONG):
        frame.fin = True
    talk.socket.transport.write(frame.serialize(mask=True))


@settings(max_examples=15, suppress_health_check=list(HealthCheck))
@given(form=st.sampled_from([JSON, MSGPACK]), is_agent=st.booleans(), script=SCRIPTS)
async def test_whatever_is_said_is_answered_or_refused(
    served: Served, form: str, is_agent: bool, script: Drawn, caplog: pytest.LogCaptureFixture
) -> None:
    await play(served, form, is_agent, script, caplog)


@pytest.mark.slow
@pytest.mark.timeout(3600)
async def test_a_flood_of_messages_of_any_kind_breaks_nothing(
    served: Served, caplog: pytest.LogCaptureFixture, tell: Callable[[str], None]
) -> None:
    """For so many minutes as FUZZ_MINUTES says; memory, and what is held of messages, stay where they were."""
    drawn: list[tuple[str, bool, Drawn]] = []
    count, before, ends = 0, 0, time.monotonic() + MINUTES * 60

    @settings(max_examples=100, suppress_health_check=list(HealthCheck), database=None)
    @given(form=st.sampled_from([JSON, MSGPACK]), is_agent=st.booleans(), script=SCRIPTS)
    def draw(form: str, is_agent: bool, script: Drawn) -> None:
        drawn.append((form, is_agent, script))

    while time.monotonic() < ends:
        drawn.clear()
        draw()
        for each in drawn:
            await play(served, *each, caplog)
            count += 1
        before = before or psutil.Process().memory_info().rss
    await until(lambda: not sockets_of(served))
    intake = intake_of(served)
    assert (intake._large, intake._small) == (0, 0)
    grown = psutil.Process().memory_info().rss - before
    tell(f"fuzz of the WebSocket: {count} connections, memory +{grown / 1e6:.1f} MB")
    assert grown < 60_000_000
