"""What is logged of the starts of mods that are placed."""

from __future__ import annotations

import logging

import pytest

from modvisor.supervisor.cluster.mods.start_log import StartLog
from modvisor.supervisor.lifecycle import State


def test_a_mod_that_the_servers_hold_up_is_told_of_once(caplog: pytest.LogCaptureFixture) -> None:
    log = StartLog()
    with caplog.at_level(logging.INFO, "modvisor.cluster"):
        for _ in range(3):
            log.failed("wiki", "the servers do not answer")
            log.tried(["wiki", "shop"], {"wiki"})
        assert [record.getMessage() for record in caplog.records] == [
            "mod wiki did not start: the servers do not answer"
        ]
        log.failed("shop", "it has a mistake")
        log.tried(["wiki"], set())  # it has started
        log.failed("wiki", "the servers do not answer")
    assert [record.levelname for record in caplog.records] == ["ERROR"] * 3


def test_a_takeover_is_told_step_by_step(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "modvisor.cluster"):
        StartLog().taken_over("wiki", "a", State.READY, 10.0, (10.5, 10.75, 11.75))
    (record,) = caplog.records
    assert record.getMessage() == (
        "mod wiki was taken over from node a, ready 1.75 s after its session had ended "
        "(waited 0.50, claimed after 0.25, started in 1.00)"
    )
