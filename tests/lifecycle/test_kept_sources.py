"""The kept sources of one mod: kept when it serves, on trial until they are accepted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from modvisor.supervisor.lifecycle.kept_sources import KeptSources
from tests.lifecycle.test_incarnation import Place

pytestmark = pytest.mark.anyio


@pytest.fixture
async def place(tmp_path: Path) -> Any:
    (tmp_path / "state" / "logs").mkdir(parents=True)
    place = Place(tmp_path)
    yield place
    await place.launcher.close()


async def test_sources_are_kept_until_they_are_forgotten(place: Place) -> None:
    kept = KeptSources(place.recipe)
    assert await kept.keep(await place.start(), on_trial=False)
    assert kept.has_snapshot
    assert kept.files is not None
    assert await place.recipe.snapshots.read("work") is not None
    await kept.forget("work")
    assert await place.recipe.snapshots.read("work") is None


async def test_sources_on_trial_are_read_only_when_they_are_accepted(place: Place) -> None:
    kept = KeptSources(place.recipe)
    assert await kept.keep(await place.start(), on_trial=True)
    assert not kept.has_snapshot
    assert await place.recipe.snapshots.read("work") is None
    await kept.accept("work")
    assert kept.has_snapshot
    assert await place.recipe.snapshots.read("work") is not None


async def test_a_worker_that_does_not_report_them_leaves_the_working_files(place: Place) -> None:
    kept = KeptSources(place.recipe)
    kept.has_snapshot = True
    assert not await kept.keep(await place.start("no snapshot"), on_trial=False)
    assert (kept.has_snapshot, kept.files) == (False, None)


async def test_a_revert_while_sources_are_kept_on_trial_keeps_its_way_back(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = KeptSources(place.recipe)
    incarnation = await place.start()
    write = place.recipe.snapshots.write

    async def reverted_meanwhile(*args: Any, **how: Any) -> Any:
        kept.has_snapshot = True  # as a revert sets it, for the previous version
        return await write(*args, **how)

    monkeypatch.setattr(place.recipe.snapshots, "write", reverted_meanwhile)
    assert await kept.keep(incarnation, on_trial=True)
    assert kept.has_snapshot
