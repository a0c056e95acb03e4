from __future__ import annotations

import asyncio
import math
from datetime import UTC, datetime
from typing import Any

import pytest

from modvisor.ipc.event import EventResponse
from modvisor.ipc.messages import pack
from modvisor.supervisor.events.answers import Answers

pytestmark = pytest.mark.anyio


async def answer(window: Answers, key: str, data: Any = "", *, remember: bool = True) -> None:
    assert window.begins(("a", key))
    window.finish(("a", key), EventResponse(True, data=[key, data]), remember=remember)


async def test_the_oldest_are_forgotten_first_by_number_and_by_bytes() -> None:
    window = Answers(max_entries=3, max_bytes=10_000)
    for key in "abcd":
        await answer(window, key)
    assert await window.repeated(("a", "a"), math.inf) is None
    assert (await window.repeated(("a", "b"), math.inf)).data == ["b", ""]
    await answer(window, "big", "." * 9_500)
    assert len(window) == 1
    assert await window.repeated(("a", "d"), math.inf) is None
    await answer(window, "too big", "." * 10_000)
    assert await window.repeated(("a", "too big"), math.inf) is None
    assert len(window) == 1, "nothing was forgotten for what could not be remembered"


async def test_an_answer_in_place_of_another_counts_once() -> None:
    window = Answers(max_bytes=10_000)
    await answer(window, "x", "former")
    for _ in range(100):
        window.finish(("a", "y"), EventResponse(True, data=["y", "." * 1_000]), remember=True)
    assert (await window.repeated(("a", "x"), math.inf)).data == ["x", "former"]


async def test_a_remembered_answer_is_whole() -> None:
    window = Answers()
    first = EventResponse(False, "why", {"error": "x", "at": datetime(2026, 1, 2, tzinfo=UTC), "raw": b"1"}, "a.b")
    window.finish(("a", "x"), first, remember=True)
    assert await window.repeated(("a", "x"), math.inf) == first


async def test_an_answer_is_remembered_by_the_frame_that_it_came_in() -> None:
    window = Answers()
    first = EventResponse(False, "why", {"error": "x"})
    window.finish(("a", "x"), first, remember=pack([1, 7, None, {"response": first.to_dict()}]))
    assert await window.repeated(("a", "x"), math.inf) == first


@pytest.mark.parametrize("data", ["failed", object()])
async def test_what_must_not_or_cannot_be_remembered_is_not(data: object) -> None:
    window = Answers()
    await answer(window, "x", data, remember=data != "failed")
    assert await window.repeated(("a", "x"), math.inf) is None


async def test_a_remembered_answer_is_a_copy() -> None:
    window = Answers()
    await answer(window, "x")
    (await window.repeated(("a", "x"), math.inf)).data.append("changed")
    assert (await window.repeated(("a", "x"), math.inf)).data == ["x", ""]


async def test_a_repeat_in_flight_waits_for_the_first_even_if_its_sender_gives_up() -> None:
    window = Answers()
    assert window.begins(("a", "x"))
    joined = [asyncio.create_task(window.repeated(("a", "x"), math.inf)) for _ in range(2)]
    await asyncio.sleep(0)
    joined[0].cancel()
    await asyncio.wait([joined[0]])
    window.finish(("a", "x"), None)
    assert await joined[1] is None, "it is handled now, as the first"


async def test_a_repeat_waits_no_longer_than_its_own_deadline() -> None:
    window = Answers()
    assert window.begins(("a", "x"))
    response = await window.repeated(("a", "x"), asyncio.get_running_loop().time())
    assert response is not None
    assert response.error == "timeout"


async def test_everybody_gets_a_copy() -> None:
    window = Answers()
    assert window.begins(("a", "x"))
    joined = asyncio.create_task(window.repeated(("a", "x"), math.inf))
    await asyncio.sleep(0)
    first = EventResponse(True, data=["x"])
    window.finish(("a", "x"), first, remember=True)
    assert (await joined).data == ["x"]
    first.data.append("changed by the first")
    assert (await window.repeated(("a", "x"), math.inf)).data == ["x"]


async def test_large_bytes_are_remembered_whole_and_weighed_without_a_copy() -> None:
    window = Answers(max_bytes=1_000_000)
    blob = bytes(400_000)
    first = EventResponse(True, data={"blob": blob, "more": ["x"]})
    for key in "abc":
        window.finish(("a", key), EventResponse(True, data={"blob": blob, "more": ["x"]}), remember=True)
    assert len(window) == 2, "three do not fit"
    again = await window.repeated(("a", "c"), math.inf)
    assert again == first
    assert again is not None
    assert again.data["blob"] is blob
    again.data["more"].append("changed")
    assert await window.repeated(("a", "c"), math.inf) == first
    window.finish(("a", "d"), EventResponse(True, data={"blob": bytes(2_000_000)}), remember=True)
    window.finish(("a", "e"), EventResponse(True, data={"blob": blob, "odd": object()}), remember=True)
    assert len(window) == 2
