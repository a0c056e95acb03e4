"""What a failed step of a reload says, and the steps on incarnations of fake workers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from modvisor.ipc.errors import Code, ModvisorError, PipeBroken
from modvisor.supervisor.lifecycle.handover import (
    Reloaded,
    ReloadFailed,
    activate,
    failing_at,
    give,
    rest,
    size_of,
    state_of,
)
from modvisor.supervisor.lifecycle.incarnation import StartFailed
from tests.lifecycle.test_incarnation import Place


@pytest.fixture
async def place(tmp_path: Path) -> Any:
    (tmp_path / "state" / "logs").mkdir(parents=True)
    place = Place(tmp_path)
    yield place
    await place.launcher.close()


@pytest.mark.parametrize(
    ("error", "code", "says"),
    [
        (TimeoutError(), Code.TIMEOUT, "get_state took more than 3 s"),
        (PipeBroken("gone"), Code.MOD_CRASHED, "a worker ended during get_state (gone)"),
        (ModvisorError("no", code=Code.STATE_REFUSED), Code.STATE_REFUSED, "no"),
        (KeyError("state"), Code.PROTOCOL_ERROR, "get_state was not answered with a state"),
    ],
)
def test_a_failure_names_the_step_at_which_it_came(error: Exception, code: str, says: str) -> None:
    with pytest.raises(ReloadFailed) as caught, failing_at("get_state", 3.0):
        raise error
    assert (str(caught.value), caught.value.code, caught.value.details["step"]) == (says, code, "get_state")


@pytest.mark.parametrize(
    ("code", "step"),
    [(Code.NO_MOD_CLASS, "import"), (Code.INITIALIZE_FAILED, "initialize"), (Code.START_TIMEOUT, "start")],
)
def test_a_start_that_fails_is_a_step_by_its_code(code: str, step: str) -> None:
    failed = ReloadFailed.at_start(StartFailed("no", code=code, worker=1))
    assert (failed.code, failed.details) == (code, {"worker": 1, "step": step})


def test_what_responses_show_of_a_reload() -> None:
    done = Reloaded(1.5, 2, 30, "1.0", "1.1")
    assert done.to_dict() == {"pause_ms": 1.5, "queued": 2, "state_bytes": 30, "from": "1.0", "to": "1.1"}
    assert size_of(None) == 0
    assert size_of(({"a": 1}, "1.0")) == 4


@pytest.mark.anyio
async def test_a_state_comes_with_its_version(place: Place) -> None:
    old, new = await place.start(), await place.start()
    state = await state_of(old, 1.0)
    assert state == ({"of": old.pid}, "1.0")
    await give(new, state)
    await give(new, None)
    await activate(new)
    assert new.activating


@pytest.mark.anyio
async def test_a_mod_that_cannot_be_activated_again_does_not_rest(place: Place) -> None:
    assert not await rest(await place.start(), 1.0)


@pytest.mark.anyio
async def test_activate_that_fails_leaves_the_process_to_the_caller(place: Place) -> None:
    new = await place.start("activate fails")
    with pytest.raises(ReloadFailed) as caught:
        await activate(new)
    assert (caught.value.code, caught.value.details["step"]) == (Code.INITIALIZE_FAILED, "activate")
    assert place.launcher.living == [place.worker]
